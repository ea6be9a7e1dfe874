import pytest
import torch
from torch import nn

from automl.fast.precision import formatted
from automl.fit.recalibration import recalibrate

X = torch.randn(30, 2, 6, 6, generator=torch.Generator().manual_seed(0)) * 2 + 1


def network():
    return nn.Sequential(
        nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Dropout(0.9), nn.Conv2d(4, 5, 1), nn.BatchNorm2d(5)
    ).eval()


def batches(*sizes):
    return [((part,), torch.zeros(len(part))) for part in X.split(sizes)]


def test_statistics_are_those_of_the_activations_themselves():
    net = network()
    recalibrate(net, batches(30))
    y = net[0](X)
    torch.testing.assert_close(net[1].running_mean, y.mean((0, 2, 3)))
    torch.testing.assert_close(net[1].running_var, y.var((0, 2, 3)))
    # The second norm sees what the first one normalised by the statistics of the batch; no dropout in between.
    z = net[4](torch.relu((y - y.mean((0, 2, 3), True)) / (y.var((0, 2, 3), correction=0, keepdim=True) + 1e-5).sqrt()))
    torch.testing.assert_close(net[5].running_mean, z.mean((0, 2, 3)))
    torch.testing.assert_close(net[5].running_var, z.var((0, 2, 3)))


def test_batches_count_by_their_size():
    net = network()
    recalibrate(net, batches(17, 8, 4, 1))  # a lone sample is passed over
    parts = [net[0](part) for part in X[:29].split([17, 8, 4])]
    expected = sum(len(part) * part.var((0, 2, 3)) for part in parts) / 29
    torch.testing.assert_close(net[1].running_var, expected)


def test_nothing_but_the_statistics_changes():
    net = network()
    before = {name: tensor.clone() for name, tensor in net.state_dict().items() if "running" not in name}
    recalibrate(net, batches(30))
    assert not any(module.training for module in net.modules())
    assert all(torch.equal(net.state_dict()[name], tensor) for name, tensor in before.items())
    assert net[1].momentum == 0.1


def test_in_bfloat16_statistics_stay_float32():
    exact, rough = network(), network()
    rough.load_state_dict(exact.state_dict())
    recalibrate(exact, batches(30))
    recalibrate(rough, formatted(batches(30), torch.bfloat16), torch.bfloat16)
    for a, b in ((exact[1], rough[1]), (exact[5], rough[5])):
        assert b.running_var.dtype == torch.float32
        torch.testing.assert_close(a.running_var, b.running_var, rtol=0.02, atol=0)
    assert rough[0].weight.dtype == torch.float32


@pytest.mark.parametrize("net", [nn.Conv2d(2, 2, 1), nn.BatchNorm2d(2, track_running_stats=False)])
def test_networks_without_statistics_are_left_alone(net):
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    recalibrate(net, batches(30))
    assert all(torch.equal(net.state_dict()[name], tensor) for name, tensor in before.items())

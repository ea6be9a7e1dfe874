"""Recording a network: what any forward may do, and one clear error where it cannot be recorded."""

import copy
import pickle

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from search_spaces import TraceError, trace


class Forward(nn.Module):
    """A network with a convolution and whatever forward the test gives."""

    def __init__(self, forward):
        super().__init__()
        self.conv = nn.Conv2d(3, 6, 3, padding=1)
        self.bn = nn.BatchNorm2d(6)
        self.drop = nn.Dropout(0.5)
        self.linear = nn.Linear(6, 2)
        self._forward = forward

    def forward(self, *inputs):
        return self._forward(self, *inputs)


def branches_on_shape(self, x):
    x = self.conv(x)
    if x.shape[-1] % 2 == 0:
        x = F.avg_pool2d(x, x.shape[-1])
    b, c = x.shape[:2]
    return self.linear(x.view(b, c))


def in_place(self, x):
    x = self.conv(x)
    y = x.relu_()
    y += 1
    y[:, 0] = 0
    return self.linear(y.mean(dim=(2, 3)))


def with_numbers_from_sizes(self, x):
    x = self.conv(x)
    b, c, h, w = x.size()
    x = x.reshape(b * c, 1, h, w).repeat(1, 2, 1, 1).sum(1).view(b, c, h * w)
    return self.linear(x.mean(-1) * (c**-0.5))


def nested_outputs(self, x):
    x = self.conv(x)
    low, high = x.chunk(2, dim=1)
    return {"pair": (low, high), "logits": self.linear(x.amax((2, 3)))}


def with_untracked_constant(self, x):
    return self.linear((self.conv(x) * self.drop.scale).mean((2, 3)))


FORWARDS = [branches_on_shape, in_place, with_numbers_from_sizes, nested_outputs, with_untracked_constant]


@pytest.mark.parametrize("forward", FORWARDS, ids=lambda f: f.__name__)
def test_computes_the_same_for_any_batch(forward):
    torch.manual_seed(0)
    model = Forward(forward).eval()
    model.drop.scale = torch.rand(1, 6, 1, 1)
    network = trace(model, (torch.randn(2, 3, 8, 8),))
    for batch in (1, 5):
        x = torch.randn(batch, 3, 8, 8)
        torch.testing.assert_close(network(x), model(x))


def test_keeps_names_training_behaviour_and_the_model_itself():
    model = Forward(lambda self, x: self.linear(self.drop(self.bn(self.conv(x)).mean((2, 3)))))
    model.train()
    before = copy.deepcopy(model.state_dict())
    network = trace(model, (torch.randn(2, 3, 8, 8),))
    assert model.training and model.drop.training
    assert all((before[name] == value).all() for name, value in model.state_dict().items())
    assert network.state_dict().keys() == model.state_dict().keys()
    network.train()
    mean = network.bn.running_mean.clone()
    network(torch.randn(8, 3, 8, 8))
    assert not torch.equal(network.bn.running_mean, mean)
    assert not torch.equal(model.bn.running_mean, network.bn.running_mean)


def test_several_inputs():
    model = Forward(lambda self, x, y: self.linear((self.conv(x) + y).mean((2, 3)))).eval()
    network = trace(model, (torch.randn(2, 3, 8, 8), torch.randn(2, 6, 8, 8)))
    x, y = torch.randn(3, 3, 8, 8), torch.randn(3, 6, 8, 8)
    torch.testing.assert_close(network(x, y), model(x, y))


def test_survives_pickling_and_copying():
    model = Forward(branches_on_shape).eval()
    x = torch.randn(2, 3, 8, 8)
    network = trace(model, (x,))
    for other in (pickle.loads(pickle.dumps(network)), copy.deepcopy(network)):
        torch.testing.assert_close(other(x), network(x))


def test_a_forward_that_fails_on_the_example_is_named():
    with pytest.raises(TraceError, match=r"fails on the example input of shape \(2, 4, 8, 8\)"):
        trace(Forward(branches_on_shape), (torch.randn(2, 4, 8, 8),))


def test_a_forward_that_branches_on_values_is_refused():
    def on_values(self, x):
        x = self.conv(x)
        return self.linear(x.mean((2, 3))) if x.sum() > 0 else self.linear(x.amax((2, 3)))

    torch.manual_seed(0)
    model = Forward(on_values).eval()
    with torch.no_grad():
        model.conv.weight.zero_()
        model.conv.weight[:, :, 1, 1] = 1.0
        model.conv.bias.fill_(-0.1)
    x = torch.full((2, 3, 8, 8), 0.035)  # the sum changes its sign when the data is scaled by 0.9
    x[..., ::2] += 0.01
    x[..., 1::2] -= 0.01
    with pytest.raises(TraceError, match="branches on values"):
        trace(model, (x,))


def test_a_network_that_returns_no_tensor_is_refused():
    with pytest.raises(TraceError, match="returns tensors, got str"):
        trace(Forward(lambda self, x: "no"), (torch.randn(2, 3, 8, 8),))

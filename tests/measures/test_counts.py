import pytest
import torch
from torch import nn
from torch.nn import functional as F

from automl.measures import count_macs, count_params, size_bytes


class Attention(nn.Module):
    def forward(self, x):
        return F.scaled_dot_product_attention(x, x, x)


class Vector(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(16))

    def forward(self, x):
        return torch.mv(x, self.weight)


@pytest.mark.parametrize(
    ("network", "shape", "macs"),
    [
        (nn.Conv2d(3, 8, 3, stride=2, padding=1), (2, 3, 9, 9), 8 * 3 * 9 * 5 * 5),
        (nn.Conv2d(8, 8, 3, groups=8, bias=False), (2, 8, 5, 5), 8 * 9 * 3 * 3),
        (nn.ConvTranspose2d(3, 4, 3), (2, 3, 5, 5), 3 * 4 * 9 * 25),
        (nn.Linear(16, 5), (4, 7, 16), 7 * 16 * 5),
        (Attention(), (2, 4, 8, 16), 4 * 2 * 8 * 8 * 16),
        (Vector(), (4, 16), 16),
        (nn.LSTM(16, 32, batch_first=True), (2, 8, 16), 8 * 4 * 32 * (16 + 32)),
        (
            nn.TransformerEncoderLayer(16, 2, 32, batch_first=True),
            (2, 8, 16),
            8 * 16 * 48 + 2 * 8 * 8 * 16 + 8 * 16 * 16 + 2 * 8 * 16 * 32,
        ),
        (nn.Sequential(nn.BatchNorm2d(3), nn.ReLU(), nn.AvgPool2d(2)), (2, 3, 8, 8), 0),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, nn.Module) else "",
)
def test_macs_are_counted_per_sample(network, shape, macs):
    assert count_macs(network, (torch.randn(shape),)) == macs


def test_counting_leaves_the_network_in_its_mode():
    network = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Dropout())
    network[2].eval()
    before = network[1].running_mean.clone()
    count_macs(network, (torch.randn(8, 4),))
    assert [module.training for module in network] == [True, True, False]
    assert torch.equal(network[1].running_mean, before)


def test_shared_tensors_count_once(tmp_path):
    from safetensors.torch import save_file

    layer = nn.Linear(10, 10)
    single, shared = nn.Sequential(layer), nn.Sequential(layer, layer)
    assert count_params(shared) == count_params(single) == 110
    assert size_bytes(shared) == size_bytes(single)
    save_file(single.state_dict(), tmp_path / "single.safetensors")
    assert size_bytes(single) == (tmp_path / "single.safetensors").stat().st_size

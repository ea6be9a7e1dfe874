import gc

import pytest
import torch
from torch import fx, nn

from automl.measures import peak_activation_bytes


class Residual(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 1)

    def forward(self, x):
        x = torch.relu(x)
        return self.conv(x) + x


X = torch.randn(2, 3, 8, 8)
IMAGE = 2 * 3 * 8 * 8 * 4  # bytes


@pytest.mark.parametrize(
    ("network", "peak"),
    [
        # The input stays; the widest pair of tensors is that of the 8-channel convolution and its ReLU.
        (nn.Sequential(nn.Conv2d(3, 8, 1), nn.ReLU(), nn.Conv2d(8, 4, 1)), IMAGE + 2 * IMAGE * 8 // 3),
        # In place, the ReLU needs nothing; the next convolution's 4 channels come on top of the 8.
        (nn.Sequential(nn.Conv2d(3, 8, 1), nn.ReLU(inplace=True), nn.Conv2d(8, 4, 1)), IMAGE + IMAGE * 12 // 3),
        (nn.Sequential(nn.Flatten(), nn.Linear(192, 10)), IMAGE + 2 * 10 * 4),
        # Input, shortcut, convolution and sum are alive at once.
        (Residual(), 4 * IMAGE),
    ],
    ids=["chain", "in place", "views are free", "residual"],
)
def test_peak_of_networks_computed_by_hand(network, peak):
    assert peak_activation_bytes(network, (X,)) == peak
    assert peak_activation_bytes(fx.symbolic_trace(network), (X,)) == peak
    assert peak_activation_bytes(network, (torch.randn(4, 3, 8, 8),)) == 2 * peak


def test_nothing_is_left_behind():
    network = Residual()
    peak_activation_bytes(network, (X,))
    gc.collect()
    parameter = network.conv.weight.untyped_storage()
    assert peak_activation_bytes(network, (X,)) == 4 * IMAGE
    assert parameter.nbytes() == 3 * 3 * 4

"""Folded, fused and half-precision networks compute what the network computes."""

import pickle

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from automl.fast.fold import folded
from automl.fast.fuse import FusedConv, available, fuse
from automl.fast.precision import choose_dtype, fast, formatted, native_bfloat16
from automl.tasks.problem import Problem
from search_spaces import channel_space

X = torch.randn(6, 3, 12, 12, generator=torch.Generator().manual_seed(0))


class Joints(nn.Module):
    """Two convolutions, whose results meet as `join` says."""

    def __init__(self, join, **conv):
        super().__init__()
        self.first = nn.Conv2d(3, 8, 3, padding=1, bias=False)
        self.first_norm = nn.BatchNorm2d(8)
        self.second = nn.Conv2d(8, 8, 3, **{"padding": 1, **conv})
        self.second_norm = nn.BatchNorm2d(8)
        self.head = nn.Conv2d(8, 4, 1)
        self.join = join

    def a(self, x):
        return self.first_norm(self.first(x))

    def b(self, x):
        return self.second_norm(self.second(x))

    def forward(self, x):
        return self.head(self.join(self, x))


def in_place_on_shortcut(net, x):
    x = net.a(x)
    y = net.b(x)
    x += y
    return F.relu(x, inplace=True) * x


def in_place_before_addition(net, x):
    x = net.a(x)
    y = net.b(x)
    x.mul_(2)
    return F.relu(y + x)


def in_place_on_a_view(net, x):
    x = net.a(x)
    part = x[:, :]
    part += net.b(x)
    return x


def in_place_behind_a_view(net, x):
    x = net.a(x)
    part = x[:, :4]
    y = net.b(x)
    part.mul_(2)
    return y + x


JOINS = {
    "relu": lambda net, x: torch.relu(net.b(torch.relu(net.a(x)))),
    "relu method": lambda net, x: net.b(net.a(x).relu_()).relu(),
    "relu6": lambda net, x: F.relu6(net.b(F.relu6(net.a(x)))),
    "relu6 layer": lambda net, x: nn.ReLU6(inplace=True)(net.b(x=net.a(x))),
    "hardtanh": lambda net, x: F.hardtanh(net.b(net.a(x)), -0.5, max_val=0.25),
    "silu": lambda net, x: F.silu(net.b(F.silu(net.a(x)))),
    "residual": lambda net, x: F.relu(net.b(y := F.relu(net.a(x))) + y),
    "residual, shortcut first": lambda net, x: (y := F.relu(net.a(x))) + net.b(y),
    "residual of two": lambda net, x: F.relu(torch.add(net.b(F.relu(y := net.a(x))), y)),
    "same twice": lambda net, x: (y := net.b(net.a(x))) + y,
    "scaled": lambda net, x: torch.add(y := net.a(x), net.b(y), alpha=0.5),
    "broadcast": lambda net, x: net.b(y := net.a(x)) + y.mean((2, 3), keepdim=True),
    "number": lambda net, x: F.relu(net.b(net.a(x)) + 1.5),
    "used twice": lambda net, x: F.relu(y := net.b(net.a(x))) + y,
    "shared": lambda net, x: F.relu(net.b(F.relu(net.b(net.a(x))))),
    "in place on shortcut": in_place_on_shortcut,
    "in place before addition": in_place_before_addition,
    "in place on a view": in_place_on_a_view,
    "in place behind a view": in_place_behind_a_view,
}


def prepared(network):
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):
                for tensor in (module.weight, module.running_var):
                    tensor.uniform_(0.5, 1.5)
                for tensor in (module.bias, module.running_mean):
                    tensor.uniform_(-0.5, 0.5)
    return channel_space(network.eval(), (X[:2],)).original


@pytest.mark.parametrize("name", JOINS)
@torch.inference_mode()
def test_fast_network_computes_the_same(name):
    network = prepared(Joints(JOINS[name]))
    expected = network(X)
    torch.testing.assert_close(folded(network)(X), expected, rtol=1e-5, atol=1e-5)
    (batch,) = formatted([((X,), torch.zeros(6))], torch.float32)
    torch.testing.assert_close(fast(network, torch.float32)(*batch[0]), expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(network(X), expected, rtol=0, atol=0)  # untouched


@pytest.mark.parametrize(
    "conv",
    [
        {"groups": 8},
        {"groups": 2, "dilation": 2, "padding": 2},
        {"padding": "same"},
        {"padding_mode": "circular"},
        {"bias": False},
    ],
    ids=str,
)
@torch.inference_mode()
def test_any_geometry(conv):
    network = prepared(Joints(JOINS["residual"], **conv))
    (batch,) = formatted([((X,), torch.zeros(6))], torch.float32)
    torch.testing.assert_close(fast(network, torch.float32)(*batch[0]), network(X), rtol=1e-4, atol=1e-5)


def test_norms_and_steps_are_gone():
    network = folded(prepared(Joints(JOINS["residual"])))
    assert not any(isinstance(module, nn.BatchNorm2d) for module in network.modules())
    if available(torch.float32):
        fuse(network, torch.float32)
        assert isinstance(network.get_submodule("second"), FusedConv)
        assert [node.op for node in network.graph.nodes] == ["placeholder", *["call_module"] * 3, "output"]


@torch.inference_mode()
def test_norms_that_cannot_be_folded_stay_float32_in_half_precision():
    network = prepared(nn.Sequential(nn.BatchNorm2d(3), nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 4, 1)))
    (batch,) = formatted([((X,), torch.zeros(6))], torch.bfloat16)
    half = fast(network, torch.bfloat16)
    assert half.get_submodule("0").running_var.dtype == torch.float32
    assert half.get_submodule("1").weight.dtype == torch.bfloat16
    torch.testing.assert_close(half(*batch[0]).float(), network(X), rtol=0.05, atol=0.05)


def test_plain_modules_are_merely_copied():
    network = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))
    copied = fast(network, torch.float32)
    assert copied is not network and network.training and not copied.training


class Scores(nn.Module):
    """Class scores that differ by little on top of a common `level`."""

    def __init__(self, level):
        super().__init__()
        self.conv = nn.Conv2d(1, 1, 1)
        self.level = level

    def forward(self, x):
        return self.level + self.conv(x).flatten(1)


class OwnDtype(Scores):
    def forward(self, x):
        return super().forward(x.float())


@pytest.mark.skipif(not native_bfloat16(), reason="the processor has no bfloat16")
def test_bfloat16_only_where_predictions_and_loss_are_unharmed():
    def choice(network):
        x = torch.stack([torch.randperm(10) for _ in range(50)]).float().view(50, 1, 1, 10)
        problem = Problem(network, *[[((x,), torch.arange(50) % 10)]] * 2)
        return choose_dtype(problem.model, problem)

    assert choice(Scores(0.0)) == torch.bfloat16
    assert choice(Scores(1000.0)) == torch.float32  # many scores round to the same
    assert choice(OwnDtype(0.0)) == torch.float32  # its forward does not run in bfloat16


def test_a_network_that_was_pickled_and_has_lost_its_shapes_computes_the_same():
    network = channel_space(Joints(lambda net, x: F.relu(net.b(net.a(x)))).eval(), (X,)).original
    there = pickle.loads(pickle.dumps(network))
    assert not any("shape" in node.meta for node in there.graph.nodes)
    with torch.no_grad():
        torch.testing.assert_close(fast(there, torch.float32)(X), network(X), rtol=1e-4, atol=1e-5)

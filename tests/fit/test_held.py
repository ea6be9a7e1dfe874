"""Weights that are tuned go on being what an operator made of them."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from automl.fit.held import on_grid, zeros_kept
from search_spaces.codecs.integers import integers_of
from search_spaces.codecs.number_formats import ALL_FORMATS
from search_spaces.operators.code import SCALE, plain_quantize


def rounded(form: str, *, zeros: bool = False) -> nn.Sequential:
    """A convolution and a linear layer with weights of a format."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 16, 4))
    for name in ("0", "3"):
        layer = network.get_submodule(name)
        with torch.no_grad():
            if zeros:
                layer.weight.mul_(torch.rand_like(layer.weight) > 0.4)
            weight, scale, _ = plain_quantize(name, layer, ALL_FORMATS[form], zeros)
            layer.weight.copy_(weight)
        layer.register_buffer(SCALE, scale)
    return network


def another() -> nn.Module:
    """One that is a little different."""
    target = rounded("int8")
    with torch.no_grad():
        for parameter in target.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))
    return target


def tuned(network: nn.Module, target: nn.Module, steps: int = 60) -> None:
    optimizer = torch.optim.Adam(network.parameters(), 1e-2)
    x = torch.randn(64, 3, 6, 6, generator=torch.Generator().manual_seed(1))
    for _ in range(steps):
        (network(x) - target(x).detach()).square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()


@pytest.mark.parametrize("form", ["binary", "ternary", "int2", "int4", "int8", "coded1.5"])
@pytest.mark.parametrize("zeros", [False, True])
def test_integers_stay_integers_of_their_format_and_come_closer(form, zeros):
    network, target = rounded(form, zeros=zeros), another()
    before = copy.deepcopy(network)
    formats = {"0": ALL_FORMATS[form], "3": ALL_FORMATS[form]}
    x = torch.randn(64, 3, 6, 6, generator=torch.Generator().manual_seed(1))
    with on_grid(network, formats, pruned=zeros):
        torch.testing.assert_close(network(x), before(x))
        tuned(network, target)
        held = network(x)
    assert [name for name, _ in network.named_parameters()] == [name for name, _ in before.named_parameters()]
    torch.testing.assert_close(network(x), held)
    for name in ("0", "3"):
        weight, was = network.get_submodule(name).weight, before.get_submodule(name).weight
        integers = integers_of(weight.detach(), network.get_buffer(f"{name}.{SCALE}"))
        assert integers is not None, "bit for bit integers times the scale"
        assert set(integers.unique().tolist()) <= {*ALL_FORMATS[form].grid, *([0] if zeros else [])}
        assert not torch.equal(weight, was)
        if zeros:
            assert (weight[was == 0] == 0).all()
        if ALL_FORMATS[form].coded:  # another integer could take more bits
            assert torch.equal(integers, integers_of(was.detach(), before.get_buffer(f"{name}.{SCALE}")))

    with torch.no_grad():
        assert (network(x) - target(x)).square().mean() < (before(x) - target(x)).square().mean()


def test_zeros_stay_zeros():
    network, target = rounded("int8", zeros=True), another()
    before = copy.deepcopy(network)
    with zeros_kept(network, ["0.weight", "3.weight"]):
        tuned(network, target)
    for name in ("0.weight", "3.weight"):
        now, was = network.get_parameter(name), before.get_parameter(name)
        assert (now[was == 0] == 0).all() and (now[was != 0] != was[was != 0]).any()
    (network(torch.randn(2, 3, 6, 6)) ** 2).mean().backward()
    assert (network.get_parameter("0.weight").grad[before.get_parameter("0.weight") == 0] != 0).any(), "no longer held"

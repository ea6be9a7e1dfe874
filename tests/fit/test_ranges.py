"""The ranges of quantized inputs: found on data, exact zeros, clipped where that is nearer, the same in bfloat16."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from automl.fast.precision import fast
from automl.fit.ranges import best_range, set_ranges
from search_spaces import NetworkSpace
from search_spaces.graph.inputs import QuantizedInput, quantized_inputs


def rounded(x, scale, zero):
    module = QuantizedInput()
    module.range.copy_(torch.tensor([scale, float(zero)]))
    return module(x)


def error(x, scale, zero):
    return float((rounded(x, scale, zero) - x).square().mean())


@given(st.integers(0, 2**20), st.floats(1e-6, 1e6), st.floats(-3, 3), st.booleans())
@settings(max_examples=60, deadline=None)
def test_the_range_is_no_worse_than_the_whole_one_and_holds_zero(seed, spread, mean, positive):
    x = spread * (torch.randn(2000, generator=torch.Generator().manual_seed(seed)) + mean)
    x = x.relu() if positive else x
    scale, zero = best_range(x)
    assert 0 <= zero <= 255 and scale == float(torch.tensor(scale).bfloat16())
    assert not rounded(torch.zeros(3), scale, zero).any()
    low, high = min(float(x.min()), 0.0), max(float(x.max()), 0.0)
    if high > low:
        plain = float(torch.tensor((high - low) / 255).bfloat16())
        whole = error(x, plain, min(max(round(-low / plain), 0), 255))
        assert error(x, scale, zero) <= 1.001 * whole + 1e-12 * spread**2
        assert len(rounded(x, scale, zero).unique()) <= 256


def test_a_few_far_numbers_are_clipped_for_the_many():
    x = torch.cat([torch.randn(100_000, generator=torch.Generator().manual_seed(0)).relu(), torch.tensor([9.0])])
    scale, zero = best_range(x)
    assert zero == 0 and scale < 0.96 * 9 / 255 and error(x, scale, zero) < error(x, 9 / 255, 0)
    assert best_range(torch.zeros(5)) == (1.0, 0)


def test_numbers_are_those_of_onnx():
    x = torch.tensor([-9.0, -1.0, -0.25, 0.0, 0.25, 0.75, 0.74, 100.0, 1e30])
    assert torch.equal(rounded(x, 0.5, 2), torch.tensor([-1.0, -1.0, 0.0, 0.0, 0.0, 1.0, 0.5, 100.0, 126.5]))
    assert rounded(x.bfloat16(), 0.5, 2).dtype == torch.bfloat16


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_each_layer_gets_the_range_of_what_it_reads(dtype):
    torch.manual_seed(0)
    layers = nn.Conv2d(3, 20, 3, bias=False), nn.BatchNorm2d(20), nn.ReLU(), nn.Conv2d(20, 20, 3)
    x = 3 * torch.randn(40, 3, 8, 8)
    space = NetworkSpace(nn.Sequential(*layers).eval(), (x[:2],), {"code": {"inputs": "int8"}})
    built = space.build(space.plan(space.point([8, 8])))
    set_ranges(built, [((x,), torch.zeros(40))], dtype)
    found = {name: module.range.tolist() for name, module in quantized_inputs(built)}
    assert found["3"][1] == 0 and 100 < found["0"][1] < 156  # after a ReLU nothing is below 0
    assert found["0"][0] * 255 == pytest.approx(float(x.max() - x.min()), rel=0.3)
    whole, half = (dict(quantized_inputs(fast(built, kind))) for kind in (torch.float32, torch.bfloat16))
    assert all(torch.equal(whole[name].range, half[name].range.float()) for name in found)
    with torch.no_grad():
        apart = (built(x) - space.original(x)).square().mean().sqrt() / space.original(x).std()
    assert apart < 0.02

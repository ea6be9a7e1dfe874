"""Rounding against brute force: scales, the compensated numbers, the unit of the error, groups, zeros."""

import itertools

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from automl.fit.gram import gather_grams
from automl.fit.moments import damped_cholesky, moments_of
from automl.fit.rounding import (
    compensated,
    dequantized,
    error,
    highest,
    nearest,
    round_layer,
    scales,
)

BITS = (8, 4, 3, 2)


def correlated(features=24, rows=400, seed=0):
    """Rows [rows, features] of a few common causes and some noise, with a mean of their own."""
    generator = torch.Generator().manual_seed(seed)
    causes = torch.randn(rows, 5, generator=generator, dtype=torch.float64)
    mixed = causes @ torch.randn(5, features, generator=generator, dtype=torch.float64)
    return mixed + 0.3 * torch.randn(rows, features, generator=generator, dtype=torch.float64) + 1


def weights(out=16, features=24, seed=1):
    return torch.randn(out, features, generator=torch.Generator().manual_seed(seed))


def absmax_scales(weight, bits):
    """Without clipping: the largest weight of a channel is the highest number."""
    return (weight.double().abs().amax(1) / highest(bits)).float()


def moments(rows):
    return rows.T @ rows / len(rows)


@pytest.mark.parametrize("bits", BITS)
def test_scales_have_the_least_squared_error_and_whole_numbers_stay_in_range(bits):
    weight, power = weights(), moments(correlated()).diagonal()
    chosen, absmax = scales(weight, bits, power), absmax_scales(weight, bits)
    assert chosen.dtype == torch.float32 and (chosen <= absmax).all()

    def squares(scale):
        return (dequantized(nearest(weight, scale, bits), scale) - weight).double().square() @ power

    assert (squares(chosen) <= squares(absmax)).all()
    fine = torch.stack([squares(absmax * f) for f in torch.linspace(0.3, 1.0, 701)]).amin(0)
    assert squares(chosen).sum() <= 1.2 * fine.sum(), "the grid is fine enough"
    assert squares(chosen).sum() <= squares(scales(weight, bits)).sum(), "errors are weighed by the power"
    integers = nearest(weight, 0.1 * absmax, bits)
    assert integers.dtype == torch.int8 and integers.min() == -highest(bits) and integers.max() == highest(bits)


def test_what_is_on_the_grid_stays_as_it_is():
    integers = torch.randint(-7, 8, (6, 24), generator=torch.Generator().manual_seed(0)).to(torch.int8)
    integers[:, 0] = 7
    scale = torch.rand(6, generator=torch.Generator().manual_seed(1)) + 0.01
    weight = dequantized(integers, scale)
    assert torch.equal(nearest(weight, scale, 4), integers)
    assert torch.equal(compensated(weight, moments(correlated()), scale, 4), integers)
    assert torch.allclose(absmax_scales(weight, 4), scale, rtol=1e-6)
    assert torch.allclose(scales(weight, 4), scale, rtol=1e-6), "no clipping where nothing is gained by it"
    zero = torch.zeros(2, 24)
    assert (scales(zero, 8) > 0).all() and not nearest(zero, scales(zero, 8), 8).any()


@pytest.mark.parametrize("bits", BITS)
def test_compensation_lowers_the_error_of_every_output_of_correlated_inputs(bits):
    weight, second = weights(), moments(correlated())
    scale = scales(weight, bits)
    plain, found = nearest(weight, scale, bits), compensated(weight, second, scale, bits)
    assert found.dtype == torch.int8 and found.abs().max() <= highest(bits)
    every = torch.eye(16, dtype=torch.float64)
    for output in range(16):
        before, after = (error(weight, dequantized(q, scale), second, every[output]) for q in (plain, found))
        assert after <= before
    ones = torch.ones(16)
    assert error(weight, dequantized(found, scale), second, ones) < 0.5 * error(
        weight, dequantized(plain, scale), second, ones
    )


def test_compensation_is_nearest_where_features_are_uncorrelated():
    weight, second = weights(), torch.rand(24, dtype=torch.float64).add(0.1).diag()
    scale = scales(weight, 3)
    assert torch.equal(compensated(weight, second, scale, 3), nearest(weight, scale, 3))


@pytest.mark.parametrize("block", [1, 5, 128])
def test_each_column_is_rounded_where_the_rest_is_refitted_by_least_squares(block, monkeypatch):
    """Against the definition: the columns not rounded yet are solved for anew after each that is."""
    monkeypatch.setattr("automl.fit.rounding.BLOCK", block)
    weight, second = weights(8, 12), moments(correlated(12))
    scale = scales(weight, 3)
    lower = damped_cholesky(second, 0.01)
    damped = lower @ lower.T
    order = second.diagonal().argsort(descending=True).tolist()
    expected = torch.zeros(8, 12, dtype=torch.float64)
    now = weight.double()
    for done, column in enumerate(order, start=1):
        expected[:, column] = (now[:, column] / scale.double()).round().clamp(-3, 3)
        fixed, free = order[:done], order[done:]
        drift = expected[:, fixed] * scale.double()[:, None] - weight.double()[:, fixed]
        now = weight.double()
        if free:
            solved = torch.linalg.solve(damped[free][:, free], damped[free][:, fixed] @ drift.T).T
            now[:, free] -= solved
    found = compensated(weight, second, scale, 3)
    plain = nearest(weight, scale, 3)
    assert ((found == expected) | (found == plain)).all(1).all()
    assert (found == expected).all(1).sum() >= 7, "hardly an output is better off rounded to nearest"


def test_the_error_is_near_the_least_of_all_roundings():
    weight, second = 2 * weights(6, 7), moments(correlated(7))
    scale = scales(weight, 2)
    found = compensated(weight, second, scale, 2)
    ones = torch.ones(1)
    for row in range(6):
        w, s = weight[row : row + 1], scale[row : row + 1]
        everything = torch.tensor(list(itertools.product((-1, 0, 1), repeat=7)), dtype=torch.float64)
        change = everything * s.double() - w.double()
        best = float(((change @ second) * change).sum(1).min())
        got, plain = (error(w, dequantized(q, s), second, ones) for q in (found[row : row + 1], nearest(w, s, 2)))
        assert best <= got * (1 + 1e-6) and got <= plain
        assert got <= max(4 * best, 0.5 * plain)


def test_zeros_stay_zero_and_the_others_make_up_for_it():
    weight, second = weights(), moments(correlated())
    pruned = torch.rand(weight.shape, generator=torch.Generator().manual_seed(3)) < 0.5
    weight[pruned] = 0
    scale = scales(weight, 3)
    found, plain = compensated(weight, second, scale, 3), nearest(weight, scale, 3)
    assert not found[pruned].any() and found[~pruned].any()
    ones = torch.ones(16)
    assert error(weight, dequantized(found, scale), second, ones) < 0.8 * error(
        weight, dequantized(plain, scale), second, ones
    )


def test_dead_and_constant_features_do_no_harm():
    rows = correlated()
    rows[:, 3] = 0
    rows[:, 5] = 1000
    rows[:, 7] = rows[:, 8]
    augmented = torch.cat([rows, torch.ones(len(rows), 1)], 1)
    second, _ = moments_of(augmented.T @ augmented, intercept=True)
    weight = weights()
    scale = scales(weight, 4)
    found = compensated(weight, second, scale, 4)
    assert error(weight, dequantized(found, scale), second, torch.ones(16)) < error(
        weight, dequantized(nearest(weight, scale, 4), scale), second, torch.ones(16)
    )
    nothing = torch.zeros(24, 24, dtype=torch.float64)
    assert torch.equal(compensated(weight, nothing, scale, 4), nearest(weight, scale, 4))
    with pytest.raises(ValueError, match="not finite"):
        compensated(weight, torch.full_like(nothing, torch.nan), scale, 4)


@pytest.mark.parametrize("groups", [1, 3])
@pytest.mark.parametrize("intercept", [True, False])
def test_a_layer_is_rounded_by_groups_and_its_error_is_what_the_outputs_show(groups, intercept):
    torch.manual_seed(0)
    layer = nn.Conv2d(6, 9, 3, groups=groups).double().eval()
    x = F.relu(F.avg_pool2d(torch.randn(40, 6, 9, 9), 3, 1)) + 1
    grams = gather_grams(layer.float(), [""], [((x,), torch.zeros(40))], rows=10**6)[""].matrix
    got = round_layer(layer.weight, 3, grams, intercept=intercept)
    assert got.integers.shape == layer.weight.shape and got.integers.dtype == torch.int8
    weight = layer.weight.detach().double()
    x = x.double()
    change = F.conv2d(x, got.weight.double() - weight, groups=groups) + got.shift[:, None, None]
    importance = torch.rand(9, dtype=torch.float64)
    shown = float(change.square().mean((0, 2, 3)) @ importance)
    of_group = [tensor.flatten(1).chunk(groups) for tensor in (weight, got.weight, importance[:, None])]
    seconds = [moments_of(gram, intercept=intercept)[0] for gram in grams]
    told = sum(error(w, q, second, i[:, 0]) for w, q, i, second in zip(*of_group, seconds, strict=True))
    assert told == pytest.approx(shown, rel=1e-3)
    assert (float(change.mean((0, 2, 3)).abs().max()) < 1e-4) == intercept and bool(got.shift.any()) == intercept
    plain = round_layer(layer.weight, 3, None, intercept=intercept)
    assert torch.equal(plain.integers, nearest(layer.weight.flatten(1), plain.scale, 3).view_as(plain.integers))
    rough = F.conv2d(x, plain.weight.double() - weight, groups=groups)
    assert shown < 0.7 * float(rough.square().mean((0, 2, 3)) @ importance)

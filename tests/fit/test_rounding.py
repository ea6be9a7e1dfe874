"""Rounding against brute force: scales, the compensated numbers, descent, the unit of the error, groups, zeros."""

import itertools

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from automl.fit.descent import descended
from automl.fit.gram import gather_grams
from automl.fit.moments import damped, damped_cholesky, moments_of, squared_errors
from automl.fit.round_layer import round_layer
from automl.fit.rounding import compensated, error, nearest, scales
from search_spaces.codecs.integers import dequantized
from search_spaces.codecs.number_formats import FORMATS
from search_spaces.operators.code import nearest_integer

BINARY, TERNARY, INT2, INT3, INT4, INT8 = (
    FORMATS[name] for name in ("binary", "ternary", "int2", "int3", "int4", "int8")
)
FORMS = (INT8, INT4, INT3, INT2, TERNARY, BINARY)


def correlated(features=24, rows=400, seed=0):
    """Rows [rows, features] of a few common causes and some noise, with a mean of their own."""
    generator = torch.Generator().manual_seed(seed)
    causes = torch.randn(rows, 5, generator=generator, dtype=torch.float64)
    mixed = causes @ torch.randn(5, features, generator=generator, dtype=torch.float64)
    return mixed + 0.3 * torch.randn(rows, features, generator=generator, dtype=torch.float64) + 1


def weights(out=16, features=24, seed=1):
    return torch.randn(out, features, generator=torch.Generator().manual_seed(seed))


def absmax_scales(weight, form):
    """Without clipping: the largest weight of a channel is the highest number."""
    return (weight.double().abs().amax(1) / form.highest).float()


def moments(rows):
    return rows.T @ rows / len(rows)


@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.name)
def test_scales_have_the_least_squared_error_and_whole_numbers_stay_in_range(form):
    weight, power = weights(), moments(correlated()).diagonal()
    chosen, absmax = scales(weight, form, power), absmax_scales(weight, form)
    assert chosen.dtype == torch.float32 and (chosen <= absmax).all()

    def squares(scale):
        return (dequantized(nearest(weight, scale, form), scale) - weight).double().square() @ power

    assert (squares(chosen) <= squares(absmax)).all()
    fine = torch.stack([squares(absmax * f) for f in torch.linspace(0.3, 1.0, 701)]).amin(0)
    assert squares(chosen).sum() <= 1.2 * fine.sum(), "the grid is fine enough"
    assert squares(chosen).sum() <= squares(scales(weight, form)).sum(), "errors are weighed by the power"
    integers = nearest(weight, 0.1 * absmax, form)
    assert integers.dtype == torch.int8 and integers.min() == -form.highest and integers.max() == form.highest


def test_what_is_on_the_grid_stays_as_it_is():
    integers = torch.randint(-7, 8, (6, 24), generator=torch.Generator().manual_seed(0)).to(torch.int8)
    integers[:, 0] = 7
    scale = torch.rand(6, generator=torch.Generator().manual_seed(1)) + 0.01
    weight = dequantized(integers, scale)
    assert torch.equal(nearest(weight, scale, INT4), integers)
    assert torch.equal(compensated(weight, moments(correlated()), scale, INT4), integers)
    assert torch.allclose(absmax_scales(weight, INT4), scale, rtol=1e-6)
    assert torch.allclose(scales(weight, INT4), scale, rtol=1e-6), "no clipping where nothing is gained by it"
    zero = torch.zeros(2, 24)
    assert (scales(zero, INT8) > 0).all() and not nearest(zero, scales(zero, INT8), INT8).any()


@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.name)
def test_compensation_lowers_the_error_of_every_output_of_correlated_inputs(form):
    weight, second = weights(), moments(correlated())
    scale = scales(weight, form)
    plain, found = nearest(weight, scale, form), compensated(weight, second, scale, form)
    assert found.dtype == torch.int8 and found.abs().max() <= form.highest
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
    scale = scales(weight, INT3)
    assert torch.equal(compensated(weight, second, scale, INT3), nearest(weight, scale, INT3))


@pytest.mark.parametrize("block", [1, 5, 128])
def test_each_column_is_rounded_where_the_rest_is_refitted_by_least_squares(block, monkeypatch):
    """Against the definition: the columns not rounded yet are solved for anew after each that is."""
    monkeypatch.setattr("automl.fit.rounding.BLOCK", block)
    weight, second = weights(8, 12), moments(correlated(12))
    scale = scales(weight, INT3)
    lower = damped_cholesky(second, 0.01)
    heavy = lower @ lower.T
    order = second.diagonal().argsort(descending=True).tolist()
    expected = torch.zeros(8, 12, dtype=torch.float64)
    now = weight.double()
    for done, column in enumerate(order, start=1):
        expected[:, column] = (now[:, column] / scale.double()).round().clamp(-3, 3)
        fixed, free = order[:done], order[done:]
        drift = expected[:, fixed] * scale.double()[:, None] - weight.double()[:, fixed]
        now = weight.double()
        if free:
            solved = torch.linalg.solve(heavy[free][:, free], heavy[free][:, fixed] @ drift.T).T
            now[:, free] -= solved
    found = compensated(weight, second, scale, INT3)
    plain = nearest(weight, scale, INT3)
    assert ((found == expected) | (found == plain)).all(1).all()
    assert (found == expected).all(1).sum() >= 7, "hardly an output is better off rounded to nearest"


def test_the_error_is_near_the_least_of_all_roundings():
    weight, second = 2 * weights(6, 7), moments(correlated(7))
    scale = scales(weight, TERNARY)
    found = compensated(weight, second, scale, TERNARY)
    ones = torch.ones(1)
    for row in range(6):
        w, s = weight[row : row + 1], scale[row : row + 1]
        everything = torch.tensor(list(itertools.product((-1, 0, 1), repeat=7)), dtype=torch.float64)
        change = everything * s.double() - w.double()
        best = float(((change @ second) * change).sum(1).min())
        got, plain = (error(w, dequantized(q, s), second, ones) for q in (found[row : row + 1], nearest(w, s, TERNARY)))
        assert best <= got * (1 + 1e-6) and got <= plain
        assert got <= max(4 * best, 0.5 * plain)


def test_zeros_stay_zero_and_the_others_make_up_for_it():
    weight, second = weights(), moments(correlated())
    pruned = torch.rand(weight.shape, generator=torch.Generator().manual_seed(3)) < 0.5
    weight[pruned] = 0
    scale = scales(weight, INT3)
    found, plain = compensated(weight, second, scale, INT3), nearest(weight, scale, INT3)
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
    scale = scales(weight, INT4)
    found = compensated(weight, second, scale, INT4)
    assert error(weight, dequantized(found, scale), second, torch.ones(16)) < error(
        weight, dequantized(nearest(weight, scale, INT4), scale), second, torch.ones(16)
    )
    nothing = torch.zeros(24, 24, dtype=torch.float64)
    assert torch.equal(compensated(weight, nothing, scale, INT4), nearest(weight, scale, INT4))
    with pytest.raises(ValueError, match="not finite"):
        compensated(weight, torch.full_like(nothing, torch.nan), scale, INT4)


@pytest.mark.parametrize("groups", [1, 3])
@pytest.mark.parametrize("intercept", [True, False])
def test_a_layer_is_rounded_by_groups_and_its_error_is_what_the_outputs_show(groups, intercept):
    torch.manual_seed(0)
    layer = nn.Conv2d(6, 9, 3, groups=groups).double().eval()
    x = F.relu(F.avg_pool2d(torch.randn(40, 6, 9, 9), 3, 1)) + 1
    grams = gather_grams(layer.float(), [""], [((x,), torch.zeros(40))], rows=10**6)[""].matrix
    got = round_layer(layer.weight, INT3, grams, intercept=intercept)
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
    plain = round_layer(layer.weight, INT3, None, intercept=intercept)
    assert torch.equal(plain.integers, nearest(layer.weight.flatten(1), plain.scale, INT3).view_as(plain.integers))
    rough = F.conv2d(x, plain.weight.double() - weight, groups=groups)
    assert shown < 0.7 * float(rough.square().mean((0, 2, 3)) @ importance)


@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.name)
def test_descent_raises_the_error_of_no_output_and_lowers_that_of_most_where_levels_are_few(form):
    weight, second = weights(), moments(correlated())
    scale = scales(weight, form)
    integers = compensated(weight, second, scale, form)
    better, refit = descended(weight, second, integers, scale, form)
    before, after = (squared_errors(dequantized(*x) - weight, second) for x in ((integers, scale), (better, refit)))
    assert (after <= before).all() and set(better.flatten().tolist()) <= set(form.grid)
    if len(form.grid) < 16:
        assert (after < before).sum() > 8 and after.sum() < 0.95 * before.sum()


@pytest.mark.parametrize("form", [INT3, INT2, TERNARY, BINARY], ids=lambda form: form.name)
@pytest.mark.parametrize("block", [5, 128])
def test_descent_ends_where_no_other_integer_and_no_other_scale_is_better(form, block, monkeypatch):
    monkeypatch.setattr("automl.fit.descent.BLOCK", block)
    weight, second = weights(6, 12), moments(correlated(12))
    lower = damped_cholesky(second, 0.01)
    heavy = lower @ lower.T
    scale = scales(weight, form)
    found, refit = descended(weight, second, compensated(weight, second, scale, form), scale, form, rounds=100)
    least = squared_errors(dequantized(found, refit) - weight, heavy)
    assert (refit != scale).any()
    for column, integer in itertools.product(range(12), form.grid):
        if abs(integer) <= form.highest:  # that of two's complement which has no opposite is not used
            other = found.clone()
            other[:, column] = integer
            assert (squared_errors(dequantized(other, refit) - weight, heavy) >= least * (1 - 1e-6)).all()
    for factor in (0.99, 1.01):
        assert (squared_errors(dequantized(found, factor * refit) - weight, heavy) >= least).all()


def by_columns(weight, second, integers, scale, form, rounds):
    """Coordinate descent as it is defined: one column after the other, then the scales."""
    target, moments = weight.double(), damped(second, 0.01)
    now = integers.double()
    for _ in range(rounds):
        for i in range(now.shape[1]):
            slope = ((now * scale.double()[:, None] - target) @ moments)[:, i]
            now[:, i] = nearest_integer(now[:, i] - slope / (scale.double() * moments[i, i]), form)
        reach = now @ moments
        scale = ((reach * target).sum(1) / (reach * now).sum(1)).float()
    return now.to(torch.int8), scale


@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.name)
@pytest.mark.parametrize("block", [7, 128])
@pytest.mark.parametrize("rounds", [1, 4])
def test_descent_comes_to_what_one_column_after_the_other_comes_to(form, block, rounds, monkeypatch):
    monkeypatch.setattr("automl.fit.descent.BLOCK", block)
    weight, second = weights(), moments(correlated())
    scale = scales(weight, form)
    integers = compensated(weight, second, scale, form)
    found, refit = by_columns(weight, second, integers, scale, form, rounds)
    assert (found != integers).any()
    old, new = (squared_errors(dequantized(*x) - weight.double(), second) for x in ((integers, scale), (found, refit)))
    better = new < old
    got, along = descended(weight, second, integers, scale, form, rounds=rounds)
    assert torch.equal(got[better], found[better]) and torch.allclose(along[better], refit[better], rtol=1e-6)
    assert torch.equal(got[~better], integers[~better]) and torch.equal(along[~better], scale[~better])


@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.name)
@pytest.mark.parametrize("pruned", [True, False])
def test_pruned_weights_stay_zero_in_every_format(form, pruned):
    torch.manual_seed(0)
    layer = nn.Conv2d(6, 9, 3)
    gone = torch.rand(layer.weight.shape) < 0.5
    layer.weight.data[gone] = 0
    grams = gather_grams(layer, [""], [((torch.randn(40, 6, 9, 9),), torch.zeros(40))], rows=10**6)[""].matrix
    for known in (grams, None):
        got = round_layer(layer.weight, form, known, intercept=True, pruned=pruned)
        if form.has_zero or pruned:
            assert not got.integers[gone].any() and got.integers[~gone].any()
        else:
            assert set(got.integers.flatten().tolist()) <= set(form.grid)


def test_binary_scales_are_the_mean_magnitude_without_correlations():
    """Rastegari et al. 2016, equation 6."""
    weight = weights()
    second = torch.eye(24, dtype=torch.float64)
    scale = scales(weight, BINARY)
    integers, refit = descended(weight, second, compensated(weight, second, scale, BINARY), scale, BINARY)
    assert torch.equal(integers, torch.where(weight >= 0, 1, -1).to(torch.int8))
    assert torch.allclose(refit, weight.abs().mean(1), rtol=1e-5)

"""The decomposition against a generic optimiser, against the plain one, and against what the outputs show."""

import pytest
import torch

from automl.fit.gram import Gram
from automl.fit.low_rank import decompose
from automl.fit.moments import moments_of, squared_errors

OUT, FEATURES = 7, 10


@pytest.fixture(scope="module")
def problem():
    """(weight [out, features], rows [n, features], importance [out]), float64, features correlated, with a mean."""
    generator = torch.Generator().manual_seed(0)
    rows = torch.randn(300, 4, generator=generator, dtype=torch.float64)
    rows = rows @ torch.randn(4, FEATURES, generator=generator, dtype=torch.float64)
    rows = rows + 0.4 * torch.randn(300, FEATURES, generator=generator, dtype=torch.float64) + 2
    weight = torch.randn(OUT, FEATURES, generator=generator, dtype=torch.float64)
    return weight, rows, torch.rand(OUT, generator=generator, dtype=torch.float64) + 0.05


def moments(rows, intercept):
    augmented = torch.cat([rows, torch.ones(len(rows), 1, dtype=torch.float64)], 1)
    return moments_of(Gram((augmented.T @ augmented)[None], 2).matrix[0], intercept=intercept)


@pytest.mark.parametrize("weighted", [True, False])
@pytest.mark.parametrize("rank", [1, 3, 6])
def test_no_other_factors_of_the_rank_have_a_lower_error(problem, rank, weighted):
    """Alternating least squares on the outputs themselves ends at the same error, from any start."""
    weight, rows, importance = problem
    second, mean = moments(rows, True)
    found = decompose(weight, second, importance, mean, weighted=weighted, ridge=1e-9)
    costs = importance if weighted else torch.ones(OUT, dtype=torch.float64)
    centred = rows - rows.mean(0)
    target = centred @ weight.T
    for seed in range(2):
        u = torch.randn(OUT, rank, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        for _ in range(400):
            v = torch.linalg.lstsq(costs.sqrt()[:, None] * u, costs.sqrt()[:, None] * weight).solution
            u = torch.linalg.lstsq(centred @ v.T, target).solution.T
        least = float((centred @ (u @ v).T - target).square().mean(0) @ costs)
        u_found, v_found = found.factors(rank)
        outputs = rows @ (u_found @ v_found).T + found.shift(rank)
        shown = (outputs - rows @ weight.T).square().mean(0)
        assert float(shown @ costs) == pytest.approx(least, rel=1e-5)
        assert float(shown @ importance) == pytest.approx(float(found.errors[rank]), rel=1e-6)


@pytest.mark.parametrize("ridge", [1e-9, 1e-3, 0.3])
@pytest.mark.parametrize("intercept", [True, False])
@pytest.mark.parametrize("weighted", [True, False])
def test_errors_are_those_of_the_factors_and_never_rise(problem, ridge, intercept, weighted):
    weight, rows, importance = problem
    second, mean = moments(rows, intercept)
    found = decompose(weight, second, importance, mean, ridge=ridge, weighted=weighted)
    assert found.errors.shape == (OUT + 1,) and (found.errors.diff() <= 0).all() and found.errors[-1] == 0
    for rank in range(OUT + 1):
        u, v = found.factors(rank)
        assert u.shape == (OUT, rank) and v.shape == (rank, FEATURES)
        by_hand = float(squared_errors(u @ v - weight, second) @ importance)
        assert by_hand == pytest.approx(float(found.errors[rank]), rel=1e-6, abs=1e-9)
        assert bool(found.shift(rank).abs().max() > 1e-9) == (intercept and rank < OUT)


def test_full_rank_is_the_weight_and_factors_are_balanced(problem):
    weight, rows, importance = problem
    for arguments in ((), (moments(rows, True)[0], importance)):
        u, v = decompose(weight, *arguments).factors(OUT)
        assert torch.allclose(u @ v, weight, atol=1e-9)
        assert torch.allclose(u.norm(dim=0), v.norm(dim=1))
    tall = decompose(weight.T)
    assert torch.allclose(tall.left @ tall.right, weight.T) and len(tall.errors) == OUT + 1


def test_without_data_it_is_the_plain_decomposition(problem):
    weight = problem[0]
    found = decompose(weight)
    values = torch.linalg.svdvals(weight)
    assert torch.allclose(found.errors[:-1], values.square().flip(0).cumsum(0).flip(0))
    u, v = found.factors(2)
    assert float((u @ v - weight).square().sum()) == pytest.approx(float(values[2:].square().sum()))
    assert not found.shift(2).any()


def test_data_and_importance_lower_the_error_that_counts(problem):
    weight, rows, importance = problem
    second, _ = moments(rows, True)

    def cost(decomposition, rank=2):
        u, v = decomposition.factors(rank)
        return float(squared_errors(u @ v - weight, second) @ importance)

    informed = cost(decompose(weight, second, importance, weighted=True))
    assert informed < 0.999 * cost(decompose(weight, second)) < 0.8 * cost(decompose(weight))


def test_dead_features_and_outputs_that_do_not_matter_are_no_trouble(problem):
    weight, rows, importance = problem
    rows, importance = rows.clone(), importance.clone()
    rows[:, 2] = 0
    rows[:, 4] = rows[:, 5]
    importance[3] = 0
    found = decompose(weight, moments(rows, True)[0], importance, weighted=True)
    assert found.left.isfinite().all() and found.right.isfinite().all() and (found.errors.diff() <= 0).all()
    assert torch.allclose(found.left @ found.right, weight, atol=1e-6)
    unseen = decompose(weight, torch.zeros(FEATURES, FEATURES))
    for nothing in (unseen, decompose(weight, importance=torch.zeros(OUT), weighted=True)):
        assert nothing.left.isfinite().all() and torch.allclose(nothing.left @ nothing.right, weight, atol=1e-6)
    assert torch.equal(decompose(torch.zeros(OUT, FEATURES)).left, torch.zeros(OUT, OUT, dtype=torch.float64))

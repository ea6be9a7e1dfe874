"""Separable factors against a generic optimiser, against the data, and as the layers that they become."""

import copy
import itertools

import pytest
import torch
from torch import nn

from automl.fit.gram import gram_of
from automl.fit.moments import moments_of
from automl.fit.separable import Separable
from search_spaces.operators.factors import in_a_row, plain_split
from tests.kits.correlated_layers import correlated_layer

MADE, READ, HEIGHT, WIDTH = 6, 4, 3, 2


@pytest.fixture(scope="module")
def problem():
    """(weight [made, read, kh, kw], rows [n, features], importance [made]), float64."""
    return correlated_layer(MADE, READ, HEIGHT, WIDTH)


def covariance(rows):
    centred = rows - rows.mean(0)
    return centred.T @ centred / len(rows), rows.mean(0)


def product(u, v, rank):
    """The kernel that the factors stand for: [made, read, kh, kw]."""
    return torch.einsum("ojr,rah->oahj", u.view(MADE, WIDTH, rank), v.view(rank, READ, HEIGHT))


def shown(weight, kernel, shift, rows, importance):
    """The error that the outputs show."""
    change = rows @ (kernel - weight).flatten(1).T + shift
    return float(change.square().mean(0) @ importance)


def searched(weight, rows, importance, rank, seed):
    """The least error that a general optimiser comes to from a random start."""
    centred = rows - rows.mean(0)
    generator = torch.Generator().manual_seed(seed)
    u, v = (
        torch.randn(n, rank, generator=generator, dtype=torch.float64).requires_grad_()
        for n in (MADE * WIDTH, READ * HEIGHT)
    )
    optimizer = torch.optim.LBFGS([u, v], max_iter=300, line_search_fn="strong_wolfe", tolerance_change=1e-12)

    def loss():
        optimizer.zero_grad()
        change = centred @ (product(u, v.T, rank) - weight).flatten(1).T
        error = change.square().mean(0) @ importance
        error.backward()
        return error

    optimizer.step(loss)
    return float(loss().detach())


@pytest.mark.parametrize("rank", [2, 4, 7])
def test_a_general_optimiser_finds_hardly_better_factors(problem, rank):
    weight, rows, importance = problem
    second, mean = covariance(rows)
    found = Separable(weight, second, importance, mean)
    least = min(searched(weight, rows, importance, rank, seed) for seed in range(2))
    assert found.error(rank) < 1.4 * least + 1e-3
    plain = Separable(weight, None, None, None)
    blind = shown(weight, product(*plain.factors(rank), rank), plain.shift(rank), rows - mean, importance)
    assert found.error(rank) < 0.7 * blind


def test_the_error_is_what_the_outputs_show_and_falls_with_the_rank(problem):
    weight, rows, importance = problem
    second, mean = covariance(rows)
    found = Separable(weight, second, importance, mean)
    errors = [found.error(rank) for rank in range(1, found.full_rank + 1)]
    for rank, error in enumerate(errors, 1):
        u, v = found.factors(rank)
        assert u.shape == (MADE * WIDTH, rank) and v.shape == (rank, READ * HEIGHT)
        by_hand = shown(weight, product(u, v, rank), found.shift(rank), rows, importance)
        assert by_hand == pytest.approx(error, rel=1e-6, abs=1e-6 * errors[0])
        assert torch.allclose(u.norm(dim=0), v.norm(dim=1), rtol=1e-6)
    assert errors[-1] == 0 and all(b <= 1.02 * a for a, b in itertools.pairwise(errors))
    u, v = found.factors(found.full_rank)
    assert torch.allclose(product(u, v, found.full_rank), weight, atol=1e-4)


def test_dead_and_doubled_features_are_no_trouble(problem):
    weight, rows, importance = problem
    rows = rows.clone()
    rows[:, 3] = 0
    rows[:, 5] = rows[:, 6]
    for second in (covariance(rows)[0], torch.zeros(rows.shape[1], rows.shape[1])):
        for rank in (1, 5):
            u, v = Separable(weight, second, importance, rows.mean(0)).factors(rank)
            assert u.isfinite().all() and v.isfinite().all()
    assert Separable(torch.zeros(2, 2, 3, 3), None, None, None).factors(1)[0].isfinite().all()


GEOMETRIES = [
    {"kernel_size": 3, "padding": 1},
    {"kernel_size": (3, 5), "padding": (1, 2), "stride": (2, 1), "padding_mode": "reflect"},
    {"kernel_size": (2, 3), "stride": 2, "dilation": (1, 2), "padding": (0, 3), "padding_mode": "circular"},
    {"kernel_size": 3, "padding": "same", "dilation": 2, "bias": False},
]


@pytest.mark.parametrize("options", GEOMETRIES, ids=str)
def test_two_layers_compute_the_kernel_that_their_factors_stand_for(options):
    torch.manual_seed(0)
    layer = nn.Conv2d(5, 7, **options).double()
    x = torch.randn(2, 5, 12, 13, dtype=torch.float64)
    height, width = layer.kernel_size
    for rank in (1, 3, min(5 * height, 7 * width)):
        weights, bias = plain_split("", layer, (rank,), "separable")
        factored = in_a_row(layer, "separable", weights, bias)
        dense = copy.deepcopy(layer)
        v, u = weights
        kernel = torch.einsum("orj,rah->oahj", u[:, :, 0], v[..., 0])
        with torch.no_grad():
            dense.weight.copy_(kernel)
            torch.testing.assert_close(factored(x), dense(x))
    torch.testing.assert_close(kernel, layer.weight.detach())  # of full rank


def test_on_maps_it_loses_less_than_any_factors_of_the_weights_alone():
    torch.manual_seed(0)
    layer = nn.Conv2d(8, 8, 3, padding=1)
    smooth = nn.functional.avg_pool2d(torch.randn(64, 8, 16, 16), 3, 1, 1)
    second, mean = moments_of(gram_of(layer, smooth).matrix[0], intercept=True)
    found, plain = Separable(layer.weight.detach(), second, None, mean), plain_split("", layer, (8,), "separable")

    def lost(weights):
        with torch.no_grad():
            change = in_a_row(layer, "separable", weights, layer.bias)(smooth) - layer(smooth)
        return float((change - change.mean((0, 2, 3), keepdim=True)).square().mean())

    assert lost(found.weights(8)) < 0.6 * lost(plain[0])

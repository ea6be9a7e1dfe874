"""Tucker-2 and CP factors against a generic optimiser, against the data, and as the layers that they become."""

import copy

import pytest
import torch
from torch import nn

from automl.fit.cp import Cp
from automl.fit.gram import gram_of
from automl.fit.moments import moments_of
from automl.fit.through_factors import costs_between, moments_between
from automl.fit.tucker import Tucker
from search_spaces.operators.factors import in_a_row, plain_split
from search_spaces.operators.schemes import most
from tests.kits.correlated_layers import correlated_layer

MADE, READ, HEIGHT, WIDTH = 6, 5, 3, 2
RANKS = {"tucker": [(2, 3), (4, 5)], "cp": [(3,), (7,)]}
CASES = [(scheme, ranks) for scheme, all_ranks in RANKS.items() for ranks in all_ranks]


@pytest.fixture(scope="module")
def problem():
    """(weight [made, read, kh, kw], second moments, mean, importance [made]), float64."""
    weight, rows, importance = correlated_layer(MADE, READ, HEIGHT, WIDTH)
    centred = rows - rows.mean(0)
    return weight, centred.T @ centred / len(rows), rows.mean(0), importance


def fitted(scheme, problem):
    weight, second, mean, importance = problem
    return {"tucker": Tucker, "cp": Cp}[scheme](weight, second, importance, mean)


def as_asked(ranks):
    return ranks[0] if len(ranks) == 1 else ranks


def kernel_of(scheme, weights):
    """The kernel that the factors stand for, [made, read, kh, kw]."""
    if scheme == "tucker":
        v, core, u = weights
        return torch.einsum("ob,bayx,ai->oiyx", u.flatten(1), core, v.flatten(1))
    v, p, q, a = (part.flatten(1) for part in weights)
    return torch.einsum("or,ri,ry,rx->oiyx", a, v, p, q)


def lost(kernel, problem):
    weight, second, _, importance = problem
    change = (kernel - weight).flatten(1)
    return ((change @ second) * change).sum(1) @ importance


def searched(scheme, ranks, problem, seed):
    """The least error that a general optimiser comes to from a random start."""
    generator = torch.Generator().manual_seed(seed)
    shapes = [part.shape for part in fitted(scheme, problem).weights(as_asked(ranks))]
    parts = [torch.randn(shape, generator=generator, dtype=torch.float64).requires_grad_() for shape in shapes]
    optimizer = torch.optim.LBFGS(parts, max_iter=200, line_search_fn="strong_wolfe", tolerance_change=1e-12)

    def loss():
        optimizer.zero_grad()
        error = lost(kernel_of(scheme, parts), problem)
        error.backward()
        return error

    optimizer.step(loss)
    return float(loss().detach())


@pytest.mark.parametrize(("scheme", "ranks"), CASES)
def test_a_general_optimiser_finds_hardly_better_factors(problem, scheme, ranks):
    whole = float(lost(torch.zeros_like(problem[0]), problem))
    error = float(lost(kernel_of(scheme, fitted(scheme, problem).weights(as_asked(ranks))), problem))
    least = min(searched(scheme, ranks, problem, seed) for seed in range(2))
    assert error < 1.5 * least + 0.02 * whole
    layer = nn.Conv2d(READ, MADE, (HEIGHT, WIDTH)).double()
    with torch.no_grad():
        layer.weight.copy_(problem[0])
    blind = float(lost(kernel_of(scheme, plain_split("", layer, ranks, scheme)[0]), problem))
    assert error < 0.8 * blind


@pytest.mark.parametrize(("scheme", "ranks"), CASES)
def test_the_error_is_what_the_kernel_shows_and_the_shift_keeps_mean_outputs(problem, scheme, ranks):
    found, (weight, _, mean, _) = fitted(scheme, problem), problem
    bound = found.error(as_asked(ranks))
    kernel = kernel_of(scheme, found.weights(as_asked(ranks)))
    shown = float(lost(kernel, problem))
    assert found.error(as_asked(ranks)) == pytest.approx(shown, rel=1e-6) and shown <= bound * (1 + 1e-9)
    moved = (kernel - weight).flatten(1) @ mean
    torch.testing.assert_close(found.shift(as_asked(ranks)), -moved)


def test_terms_of_cp_do_not_cancel_each_other():
    """This tensor has rank 3 and comes as near as one likes to sums of two terms, which grow without bound (de Silva &
    Lim 2008, section 4.7)."""
    x, y = torch.eye(2, dtype=torch.float64)
    products = ((x, x, y), (x, y, x), (y, x, x))
    weight = sum(torch.einsum("o,i,y->oiy", *parts) for parts in products)[..., None].expand(2, 2, 2, 2).contiguous()
    v, p, q, a = (part.flatten(1) for part in Cp(weight, None, None, None).weights(2))
    sizes = v.norm(dim=1) * p.norm(dim=1) * q.norm(dim=1) * a.norm(dim=0)
    assert float(sizes.square().sum()) < 4 * float(weight.square().sum())


def test_dead_and_doubled_features_are_no_trouble(problem):
    weight, second, mean, importance = problem
    second = second.clone()
    second[3] = second[:, 3] = 0
    second[5] = second[6]
    second[:, 5] = second[:, 6]
    for moments in (second, torch.zeros_like(second)):
        for weights in (
            Tucker(weight, moments, importance, mean).weights((2, 3)),
            Tucker(weight, moments, importance, mean).weights((1, 6)),
            Cp(weight, moments, importance, mean).weights(9),
        ):
            assert all(part.isfinite().all() for part in weights)
    nothing = torch.zeros(2, 2, 3, 3)
    assert all(part.isfinite().all() for part in Cp(nothing, None, None, None).weights(2))
    assert all(part.isfinite().all() for part in Tucker(nothing, None, None, None).weights((1, 2)))


GEOMETRIES = [
    {"kernel_size": 3, "padding": 1},
    {"kernel_size": (3, 5), "padding": (1, 2), "stride": (2, 1), "padding_mode": "reflect"},
    {"kernel_size": (2, 3), "stride": 2, "dilation": (1, 2), "padding": (0, 3), "padding_mode": "circular"},
    {"kernel_size": 3, "padding": "same", "dilation": 2, "bias": False},
]


@pytest.mark.parametrize("scheme", ["tucker", "cp"])
@pytest.mark.parametrize("options", GEOMETRIES, ids=str)
def test_layers_in_a_row_compute_the_kernel_that_their_factors_stand_for(options, scheme):
    torch.manual_seed(0)
    layer = nn.Conv2d(5, 7, **options).double()
    x = torch.randn(2, 5, 12, 13, dtype=torch.float64)
    height, width = layer.kernel_size
    # Products of four vectors that make any kernel: each pair of a component of rows and one of columns.
    whole = most(layer, scheme) if scheme == "tucker" else (min(7 * width, 5 * height) * height * width,)
    for ranks in (tuple(1 for _ in whole), tuple(min(3, rank) for rank in whole), whole):
        weights, bias = plain_split("", layer, ranks, scheme)
        dense = copy.deepcopy(layer)
        with torch.no_grad():
            dense.weight.copy_(kernel_of(scheme, weights))
            torch.testing.assert_close(in_a_row(layer, scheme, weights, bias)(x), dense(x))
    torch.testing.assert_close(dense.weight, layer.weight)  # of full rank


@pytest.mark.parametrize("scheme", ["svd", "separable", "tucker", "cp"])
def test_what_factors_read_is_what_the_layers_before_them_make(scheme):
    torch.manual_seed(0)
    layer = nn.Conv2d(3, 4, 3)
    x = torch.randn(40, 3, 3, 3) + 1  # one position each, so that no borders blur what is compared
    matrix = gram_of(layer, x).matrix
    weights, bias = plain_split("", layer, (2, 3) if scheme == "tucker" else (4,), scheme)
    factors = in_a_row(layer, scheme, weights, bias)
    between = moments_between(matrix, weights)
    for factor, found in zip(factors, between, strict=True):
        rows = gram_of(factor, x).matrix
        torch.testing.assert_close(found / found[:, -1:, -1:], rows / rows[:, -1:, -1:], rtol=1e-4, atol=1e-4)
        x = factor(x).detach()
    cost = torch.rand(4, dtype=torch.float64)
    costs = costs_between(cost, weights)
    assert [len(part) for part in costs] == [len(weight) for weight in weights] and torch.equal(costs[-1], cost)
    moved = weights[-1].double().flatten(2).square().sum(2)
    torch.testing.assert_close(costs[-2], moved.T @ cost)


def test_data_is_worth_more_than_the_weights_alone_on_maps():
    torch.manual_seed(0)
    layer = nn.Conv2d(8, 8, 3, padding=1)
    smooth = nn.functional.avg_pool2d(torch.randn(64, 8, 16, 16), 3, 1, 1)
    second, mean = moments_of(gram_of(layer, smooth).matrix[0], intercept=True)
    for scheme, kind, ranks in (("tucker", Tucker, (5, 5)), ("cp", Cp, (10,))):
        losses = []
        for weights in (
            kind(layer.weight.detach(), second, None, mean).weights(as_asked(ranks)),
            plain_split("", layer, ranks, scheme)[0],
        ):
            with torch.no_grad():
                change = in_a_row(layer, scheme, weights, layer.bias)(smooth) - layer(smooth)
            losses.append(float((change - change.mean((0, 2, 3), keepdim=True)).square().mean()))
        assert losses[0] < 0.7 * losses[1], scheme

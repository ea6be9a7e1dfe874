"""Weights removed by the optimal brain surgeon: against inverses worked out anew, and generic least squares."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from automl.fit.exact_obs import DAMPING, remove_in_turn
from automl.fit.moments import damped_cholesky
from automl.fit.support import refitted
from automl.fit.systems import WIDEST, Systems
from search_spaces.operators.patterns import pattern_of
from search_spaces.operators.ranking import ranked


def layer(seed, out, features):
    """A weight, [out, features], and the second moments of inputs that hang together, [features, features]."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(8 * features, features, generator=generator, dtype=torch.float64)
    x = x @ (torch.eye(features) + 0.5 * torch.randn(features, features, generator=generator)).double()
    return torch.randn(out, features, generator=generator, dtype=torch.float64), x.T @ x / len(x)


def damped(second):
    factor = damped_cholesky(second, DAMPING)
    return factor @ factor.T


def error(weight, solved, second):
    change = solved - weight
    return float(((change @ damped(second)) * change).sum())


def best_error(row, kept, hessian):
    """The least of (v - row) H (v - row) over v that are 0 but where `kept`: by the normal equations of `lstsq`."""
    root = torch.linalg.cholesky(hessian).T
    fitted = torch.linalg.lstsq(root[:, kept], root @ row).solution
    return float((root @ row - root[:, kept] @ fitted).square().sum())


def by_hand(row, hessian):
    """Optimal brain surgery of one row, its inverse worked out anew for what is left: the order, and the losses."""
    left, order, losses = list(range(len(row))), [], []
    row = row.clone()
    while left:
        inverse = torch.linalg.inv(hessian[left][:, left])
        costs = row[left].square() / inverse.diagonal()
        at = int(costs.argmin())
        losses.append(float(costs[at]))
        row[left] -= row[left[at]] / inverse[at, at] * inverse[:, at]
        order.append(left.pop(at))
        row[order] = 0
    return order, losses


@pytest.mark.parametrize("seed", range(5))
def test_a_row_loses_its_weights_as_by_hand(seed):
    weight, second = layer(seed, 1, 8)
    order, losses = by_hand(weight[0], damped(second))
    removals = remove_in_turn([weight], [second], pattern_of("unstructured"))
    assert removals.scores[0][0].argsort().tolist() == order
    assert removals.losses[0][0][order].tolist() == pytest.approx(losses)


def test_rows_go_on_as_their_next_removals_are_cheap():
    weight, second = layer(3, 4, 10)
    queues = [list(zip(*by_hand(row, damped(second)), strict=True)) for row in weight]
    expected = []
    while any(queues):
        row = min((i for i, queue in enumerate(queues) if queue), key=lambda i: queues[i][0][1])
        expected.append((row, queues[row].pop(0)[0]))
    scores = remove_in_turn([weight], [second], pattern_of("unstructured")).scores[0]
    assert [(int(i) // 10, int(i) % 10) for i in scores.flatten().argsort()] == expected


@pytest.mark.parametrize("name", ["unstructured", "2:4", "1x4", "2x4", "4x1"])
@pytest.mark.parametrize("chosen", ["surgeon", "magnitude"])
def test_losses_add_up_to_the_least_error_that_refitting_leaves(name, chosen):
    pattern = pattern_of(name)
    weight, second = layer(1, 8, 24)
    order = ranked(weight.abs(), pattern) if chosen == "magnitude" else None
    removals = remove_in_turn([weight], [second], pattern, None if order is None else [order])
    order = ranked(removals.scores[0], pattern) if order is None else order
    for count in [96] if pattern.grouped else [16, 96, 160]:
        kept = order < count
        solved = refitted(weight, kept, second, DAMPING)
        assert torch.equal(solved != 0, kept)
        least = sum(best_error(row, on, damped(second)) for row, on in zip(weight, kept, strict=True))
        assert error(weight, solved, second) == pytest.approx(least)
        assert float(removals.losses[0][~kept].sum()) == pytest.approx(least)


@pytest.mark.parametrize("name", ["1x4", "2x4"])
def test_the_block_goes_whose_removal_leaves_the_least_error(name):
    pattern = pattern_of(name)
    weight, second = layer(2, pattern.rows, 20)
    order = remove_in_turn([weight], [second], pattern).scores[0][0, ::4].argsort()  # of the five blocks of the band
    gone = []
    for block in order.tolist():

        def cost(candidate, gone=gone):
            kept = torch.ones(5, dtype=torch.bool)
            kept[[*gone, candidate]] = False
            return error(weight, refitted(weight, kept.repeat_interleave(4).expand_as(weight), second, DAMPING), second)

        assert block == min(set(range(5)) - set(gone), key=cost)
        gone.append(block)


@pytest.mark.parametrize(("name", "share"), [("unstructured", 0.3), ("unstructured", 0.6), ("2:4", 0.5), ("1x4", 0.5)])
def test_it_leaves_less_error_than_least_squares_after_magnitude(name, share):
    pattern, ratios = pattern_of(name), []
    for seed in range(12):
        weight, second = layer(seed, 8, 32)
        count = int(share * weight.numel()) // pattern.unit * pattern.unit
        scores = remove_in_turn([weight], [second], pattern).scores[0]
        surgeon, magnitude = (
            error(weight, refitted(weight, ranked(x, pattern) < count, second, DAMPING), second)
            for x in (scores, weight.abs())
        )
        ratios.append(surgeon / magnitude)
    assert np.mean(ratios) < 0.9


@pytest.mark.parametrize("share", [0.0, 0.1])
def test_of_n_of_m_a_legal_choice_stays_whatever_was_zero_before(share):
    pattern = pattern_of("2:4")
    weight, second = layer(4, 8, 32)
    weight[torch.rand(8, 32, generator=torch.Generator().manual_seed(0)) < 0.4] = 0
    removals = remove_in_turn([weight], [second], pattern, share=share)
    kept = (ranked(removals.scores[0], pattern) < 128) & (weight != 0)
    groups, there = (x.view(8, 8, 4).sum(2) for x in (kept, weight != 0))
    assert torch.equal(groups, there.clamp_max(2))
    solved = refitted(weight, kept, second, DAMPING)
    assert float(removals.losses[0].sum()) == pytest.approx(error(weight, solved, second))


@pytest.mark.parametrize("name", ["unstructured", "2:4", "2x4"])
def test_it_is_the_same_to_the_bit_each_time(name):
    weight, second = layer(5, 8, 96)
    one, two = (remove_in_turn([weight], [second], pattern_of(name)) for _ in range(2))
    assert torch.equal(one.scores[0], two.scores[0]) and torch.equal(one.losses[0], two.losses[0])


def test_several_at_once_cost_a_few_per_cent_and_a_given_order_nothing():
    pattern, ratios = pattern_of("unstructured"), []
    for seed in range(4):
        weight, second = layer(seed, 8, 128)
        exact, quick = (remove_in_turn([weight], [second], pattern, share=share) for share in (0.0, 1 / 64))
        for count in (200, 500):
            ratios.append(np.divide(*(float(x.losses[0][ranked(x.scores[0]) >= count].sum()) for x in (quick, exact))))
        order = ranked(weight.abs())
        one, two = (remove_in_turn([weight], [second], pattern, [order], share=s).losses[0] for s in (0.0, 0.2))
        assert torch.allclose(one, two, rtol=1e-6, atol=1e-9)
    assert np.mean(ratios) < 1.05


def test_an_input_that_never_varies_leaves_its_weights_alone():
    weight, second = layer(6, 4, 16)
    second[3], second[:, 3] = 0, 0
    kept = torch.rand(4, 16, generator=torch.Generator().manual_seed(0)) < 0.5
    kept[:, 3] = True
    assert torch.allclose(refitted(weight, kept, second, DAMPING)[:, 3], weight[:, 3])


@pytest.mark.parametrize(
    ("features", "widths"),
    [(2 * WIDEST, [WIDEST, WIDEST]), (WIDEST + 3, [388, 383]), (1, [1]), (9, [9])],
)
def test_wide_rows_are_taken_in_slices_and_joined_again(features, widths):
    matrix = torch.eye(features + 1, dtype=torch.float64).expand(2, -1, -1)
    systems = Systems(matrix, torch.randperm(features), intercept=False, step=4)
    weight = torch.randn(6, features)
    parts = systems.parts(weight)
    assert [part.shape for part in parts] == [(3, width) for width in widths * 2]
    assert [len(second) for second in systems.moments] == widths * 2
    assert torch.equal(systems.joined(parts, weight.shape), weight)


def test_parts_of_several_widths_share_one_order():
    one, second = layer(7, 4, 12)
    two, other = layer(8, 3, 8)
    pattern = pattern_of("1x4")
    both = remove_in_turn([one, two], [second, other], pattern)
    for i, (weight, matrix) in enumerate([(one, second), (two, other)]):
        alone = remove_in_turn([weight], [matrix], pattern)
        assert torch.equal(both.losses[i], alone.losses[0])
        assert torch.equal(
            both.scores[i].flatten().argsort(stable=True), alone.scores[0].flatten().argsort(stable=True)
        )
    assert both.scores[0].shape == one.shape and len(torch.cat([x.flatten() for x in both.scores]).unique()) == 18

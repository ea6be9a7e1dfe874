"""Choices have no order of cost: the wall is the exact least cost of what is left, compared with trying everything."""

from itertools import product

import numpy as np
import pytest

from search_spaces import AdditiveSpace, InfeasibleBudgetError, Knob, SpaceError
from search_spaces.spaces.choices import front
from tests.kits.toy_choices import ToyChoiceSpace


@pytest.fixture(scope="module")
def space():
    return ToyChoiceSpace()


@pytest.fixture(scope="module")
def every(space):
    """The levels of all networks, [n, n_knobs], and what they cost: metric -> [n]."""
    rows = np.array(list(product(*(knob.levels for knob in space.knobs))))
    return rows, {metric: np.array([space.cost_of_levels(row, metric) for row in rows]) for metric in space.metrics}


def random_limits(space, every, rng, metrics):
    return {metric: float(np.quantile(every[1][metric], rng.uniform(0.005, 0.3))) for metric in metrics}


def kept(every, limits):
    """Which networks keep the limits: [n] bool."""
    return np.all([every[1][metric] <= limit for metric, limit in limits.items()], axis=0)


def test_a_level_drawn_evenly_is_chosen_evenly():
    knob = Knob("kind", (0, 1, 2), "choice", kind="choice", labels=("a", "b", "c"))
    assert [knob.nearest(keep) for keep in (0.0, 0.32, 0.34, 0.66, 0.67, 1.0)] == [0, 0, 1, 1, 2, 2]
    assert [knob.nearest(knob.keep(level)) for level in knob.levels] == [0, 1, 2]
    assert knob.least == 0 and knob.original == 0 and Knob.from_record(knob.to_record()) == knob
    assert not Knob("pair", (0, 1), kind="choice").is_bit


def test_two_spellings_of_one_network_are_one_point(space):
    none = [0, 1, 2, 1, 1, 2, 4, 6, 12]
    assert space.point(none) == space.point([0, 1, 2, 2, 1, 2, 12, 6, 12])
    assert space.decode(space.encode(space.point(none))) == space.point(none)


@pytest.mark.parametrize("metrics", [("macs",), ("params",), ("macs", "params")])
def test_what_is_affordable_is_what_some_network_keeps(space, every, metrics):
    rng = np.random.default_rng(len(metrics))
    answers = []
    for _ in range(150):
        limits = random_limits(space, every, rng, metrics)
        levels = every[0][rng.integers(len(every[0]))]
        settled = rng.random(len(levels)) < 0.6
        fits = (every[0][:, settled] == levels[settled]).all(axis=1)
        answers.append(bool((fits & kept(every, limits)).any()))
        assert space.affordable(levels, settled, limits) == answers[-1]
    assert 0.1 < np.mean(answers) < 0.9, "both answers should be common"


@pytest.mark.parametrize("metrics", [("macs",), ("macs", "params")])
def test_the_wall_allows_what_can_still_be_completed_and_nothing_else(space, every, metrics):
    rng = np.random.default_rng(7)
    for _ in range(25):
        limits = random_limits(space, every, rng, metrics)
        prefix = []
        for t, knob in enumerate(space.knobs):
            found = space.allowed(prefix, limits)
            inside = every[0][kept(every, limits)]
            reachable = inside[(inside[:, :t] == prefix).all(axis=1)][:, t]
            at_lowest = np.concatenate([prefix, space.lowest[t:]]).astype(int)
            if not space.active(at_lowest)[t]:
                assert found == knob.levels[:1]
            elif knob.kind == "choice":
                assert set(found) == set(reachable.tolist())
            else:
                assert found and max(found) == max(reachable)
            assert space.bounds(prefix, limits) == (found[0], found[-1])
            prefix.append(int(rng.choice(found)))
        assert space.within(np.array(prefix), limits)


@pytest.mark.parametrize("metrics", [("macs",), ("macs", "params")])
def test_a_projection_keeps_the_limits_and_raises_amounts_until_none_can_rise(space, every, metrics):
    rng = np.random.default_rng(1)
    for _ in range(40):
        limits = random_limits(space, every, rng, metrics)
        point = space.project(rng.random(len(space.knobs)), limits)
        levels = space.levels(point)
        assert space.within(levels, limits) and space.point(levels.tolist()) == point
        for t in np.flatnonzero(space.active(levels) & np.array([knob.kind == "amount" for knob in space.knobs])):
            higher = [level for level in space.knobs[t].levels if level > levels[t]]
            raised = levels.copy()
            raised[t] = min(higher, default=levels[t])
            assert not higher or not space.within(raised, limits)


def test_what_is_affordable_is_projected_to_itself(space):
    rng = np.random.default_rng(2)
    for _ in range(20):
        wanted = rng.random(len(space.knobs))
        choices = [knob.name for knob in space.knobs if knob.kind == "choice"]
        asked, found = space.decode(wanted), space.project(wanted, {"macs": 1e9})
        assert [asked[name] for name in choices] == [found[name] for name in choices]


def test_a_repair_keeps_the_first_of_its_order(space):
    limits = {"macs": 2500.0}
    levels = [1, 1, 1, 1, 1, 1, 12, 12, 12]
    for first in range(3):
        others = [t for t in range(9) if t != first]
        point = space.repaired(levels, [first, *others], limits)
        assert point[f"kind{first}"] == 1 and space.within(space.levels(point), limits)
    assert space.repaired(levels, range(9), {"macs": 1e9}) == space.point(levels)


def test_least_costs_are_those_of_a_network(space, every):
    limits = {"macs": 5000.0, "params": 500.0}
    found = space.least_costs(limits)
    rows = np.flatnonzero((every[1]["macs"] == found["macs"]) & (every[1]["params"] == found["params"]))
    assert len(rows)


def test_a_budget_that_nothing_keeps_says_what_can_be_kept():
    knobs = [Knob(f"edge{i}", (0, 1), "choice", kind="choice", labels=("wide", "deep")) for i in range(3)]
    parts = {"macs": [np.array([5, 1])] * 3, "params": [np.array([1, 4])] * 3}
    space = AdditiveSpace(knobs, {"macs": 2.0, "params": 0.0}, parts)
    with pytest.raises(InfeasibleBudgetError, match="has macs <= 4: the smallest has 5"):
        space.require_feasible({"macs": 4.0})
    with pytest.raises(SpaceError, match="no budget on 'watts': this space predicts macs, params"):
        space.require_feasible({"watts": 10.0})
    with pytest.raises(InfeasibleBudgetError, match=r"keeps all limits at once.*the least macs is 13, and.* 12"):
        space.require_feasible({"macs": 12.0, "params": 6.0})


def test_sums_over_knobs_are_a_space_of_their_own():
    knobs = [Knob(f"edge{i}", (0, 1, 2), "choice", kind="choice", labels=("a", "b", "c")) for i in range(3)]
    parts = {"macs": [np.array([5, 0, 9])] * 3, "params": [np.array([0, 4, 1])] * 3}
    space = AdditiveSpace(knobs, {"macs": 2.0, "params": 1.0}, parts)
    assert space.cost(space.point([0, 1, 2]), "macs") == 16 and space.cost(space.point([0, 1, 2]), "params") == 6
    assert space.allowed([2], {"macs": 11.0}) == (1,) and space.allowed([], {"macs": 16.0}) == (0, 1, 2)
    assert space.allowed([1], {"macs": 20.0, "params": 6.0}) == (0, 2)
    with pytest.raises(InfeasibleBudgetError, match="the smallest has 2"):
        space.require_feasible({"macs": 1.0})
    assert space.sequence(space.point([0, 1, 2])).shape == (3, 3 + 1 + 3)
    assert space.features().max() == 1


def test_a_front_has_nothing_that_another_beats():
    assert front([(1.0, 5.0), (2.0, 2.0), (2.0, 3.0), (5.0, 1.0), (6.0, 1.0)]) == [(1.0, 5.0), (2.0, 2.0), (5.0, 1.0)]

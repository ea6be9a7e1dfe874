"""Where some knobs make others inactive, what an agent holds is canonical, legal and within the limits."""

import numpy as np
import pytest

import agents
from agents import Goal
from agents.candidates import best_candidate, draw
from automl.testing.agent_kit import play
from tests.kits.toy_depth import ToyDepthAccuracy, ToyDepthSpace

NAMES = {"random": {}, "evolution": {"population": 4}, "tpe": {"startup": 4}, "nsga2": {"population": 4}}
NAMES |= {"bo": {"startup": 6, "candidates": 50}, "esnac": {"startup": 4, "candidates": 50, "steps": 2}}
NAMES |= {"n2n": {"rollouts": 2}}


@pytest.fixture(scope="module")
def problem():
    return ToyDepthAccuracy(ToyDepthSpace(), needed=(1, 3))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("limited", [True, False])
def test_points_are_canonical_within_the_limits_and_remove_blocks(problem, name, limited):
    space, limits = problem.space, problem.limits if limited else {}
    goal = Goal("accuracy", "maximize")
    agent = agents.create(name, space=space, goal=goal, limits=limits, seed=0, trials=12, **NAMES[name])
    points = [trial.point for trial in play(agent, problem, 12, limits=limits)]
    assert len(points) == 12
    assert all(space.point(space.levels(point).tolist()) == point for point in points)
    assert all(space.within(space.levels(point), limits) for point in points)
    patterns = {tuple(point[f"block{i}"] for i in range(4)) for point in points}
    assert len(patterns) >= 3


def test_candidates_are_legal_and_of_many_patterns(problem):
    space, rng = problem.space, np.random.default_rng(0)
    start = [space.project(np.ones(len(space.knobs)), problem.limits)]
    points = list(draw(space, problem.limits, start, 300, rng))
    assert len(points) == 300 and len(set(points)) > 100
    assert all(space.within(space.levels(point), problem.limits) for point in points)
    assert len({tuple(point[f"block{i}"] for i in range(4)) for point in points}) >= 10
    assert all({point[knob.name] for point in points} >= {knob.levels[0]} for knob in space.knobs)


def test_the_best_candidate_is_filled_up_new_and_the_one_that_promises_most(problem):
    space = problem.space
    start = [space.project(np.ones(len(space.knobs)), problem.limits)]

    def acquisition(points):
        return np.array([point["width1"] * point["block1"] for point in points], dtype=float)

    found = best_candidate(space, problem.limits, start, set(start), acquisition, 400, np.random.default_rng(0))
    drawn = list(draw(space, problem.limits, start, 400, np.random.default_rng(0)))
    assert found not in start and acquisition([found]) >= acquisition(drawn).max() > acquisition(start)
    assert acquisition([found]) >= 12
    again = best_candidate(space, problem.limits, start, {found}, acquisition, 400, np.random.default_rng(0))
    assert again != found


def test_where_all_is_known_there_is_no_candidate():
    space = ToyDepthSpace(blocks=1, size=2)
    points = set(draw(space, {}, [space.point([1, 2, 1])], 200, np.random.default_rng(0)))
    assert len(points) == 4
    nothing = best_candidate(space, {}, [], points, lambda found: np.zeros(len(found)), 50, np.random.default_rng(1))
    assert nothing is None


def test_a_sequence_has_a_row_for_what_is_there(problem):
    space = problem.space
    whole = space.sequence(space.point(space.highest.tolist()))
    assert whole.shape == (9, 4) and whole.dtype == np.float32 and (whole[:, -1] == 1).all()
    least = space.sequence(space.point(space.lowest.tolist()))
    assert least.shape == (1, 4) and not least.any(), "every block is gone, and no width is active"

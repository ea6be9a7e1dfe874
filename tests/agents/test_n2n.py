"""N2N: two policies learn from what was executed, the budget is kept."""

import numpy as np
import pytest
import torch

import agents
from agents import AgentError, Goal, Trial, TrialState
from agents.n2n import KEEPS, squeezed
from automl.testing.agent_kit import AgentConformance, done, play
from automl.testing.toy_space import toy_problem
from tests.kits.toy_depth import ToyDepthAccuracy, ToyDepthSpace

GOAL = Goal("accuracy", "maximize")


class TestN2n(AgentConformance):
    agent_name = "n2n"
    options = {"rollouts": 2, "hidden": 8, "layers": 1}


@pytest.fixture
def problem():
    return ToyDepthAccuracy(ToyDepthSpace(), needed=(1, 3))


def create(space, trials=20, limits=None, **options):
    return agents.create("n2n", space=space, goal=GOAL, limits=limits or {}, seed=0, trials=trials, **options)


def test_the_first_stage_removes_and_the_second_shrinks_the_best_of_the_first(problem):
    space = problem.space
    history = play(create(space), problem, 20, limits={})
    first, second = history[:10], history[10:]
    assert {t.point[f"width{i}"] for t in first for i in range(4) if t.point[f"block{i}"]} == {16}
    best = max(first, key=lambda trial: trial.values["accuracy"]).point
    assert all(trial.point[f"block{i}"] == best[f"block{i}"] for trial in second for i in range(4))
    assert len({trial.point for trial in second}) > 5
    assert {trial.point["skip"] for trial in history} == {space.knobs[-1].nearest(1.0)}


def test_a_policy_for_blocks_learns_which_to_keep():
    """On 300 roll-outs of six blocks, a point for each right choice: the last fifty average more than 5 of 6."""
    space = ToyDepthSpace(blocks=6)
    right = np.array([0, 1, 1, 0, 1, 0])

    def reward(point):
        return float(sum(point[f"block{i}"] == right[i] for i in range(6)))

    agent = create(space, trials=300, removal_trials=300, removal_lr=0.03)
    rewards = [trial.values["accuracy"] for trial in play(agent, Problem(space, reward), 300, limits={})]
    assert np.mean(rewards[:50]) < 4 and np.mean(rewards[-50:]) > 5


def test_a_policy_for_widths_learns_which_to_name():
    """The closer each of six widths is to 0.4, the better: the last fifty of 300 are closer by half than the first."""
    space = toy_problem().space

    def reward(point):
        return -float(np.abs(space.encode(point) - 0.4).mean())

    agent = create(space, trials=300, shrinkage_lr=0.03)
    rewards = [trial.values["accuracy"] for trial in play(agent, Problem(space, reward), 300, limits={})]
    assert np.mean(rewards[-50:]) > 0.5 * np.mean(rewards[:50])


class Problem:
    """A space and what its Points are worth."""

    def __init__(self, space, reward):
        self.space, self.reward, self.limits = space, reward, {}

    def __call__(self, point):
        return self.reward(point)


def test_what_was_better_than_usual_becomes_likelier(problem):
    agent = create(problem.space, rollouts=2)
    better, worse = [1, 0, 1, 0], [0, 1, 0, 1]

    def chance(actions):
        rows = agent.removal.rows
        with torch.no_grad():
            return float(agent.removal.policy.log_probabilities(rows, ())[range(4), actions].sum())

    before = chance(better), chance(worse)
    for number, (bits, value) in enumerate([(better, 0.9), (worse, 0.1)]):
        levels = [level for bit in bits for level in (bit, 16 if bit else 2)]
        agent.tell([done(number, problem.space.point([*levels, 1]), value)])
    assert chance(better) > before[0] and chance(worse) < before[1]


def test_the_baseline_is_a_moving_average_over_batches(problem):
    agent = create(problem.space, rollouts=2, decay=0.5)
    for number, value in enumerate([0.2, 0.4, 0.8, 1.0]):
        agent.tell([done(number, agent.ask(1, [])[0], value)])
    assert agent.diagnostics() == {"removal_baseline": pytest.approx((0.3 + 0.9) / 2)}


def test_drawing_and_learning_see_the_same_policy():
    """The memory carried from step to step is that of the whole sequence read at once."""
    agent = create(toy_problem().space)
    policy, rows = agent.shrinkage.policy, agent.shrinkage.rows
    with torch.no_grad():
        drawn = [tuple(policy.sample(rows, np.random.default_rng(seed))) for seed in range(800)]
        first = policy.log_probabilities(rows, drawn[0]).exp().numpy()
    shares = np.bincount([actions[0] for actions in drawn], minlength=10) / 800
    assert shares == pytest.approx(first[0], abs=0.04)
    alike = [actions[1] for actions in drawn if actions[0] == drawn[0][0]]
    assert np.bincount(alike, minlength=10) / len(alike) == pytest.approx(first[1], abs=0.12)


def test_widths_of_removed_blocks_are_passed_over(problem):
    agent = create(problem.space)
    levels = problem.space.levels(problem.space.point([1, 8, 0, 8, 1, 4, 0, 2, 1])).tolist()
    assert agent._active(levels) == [0, 2]


def test_the_budget_scales_widths_and_leaves_the_removal_as_it_is(problem):
    space = problem.space
    point = squeezed(space, [0, 16, 1, 16, 0, 16, 1, 8, 1], [1, 3, 5, 7], {"macs": 60 + 9 * 12})
    assert [point[f"block{i}"] for i in range(4)] == [0, 1, 0, 1]
    assert point["width1"] == 8 and point["width3"] == 4
    crowded = squeezed(space, [1, 16] * 4 + [1], [1, 3, 5, 7], {"macs": 60 + 9 * 6})
    assert space.within(space.levels(crowded), {"macs": 60 + 9 * 6})


def test_trials_without_a_value_are_counted_and_teach_nothing(problem):
    agent = create(problem.space, rollouts=1)
    before = [parameter.clone() for parameter in agent.removal.policy.parameters()]
    agent.tell([Trial(0, agent.ask(1, [])[0], TrialState.FAILED, {}, "made to")])
    assert all(torch.equal(a, b) for a, b in zip(before, agent.removal.policy.parameters(), strict=True))
    assert agent.told == 1


def test_ten_fractions_and_senseless_options():
    assert KEEPS.tolist() == pytest.approx([0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0])
    for option, value in (("rollouts", 0), ("decay", 1.0), ("removal_lr", -0.1), ("hidden", 1.5)):
        with pytest.raises(AgentError, match=f"option '{option}': expected .*, got {value!r}"):
            create(toy_problem().space, **{option: value})

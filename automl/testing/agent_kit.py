"""What any agent must do, whatever its algorithm: subclass, name the agent, and collect the tests."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import numpy as np
import pytest
import torch

import agents
from agents import Agent, Goal, NumberedAgent, Sensitivity, Trial, TrialState
from automl.testing.toy_space import ToyAccuracy, ToySpace, toy_problem
from search_spaces import CostedSpace, Point

GOAL = Goal("accuracy", "maximize")
TRIALS = 16


def done(number: int, point: Point, value: float) -> Trial:
    """A trial that has finished with this accuracy."""
    return Trial(number, point, TrialState.DONE, {"accuracy": value})


def finished(number: int, point: Point, problem: ToyAccuracy, limits: Mapping[str, float] | None = None) -> Trial:
    """Done with its accuracy, or over `limits` (by default the problem's) and infeasible with it."""
    limits = problem.limits if limits is None else limits
    if problem.space.within(problem.space.levels(point), limits):
        return done(number, point, problem(point))
    return Trial(number, point, TrialState.INFEASIBLE, {"accuracy": problem(point)}, "over the budget")


def play(
    agent: Agent,
    problem: ToyAccuracy,
    trials: int,
    first: int = 0,
    limits: Mapping[str, float] | None = None,
) -> list[Trial]:
    """One worker, trial after trial; ends early when the agent has nothing more to try."""
    history = []
    for number in range(first, first + trials):
        points = agent.ask(1, [])
        if not points:
            break
        history.append(finished(number, points[0], problem, limits))
        agent.tell(history[-1:])
    return history


def assert_budget_used_up(space: CostedSpace, point: Point, limits: Mapping[str, float]) -> None:
    """Within every limit, and no knob could rise by a single level."""
    levels = space.levels(point)
    assert space.within(levels, limits)
    for t, knob in enumerate(space.knobs):
        higher = [level for level in knob.levels if level > levels[t]]
        if higher:
            raised = levels.copy()
            raised[t] = higher[0]
            assert not space.within(raised, limits), f"{knob.name} could rise from {levels[t]} to {higher[0]}"


def seeds_differ_after(rules: int) -> Callable[[AgentConformance, ToyAccuracy], None]:
    """In place of `test_seeds_differ`, for an agent whose first `rules` trials are rules."""

    def test_seeds_differ(kit: AgentConformance, problem: ToyAccuracy) -> None:
        asked = [list(kit.create(problem, seed).ask(rules + 2, [])) for seed in range(4)]
        assert len({tuple(points[:rules]) for points in asked}) == 1
        assert len({point for points in asked for point in points[rules:]}) == 8

    return test_seeds_differ


class AgentConformance:
    """Set `agent_name`; `options` should make the agent leave its first phase well before trial `TRIALS`."""

    agent_name: ClassVar[str]
    options: ClassVar[dict[str, Any]] = {}
    stays_within: ClassVar[bool] = True
    """Whether every Point keeps the limits. If not, at least one of `TRIALS` does."""
    fills_budget: ClassVar[bool] = True
    """Whether a Point within the limits uses them up."""
    may_wait: ClassVar[bool] = False
    """Whether the agent may want to hear of running trials first."""

    @pytest.fixture
    def problem(self) -> ToyAccuracy:
        """What the agent is set to search."""
        return toy_problem()

    def create(self, problem: ToyAccuracy, seed: int = 0, limits: Mapping[str, float] | None = None) -> Agent:
        """A new agent, under `limits`, by default the problem's."""
        return agents.create(
            self.agent_name,
            space=problem.space,
            goal=GOAL,
            limits=problem.limits if limits is None else limits,
            seed=seed,
            trials=TRIALS,
            sensitivity=self.sensitivity(problem),
            learnt=self.learnt(problem),
            **self.options,
        )

    def sensitivity(self, problem: ToyAccuracy) -> Sensitivity | None:
        """The error curves, for an agent that uses them."""
        return problem.sensitivity if agents.uses_sensitivity(self.agent_name) else None

    def learnt(self, problem: ToyAccuracy) -> Mapping[str, float] | None:
        """What gates have learnt, for an agent that proposes it."""
        return problem.learnt if agents.learns_widths(self.agent_name) else None

    def assert_keeps(self, space: CostedSpace, point: Point, limits: Mapping[str, float]) -> None:
        """What this agent promises of a Point."""
        inside = space.within(space.levels(point), limits)
        assert inside or not self.stays_within
        if inside and self.fills_budget:
            assert_budget_used_up(space, point, limits)

    def test_it_is_an_agent(self, problem: ToyAccuracy) -> None:
        agent = self.create(problem)
        assert isinstance(agent, NumberedAgent)
        assert agent.stays_within == self.stays_within
        assert self.agent_name in agents.names() or agents.is_own(self.agent_name)

    def test_every_point_is_legal_and_uses_the_budget_up(self, problem: ToyAccuracy) -> None:
        history = play(self.create(problem), problem, TRIALS)
        for trial in history:
            self.assert_keeps(problem.space, trial.point, problem.limits)
            assert problem.space.point(problem.space.levels(trial.point).tolist()) == trial.point
        assert any(trial.state is TrialState.DONE for trial in history)

    def test_fine_steps_use_ninety_nine_per_cent(self) -> None:
        problem = ToyAccuracy(ToySpace(widths=(128, 192, 256, 256)[:4], strides=(2, 2, 1, 1)), (0.5,) * 4, (1.0,) * 4)
        if not self.fills_budget:
            pytest.skip("an agent that looks below the budget too")
        for trial in play(self.create(problem), problem, TRIALS):
            assert problem.space.cost(trial.point, "macs") >= 0.99 * problem.limits["macs"]

    def test_several_limits_are_kept_together(self, problem: ToyAccuracy) -> None:
        whole = problem.space.point(problem.space.highest.tolist())
        limits = {"macs": 0.5 * problem.space.cost(whole, "macs"), "params": 0.3 * problem.space.cost(whole, "params")}
        history = play(self.create(problem, limits=limits), problem, TRIALS, limits=limits)
        for trial in history:
            self.assert_keeps(problem.space, trial.point, limits)
        assert any(trial.state is TrialState.DONE for trial in history)

    def test_with_a_limit_that_does_not_bind_the_network_stays_whole(self, problem: ToyAccuracy) -> None:
        if not self.fills_budget:
            pytest.skip("an agent that looks below the budget too")
        for trial in play(self.create(problem, limits={"macs": 1e12}), problem, TRIALS):
            assert problem.space.levels(trial.point).tolist() == problem.space.highest.tolist()

    def test_without_any_limit_every_point_is_legal(self, problem: ToyAccuracy) -> None:
        history = play(self.create(problem, limits={}), problem, TRIALS)
        assert history
        for trial in history:
            assert problem.space.point(problem.space.levels(trial.point).tolist()) == trial.point

    def test_asking_changes_nothing(self, problem: ToyAccuracy) -> None:
        curious, quiet = self.create(problem), self.create(problem)
        for number in range(TRIALS):
            points = curious.ask(1, [])
            assert list(curious.ask(3, []))[:1] == list(points) == list(curious.ask(1, []))
            assert list(quiet.ask(1, [])) == list(points)
            if points:
                trial = done(number, points[0], problem(points[0]))
                curious.tell([trial])
                quiet.tell([trial])

    def test_a_told_history_restores_the_agent_exactly(self, problem: ToyAccuracy) -> None:
        history = play(self.create(problem), problem, TRIALS)
        for known in (TRIALS // 2, TRIALS - 1):
            restored = self.create(problem)
            restored.tell(history[:known])
            rest = play(restored, problem, TRIALS - known, first=known)
            assert history[:known] + rest == history

    def test_a_parallel_history_restores_the_agent_exactly(self, problem: ToyAccuracy) -> None:
        agent, running, told = self.create(problem), list[Trial](), list[Trial]()
        asked: list[tuple[int, list[Trial], Point]] = []
        while (number := len(told) + len(running)) < TRIALS:
            points = agent.ask(1, running)
            if points:
                asked.append((len(told), list(running), points[0]))
                running.append(Trial(number, points[0]))
            elif not running:
                break
            if len(running) == 3 or not points:  # the youngest finishes first
                youngest = running.pop()
                told.append(finished(youngest.number, youngest.point, problem))
                agent.tell(told[-1:])
        for known, then_running, point in asked:
            restored = self.create(problem)
            restored.tell(told[:known])
            assert list(restored.ask(1, then_running)) == [point]

    def test_a_batch_is_what_one_by_one_would_be(self, problem: ToyAccuracy) -> None:
        agent = self.create(problem)
        history = play(agent, problem, TRIALS // 2)
        batch = list(agent.ask(4, []))
        running: list[Trial] = []
        for point in batch:
            assert list(agent.ask(1, running)) == [point]
            running.append(Trial(len(history) + len(running), point))

    def test_points_asked_for_together_differ(self, problem: ToyAccuracy) -> None:
        agent = self.create(problem)
        for number in range(TRIALS):
            points = list(agent.ask(4, []))
            expected = min(4, (agent.max_trials or 4 + number) - number)
            assert len(set(points)) == len(points)
            assert len(points) == expected or (self.may_wait and 0 < len(points) < expected)
            if not points:
                break
            agent.tell([done(number, points[0], problem(points[0]))])

    def test_where_few_points_are_left_it_waits_rather_than_repeat_a_running_one(self) -> None:
        space = ToySpace(widths=(4, 4), strides=(1, 1), min_keep=0.25)
        problem = ToyAccuracy(space, (0.5, 0.5), (1.0, 1.0))
        points = list(self.create(problem).ask(30, []))
        assert 1 <= len(points) < 30
        assert len(set(points)) == len(points)
        for point in points:
            self.assert_keeps(space, point, problem.limits)

    def test_trials_without_a_value_are_counted_and_survived(self, problem: ToyAccuracy) -> None:
        agent = self.create(problem)
        states = (TrialState.FAILED, TrialState.INFEASIBLE, TrialState.STOPPED, TrialState.DONE)
        for number in range(TRIALS):
            points = agent.ask(1, [])
            if not points:
                break
            self.assert_keeps(problem.space, points[0], problem.limits)
            state = states[number % len(states)]
            values = {"accuracy": problem(points[0])} if state is TrialState.DONE else {}
            agent.tell([Trial(number, points[0], state, values, "made to")])

    def test_seeds_differ(self, problem: ToyAccuracy) -> None:
        if self.create(problem).max_trials is not None:
            pytest.skip("a rule without randomness")
        first = [list(self.create(problem, seed).ask(1, [])) for seed in range(4)]
        assert len({point for points in first for point in points}) == 4

    def test_nothing_global_is_touched(self, problem: ToyAccuracy) -> None:
        before = _global_state()
        play(self.create(problem), problem, TRIALS)
        assert _global_state() == before

    def test_a_minimised_goal_is_learnt_from_too(self, problem: ToyAccuracy) -> None:
        agent = agents.create(
            self.agent_name,
            space=problem.space,
            goal=Goal("loss", "minimize"),
            limits=problem.limits,
            seed=0,
            trials=TRIALS,
            sensitivity=self.sensitivity(problem),
            learnt=self.learnt(problem),
            **self.options,
        )
        as_accuracy = self.create(problem)
        for number in range(TRIALS):
            points = agent.ask(1, [])
            assert list(points) == list(as_accuracy.ask(1, []))
            if not points:
                break
            loss = 1 - problem(points[0])
            agent.tell([Trial(number, points[0], TrialState.DONE, {"loss": loss})])
            as_accuracy.tell([done(number, points[0], -loss)])


def _global_state() -> tuple[object, ...]:
    """Every generator of randomness that belongs to all, and how many threads there are."""
    numpy_state = np.random.get_state(legacy=False)["state"]  # noqa: NPY002
    return random.getstate(), numpy_state["key"].tolist(), torch.get_rng_state().tolist(), torch.get_num_threads()

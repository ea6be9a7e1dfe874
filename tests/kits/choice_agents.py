"""What an agent that takes choices must do on a space of them, beside all that any agent must."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest

from agents import TrialState
from automl.testing.agent_kit import TRIALS, AgentConformance, play
from search_spaces import CostedSpace, Point
from tests.kits.toy_choices import ToyChoiceAccuracy, ToyChoiceSpace


class ChoiceConformance(AgentConformance):
    """As `AgentConformance`; of what is raised until the budget is used up there are the amounts only."""

    @pytest.fixture
    def problem(self) -> ToyChoiceAccuracy:
        return ToyChoiceAccuracy(ToyChoiceSpace())

    def assert_keeps(self, space: CostedSpace, point: Point, limits: Mapping[str, float]) -> None:
        levels = space.levels(point)
        assert space.within(levels, limits)
        if self.fills_budget:
            for t in np.flatnonzero(space.active(levels)):
                higher = [level for level in space.knobs[t].levels if level > levels[t]]
                if space.knobs[t].kind == "amount" and higher:
                    raised = levels.copy()
                    raised[t] = higher[0]
                    assert not space.within(raised, limits), f"{space.knobs[t].name} could rise"

    def test_several_limits_are_kept_together(self, problem: ToyChoiceAccuracy) -> None:
        limits = {"macs": 5000.0, "params": 300.0}
        history = play(self.create(problem, limits=limits), problem, TRIALS, limits=limits)
        assert len({trial.point for trial in history}) > 4
        for trial in history:
            self.assert_keeps(problem.space, trial.point, limits)

    def test_with_a_limit_that_does_not_bind_the_network_stays_whole(self, problem: ToyChoiceAccuracy) -> None:
        """Of choices nothing is whole: they differ, and the amounts alone are."""
        history = play(self.create(problem, limits={"macs": 1e12}), problem, TRIALS, limits={"macs": 1e12})
        assert len({trial.point for trial in history}) > 1
        for trial in history:
            self.assert_keeps(problem.space, trial.point, {"macs": 1e12})

    def test_fine_steps_use_ninety_nine_per_cent(self) -> None:
        """There are none: a choice is a coarse step."""

    def test_where_few_points_are_left_it_waits_rather_than_repeat_a_running_one(self) -> None:
        space = ToyChoiceSpace(parts=1, widths=(4,))
        problem = ToyChoiceAccuracy(space)
        points = list(self.create(problem, limits={"macs": 1e6}).ask(30, []))
        assert 1 <= len(points) <= 5 and len(set(points)) == len(points)

    def test_seeds_differ(self, problem: ToyChoiceAccuracy) -> None:
        """Few networks keep the limits, so that two seeds may begin with the same."""
        asked = [tuple(self.create(problem, seed).ask(2, [])) for seed in range(4)]
        assert len(set(asked)) >= 3

    def test_choices_differ_from_trial_to_trial(self, problem: ToyChoiceAccuracy) -> None:
        history = play(self.create(problem), problem, TRIALS)
        kinds = {tuple(trial.point[f"kind{i}"] for i in range(3)) for trial in history}
        assert len(kinds) >= 4 and all(trial.state is TrialState.DONE for trial in history)

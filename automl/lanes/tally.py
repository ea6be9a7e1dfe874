"""How far a study is: trials finished of those planned, the best value of each lane, the time left."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from agents import Goal, TrialState
from automl.lanes.session import Session
from automl.util.duration import duration

if TYPE_CHECKING:
    from automl.store import TrialRecord

RECENT = 40
"""How many trials the time left is told from."""


@dataclass
class Lane:
    """How far an agent with a seed is."""

    agent: str
    seed: int
    planned: int = 1
    finished: int = 0
    failed: int = 0
    best: float | None = None
    """The value of the best trial that is done."""
    budget_use: dict[str, float] = field(default_factory=dict)
    """Metric -> what that trial costs, as a fraction of the limit."""
    session: Session | None = None

    @property
    def running(self) -> int:
        """How many trials are under way."""
        return len(self.session.running) if self.session is not None else 0

    def take(self, record: TrialRecord, goal: Goal, limits: Mapping[str, float]) -> None:
        """Count a trial that has finished."""
        self.finished += 1
        self.failed += record.state is TrialState.FAILED
        if record.state is TrialState.DONE:
            value = record.values[goal.metric]
            if self.best is None or goal.utility(value) > goal.utility(self.best):
                self.best = value
                self.budget_use = {m: record.values[m] / limits[m] for m in limits if m in record.values and limits[m]}


class Tally:
    """Counts the finished trials of every lane against those planned."""

    def __init__(self, goal: Goal) -> None:
        self.goal = goal
        self.lanes: dict[tuple[str, int], Lane] = {}
        self._limits: Mapping[str, float] = {}
        self._ends: deque[float] = deque(maxlen=RECENT)

    @property
    def finished(self) -> int:
        """How many trials have finished, of all lanes."""
        return sum(lane.finished for lane in list(self.lanes.values()))

    @property
    def planned(self) -> int:
        """How many there are to be."""
        return sum(lane.planned for lane in list(self.lanes.values()))

    @property
    def left_s(self) -> float | None:
        """The time left in seconds; None until it can be told."""
        left = self.planned - self.finished
        if len(self._ends) < 3 or left <= 0:
            return None
        # The pace of the last trials: what comes before the first ones, such as starting workers, is paid for.
        return (self._ends[-1] - self._ends[0]) / (len(self._ends) - 1) * left

    @property
    def summary(self) -> str:
        """How much is done, and the time left once it can be told."""
        left_s = self.left_s
        left = "" if left_s is None else f", about {duration(left_s)} left"
        return f"{self.finished} of {self.planned} trials{left}"

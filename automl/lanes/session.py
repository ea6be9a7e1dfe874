"""One lane of a study, an agent with a seed: the one place where agent and store meet.

Write first, then learn: a trial is in the database before it is handed out, and its outcome before the agent hears of
it. Resume is replay: a new Session tells a new agent what the database holds, in the order in which it was told first.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Protocol

from agents import Agent, Goal, Trial, TrialState, trials_of_use
from automl.types import Outcome, Phase
from search_spaces import Point

if TYPE_CHECKING:  # the workers of a sweep need this file, and not the database
    from automl.store import Store, StudyRecord, TrialRecord

Observer = Callable[["TrialRecord"], None]
"""Called with every trial that finishes, after the agent has been told."""


class Proposer(Protocol):
    """What a runner needs: trials to run, and somewhere to hand their outcomes."""

    @property
    def finished(self) -> Sequence[TrialRecord]:
        """The trials that have finished, those of earlier processes too."""

    @property
    def done(self) -> bool:
        """Whether nothing is running and nothing will be proposed any more."""

    def propose(self) -> TrialRecord | None:
        """The next trial to run, already recorded as running; None if there is none now."""

    def rival(self, trial_id: int) -> Point | None:
        """The best Point that the lane of a proposed trial knows: what the trial has to beat."""

    def finish(self, trial_id: int, outcome: Outcome) -> TrialRecord:
        """Record how a proposed trial ended, then let the agent learn from it."""

    def fail_attempt(self, trial_id: int, reason: str) -> TrialRecord:
        """Record that a proposed trial came to no outcome by its own fault, such as a worker that died.

        It is running still, and to be run again, or set aside as failed: the record's state tells.
        """


class Session:
    """One lane: at most `trials` trials of one agent with one seed, resumed from the database if they are there."""

    def __init__(
        self,
        store: Store,
        study: StudyRecord,
        agent_name: str,
        seed: int,
        agent: Agent,
        trials: int,
        *,
        seconds: float | None = None,
        goal: Goal | None = None,
        observers: Sequence[Observer] = (),
        max_attempts: int = 1,
        apart: Callable[[], Collection[str]] = tuple,
        keeps: Callable[[Point], bool] = lambda point: True,
    ) -> None:
        """`seconds`: what its trials may take, added up: after that none begins. `goal`: by which the trials of the
        lane race each other; None for no race. `max_attempts`: how often a trial may fail to come to an outcome before
        it is set aside (see `fail_attempt`). `apart`: gives the lanes whose trials answer none of this one, since they
        were judged in another way. `keeps`: whether a Point keeps the budget as it is foretold now, where that may
        change in the course of the lane."""
        self.agent_name = agent_name
        self.seed = seed
        self.trials = trials_of_use(agent, trials)
        """How many trials the lane has when it is done."""
        self.pause = self.trials
        """After so many trials, `trials` at most, it proposes none, until this is raised."""
        self._store = store
        self._study = study
        self._agent = agent
        self._goal = goal
        self._observers = tuple(observers)
        self._max_attempts = max_attempts
        self._apart = apart
        self._keeps = keeps
        self._seconds_left = math.inf if seconds is None else seconds
        self._exhausted = False
        records = store.trials(study.id, agent=agent_name, seed=seed)
        self.finished = sorted(
            (record for record in records if record.state.finished), key=lambda record: record.finish_order or 0
        )
        """The lane's finished trials in the order in which the agent was told of them."""
        self._leader: TrialRecord | None = None
        self.go_on(agent)
        for record in self.finished:
            self._spend(record)
        self._interrupted = deque(record for record in records if not record.state.finished)
        self.running: dict[int, TrialRecord] = {}
        """The trials handed out, by id."""

    def go_on(self, agent: Agent) -> None:
        """Let `agent` propose from here on, told of all that has finished: of what no longer keeps the budget, that."""
        self._agent, self._exhausted = agent, False
        for record in self.finished:
            agent.tell([self._told(record)])
        if self._goal is not None:
            self._leader = best_of([record for record in self.finished if self._keeps(record.point)], self._goal)

    @property
    def begun(self) -> bool:
        """Whether any trial has been proposed, in an earlier process too."""
        return bool(self.finished or self.running or self._interrupted)

    @property
    def done(self) -> bool:
        """Whether nothing is running and nothing will be proposed, before it is to go on from a pause if ever."""
        if self.running or self._interrupted:
            return False
        return self._exhausted or len(self.finished) >= self.pause or self._seconds_left <= 0

    def propose(self) -> TrialRecord | None:
        """The next trial to run, already recorded as running; None if there is none now.

        Trials that an earlier process left running come first. A Point whose value the study knows already, from
        any lane, is answered from the record, counts as a trial, and the next is proposed.
        """
        while True:
            record = self._next()
            if record is None:
                return None
            self.running[record.id] = record
            known = self._store.find_done(self._study.id, record.point.key, self._apart())
            if known is None:
                return record
            measurements = [m for m in known.measurements if m.phase == Phase.SEARCH]
            self._close(record.id, Outcome.done(measurements), repeat_of=known.repeat_of or known.id)

    def rival(self, trial_id: int) -> Point | None:
        """The best Point of the lane so far, in a race; else None."""
        return self._leader.point if self._leader is not None else None

    def finish(self, trial_id: int, outcome: Outcome) -> TrialRecord:
        """Record how a proposed trial ended, then let the agent learn from it."""
        return self._close(trial_id, outcome)

    def fail_attempt(self, trial_id: int, reason: str) -> TrialRecord:
        """Record that a proposed trial came to no outcome by its own fault: running again, or set aside as failed."""
        record = self._store.fail_attempt(trial_id, reason, max_attempts=self._max_attempts)
        if record.state.finished:
            return self._learn(record)
        self.running[trial_id] = record
        return record

    def best(self, goal: Goal) -> TrialRecord | None:
        """The finished trial of highest utility, the earlier of two as good; None if none is done."""
        return best_of(self.finished, goal)

    def _next(self) -> TrialRecord | None:
        if self._interrupted:
            return self._store.reopen_trial(self._interrupted.popleft().id)
        number = len(self.finished) + len(self.running)
        if self._exhausted or number >= self.pause or self._seconds_left <= 0:
            return None
        points = self._agent.ask(1, [record.to_trial() for record in self.running.values()])
        if not points:
            self._exhausted = not self.running  # nothing is left that could change the agent's mind
            return None
        return self._store.open_trial(self._study.id, self.agent_name, self.seed, number, points[0])

    def _close(self, trial_id: int, outcome: Outcome, repeat_of: int | None = None) -> TrialRecord:
        return self._learn(self._store.close_trial(trial_id, outcome, repeat_of=repeat_of))

    def _learn(self, record: TrialRecord) -> TrialRecord:
        """Tell everyone of a trial that is closed."""
        del self.running[record.id]
        self.finished.append(record)
        self._spend(record)
        if self._goal is not None:  # of two as good the earlier
            self._leader = best_of([self._leader, record] if self._leader else [record], self._goal)
        self._agent.tell([self._told(record)])
        record = self._diagnosed(record)
        for observer in self._observers:
            observer(record)
        return record

    def _told(self, record: TrialRecord) -> Trial:
        """The trial as the agent hears of it."""
        trial = record.to_trial()
        if trial.state is TrialState.DONE and not self._keeps(record.point):
            return replace(trial, state=TrialState.INFEASIBLE)
        return trial

    def _spend(self, record: TrialRecord) -> None:
        """Take from the time that is left what a trial took, or the one that it repeats: lanes have equal budgets."""
        if math.isfinite(self._seconds_left):
            took = record if record.repeat_of is None else self._store.trial(record.repeat_of)
            self._seconds_left -= took.wall_s or 0.0

    def _diagnosed(self, record: TrialRecord) -> TrialRecord:
        """Record what the agent tells of itself, if it does and has had a value to learn from.

        A process that dies before loses these numbers and nothing else: a replay tells outcomes, and reads none.
        """
        diagnostics: Mapping[str, float] = getattr(self._agent, "diagnostics", dict)() if record.values else {}
        # A critic may diverge; that is the agent's affair, and no reason to end the study.
        finite = {name: float(value) for name, value in diagnostics.items() if math.isfinite(value)}
        if not finite:
            return record
        self._store.add_diagnostics(record.id, finite)
        return replace(record, diagnostics=finite)


class Lanes:
    """Several sessions as one: hands out from the session with the fewest running trials, the first of several.

    With one worker the lanes run one after the other. With more, lanes share the workers, so that an agent learns
    from most of its trials before it proposes the next; from all of them while no lane has two trials out.
    """

    def __init__(self, sessions: Sequence[Session]) -> None:
        self.sessions = tuple(sessions)
        self._owner: dict[int, Session] = {}

    @property
    def finished(self) -> list[TrialRecord]:
        """The finished trials, session by session."""
        return [record for session in self.sessions for record in session.finished]

    @property
    def done(self) -> bool:
        """Whether every session is done."""
        return all(session.done for session in self.sessions)

    def propose(self) -> TrialRecord | None:
        """The next trial of any session; None if there is none now."""
        for session in sorted(self.sessions, key=lambda session: len(session.running)):
            record = session.propose()
            if record is not None:
                self._owner[record.id] = session
                return record
        return None

    def rival(self, trial_id: int) -> Point | None:
        """The best Point of the session that proposed the trial."""
        return self._owner[trial_id].rival(trial_id)

    def finish(self, trial_id: int, outcome: Outcome) -> TrialRecord:
        """Hand the outcome to the session that proposed the trial."""
        return self._owner.pop(trial_id).finish(trial_id, outcome)

    def fail_attempt(self, trial_id: int, reason: str) -> TrialRecord:
        """Tell the session that proposed the trial."""
        record = self._owner[trial_id].fail_attempt(trial_id, reason)
        if record.state.finished:
            del self._owner[trial_id]
        return record


def best_of(records: Sequence[TrialRecord], goal: Goal) -> TrialRecord | None:
    """The done trial of highest utility, the first of several; None if none is done."""
    done = [record for record in records if record.state is TrialState.DONE]
    return max(done, key=lambda record: record.to_trial().utility(goal), default=None)

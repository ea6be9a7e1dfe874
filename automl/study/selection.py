"""Which trials of a study may be reported, and which are best, by what is on record of them. No network is needed."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from agents import Goal
from automl.errors import StudyError
from automl.store import ConclusionRecord, Rule, Store, StudyRecord, TrialRecord, conclusion
from automl.store.lookup import best_searched, finished_trials, lanes
from automl.types import BASE, CHECK, Phase

PREPARED = "seconds of "
"""What the time that was spent for an agent before its trials is recorded as, with its name behind."""
WEIGHTS = "trained weights"
"""The kind of artifact that a network is whose weights were learnt: trained, or tuned block by block."""


@dataclass(frozen=True)
class Row:
    """One kind of network in the table: the original, or the best of one agent for each of its seeds."""

    agent: str
    best: tuple[TrialRecord, ...]
    """The best trial of each seed that has one."""
    trials: int
    """Trials of the agent, over all seeds."""
    wall_s: float
    """Time spent on them, and for the agent before them."""

    def shown(self, goal: Goal) -> TrialRecord:
        """The best of the best: the one whose latency is measured."""
        return max(self.best, key=lambda record: goal.utility(final(record, goal.metric)))


def final(record: TrialRecord, metric: str) -> float:
    """What the trial's network is worth on the validation data, or costs: as finished, or else as the search had it."""
    finished = record.values_of(Phase.FINAL)
    return finished[metric] if metric in finished else record.values[metric]


def best_first(records: Sequence[TrialRecord], goal: Goal) -> list[TrialRecord]:
    """The finished ones of `records` by their final values; before any is finished, all as the search saw them."""
    finished = [record for record in records if goal.metric in record.values_of(Phase.FINAL)]
    if not finished:
        return sorted(records, key=lambda record: -record.to_trial().utility(goal))
    return sorted(finished, key=lambda record: -goal.utility(final(record, goal.metric)))


def table_rows(lanes: Sequence[Sequence[TrialRecord]], bests: Collection[TrialRecord]) -> tuple[Row, ...]:
    """A row an agent, in the order of the lanes, from the trials of each lane and the best trials that lanes have."""
    chosen = {record.id for record in bests}
    before = prepared_s(record for lane in lanes for record in lane if record.agent == BASE)
    rows: dict[str, list[TrialRecord]] = {}
    for lane in lanes:
        rows.setdefault(lane[0].agent, []).extend(lane)
    found = []
    for agent, trials in rows.items():
        best = tuple(record for record in trials if record.id in chosen)
        if best:
            spent = sum(trial.wall_s or 0.0 for trial in trials) + before.get(agent, 0.0)
            found.append(Row(agent, best, len(trials), spent))
    return tuple(found)


@dataclass(frozen=True)
class Recorded:
    """What a study came to, read from the database alone."""

    study: StudyRecord
    goal: Goal
    rows: tuple[Row, ...]
    """The original first, then the agents in the order in which they ran."""
    winner: TrialRecord | None
    concluded: ConclusionRecord | None
    trained: bool
    """Whether weights of the winner are kept in a file."""

    @classmethod
    def read(cls, store: Store, study: StudyRecord) -> Recorded:
        """What is on record of `study`; the best of each lane keeps the rules that the winner was held against.

        `StudyError` if the record names no goal, or no trial is done yet.
        """
        with configured(study, "nothing of it is best"):
            goal = Goal(**study.config["goal"])
        finished = finished_trials(store, study.id, goal.metric)
        concluded = conclusion(store, study.id)
        rules = concluded.rules if concluded is not None else ()
        before = prepared_s(record for record in finished if record.agent == BASE)
        rows: dict[str, Row] = {}
        place = place_of(study.config)
        for agent, seed, trials, wall_s in sorted(lanes(store, study.id), key=lambda lane: (place(lane.agent), lane)):
            ours = [record for record in finished if (record.agent, record.seed) == (agent, seed)]
            bests = best_first(allowed_by(rules, ours), goal) if ours else best_searched(store, study.id, agent, seed)
            row = rows.get(agent, Row(agent, (), 0, before.get(agent, 0.0)))
            rows[agent] = Row(agent, (*row.best, *bests[:1]), row.trials + trials, row.wall_s + wall_s)
        if not any(row.best for row in rows.values()):
            raise StudyError(f"study {study.name!r} has no trial that is done yet: `automl resume {study.name}`")
        winner = None if concluded is None else store.trial(concluded.trial_id)
        files = {artifact.trial_id for artifact in store.artifacts(study.id) if artifact.kind == WEIGHTS}
        keys = {record.point.key for record in finished if record.id in files}
        trained = winner is not None and winner.point.key in keys
        return cls(study, goal, tuple(row for row in rows.values() if row.best), winner, concluded, trained)


def prepared_s(originals: Iterable[TrialRecord]) -> dict[str, float]:
    """Agent -> the seconds spent for it before its trials, from the trials of the original network."""
    found: dict[str, float] = {}
    for record in originals:
        for measured in record.measurements:
            if measured.phase == Phase.GATES and measured.metric.startswith(PREPARED):
                agent = measured.metric.removeprefix(PREPARED)
                found[agent] = found.get(agent, 0.0) + measured.value
    return found


@contextmanager
def configured(study: StudyRecord, otherwise: str) -> Iterator[None]:
    """Raise `StudyError` where what is read of a recorded configuration is not there, and `otherwise`, what follows."""
    try:
        yield
    except (KeyError, TypeError) as error:
        raise StudyError(
            f"study {study.name!r} has no {error} in its recorded configuration, so {otherwise}. Use "
            f"`automl trials {study.name}`"
        ) from error


def compared_with(config: Mapping[str, Any]) -> str:
    """What the first network of a recorded study is called: the original, or, if networks are made from nothing, the
    reference."""
    return "reference" if "cells" in (config.get("space") or {}) else "original"


def place_of(config: Mapping[str, Any]) -> Callable[[str], int]:
    """Where an agent stands as a study runs them: the original, the check of a supernet, the baselines, the agent that
    it is about."""
    named = config.get("agent")
    agent = named.get("name") if isinstance(named, Mapping) else named
    agents = [BASE, CHECK, *(name for name in config.get("baselines") or () if name != agent)]
    places = {name: i for i, name in enumerate(agents)} | {agent: len(agents) + 1}
    return lambda name: places.get(name, len(agents))


def allowed_by(rules: Sequence[Rule], trials: Sequence[TrialRecord]) -> list[TrialRecord]:
    """Those that break no rule as far as is known; the original always may be shown."""
    return [t for t in trials if t.agent == BASE or all((rule.exceeded(t) or 0) <= 0 for rule in rules)]


def distinct(records: Sequence[TrialRecord]) -> list[TrialRecord]:
    """The first record of each Point."""
    first: dict[str, TrialRecord] = {}
    for record in records:
        first.setdefault(record.point.key, record)
    return list(first.values())

"""A study as its record has it: all that a page is made from, in a few queries, and no network loaded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from agents import Goal, TrialState
from automl.report.table import is_rate
from automl.store import AttemptRecord, ConclusionRecord, Rule, Store, StudyRecord, TrialRecord, conclusion
from automl.study.selection import allowed_by, best_first, compared_with, configured, place_of
from automl.types import BASE, Phase
from search_spaces import Knob

Lane = tuple[str, int]
"""Agent and seed."""


@dataclass(frozen=True)
class AsRecorded:
    """What the database has of one study."""

    study: StudyRecord
    database: str
    """Its name, without a password."""
    goal: Goal
    limits: Mapping[str, float]
    """Cost -> the most that it may be."""
    knobs: Sequence[Knob]
    base: TrialRecord | None
    """The trial of the original network, once it is done."""
    lanes: Mapping[Lane, Sequence[TrialRecord]]
    """The trials of each agent and seed, the baselines first; those of the original apart."""
    attempts: Sequence[AttemptRecord]
    concluded: ConclusionRecord | None
    """Which trial was reported and what it keeps to; None of a study that is under way, or of an early version."""
    relatives: Sequence[str]
    """Names of the studies that finished the search of this one in another way."""

    @classmethod
    def read(cls, store: Store, name: str) -> AsRecorded:
        """What `store` has of the study `name`. `StudyError` if its record does not say what was sought."""
        study = store.study(name)
        with configured(study, "nothing can be told of it"):
            goal = Goal(**study.config["goal"])
            knobs = tuple(Knob.from_record(knob) for knob in study.config["knobs"])
        lanes: dict[Lane, list[TrialRecord]] = {}
        for trial in store.trials(study.id):
            lanes.setdefault((trial.agent, trial.seed), []).append(trial)
        base = next((t for t in lanes.pop((BASE, 0), []) if t.state is TrialState.DONE), None)
        place = place_of(study.config)
        others = [s.name for s in store.studies() if s.environment.get("searched_as") == study.name]
        return cls(
            study=study,
            database=store.name,
            goal=goal,
            limits=study.config.get("limits", {}),
            knobs=knobs,
            base=base,
            lanes={lane: lanes[lane] for lane in sorted(lanes, key=lambda lane: (place(lane[0]), lane))},
            attempts=store.attempts(study.id),
            concluded=conclusion(store, study.id),
            relatives=others,
        )

    @property
    def config(self) -> Mapping[str, Any]:
        """The recorded configuration."""
        return self.study.config

    @property
    def compared_with(self) -> str:
        """What the first network is called."""
        return compared_with(self.config)

    @property
    def agents(self) -> list[str]:
        """The agents that ran, the baselines first and the one that the study is about last."""
        return list(dict.fromkeys(agent for agent, _ in self.lanes))

    @property
    def main_agent(self) -> str | None:
        """The agent that the study is about."""
        named = self.config.get("agent", {})
        return named.get("name") if isinstance(named, Mapping) else None

    @property
    def trials(self) -> list[TrialRecord]:
        """Those of all agents."""
        return [trial for lane in self.lanes.values() for trial in lane]

    @cached_property
    def rates(self) -> frozenset[str]:
        """The metrics that are parts of one, and shown in percent."""
        trials = [*self.trials, *([self.base] if self.base else [])]
        return frozenset(m.metric for t in trials for m in t.measurements if is_rate(m.metric, m))

    @property
    def rules(self) -> Sequence[Rule]:
        """What the network that was reported was held against."""
        return self.concluded.rules if self.concluded is not None else ()

    @cached_property
    def winner(self) -> TrialRecord | None:
        """The trial that was reported; where none is on record the best that has been finished, if one has."""
        if self.concluded is not None:
            return next((t for t in self.trials if t.id == self.concluded.trial_id), None)
        bests = [best for lane in self.lanes.values() if (best := self.best(lane)) is not None]
        finished = [t for t in bests if self.goal.metric in t.values_of(Phase.FINAL)]
        return next(iter(best_first(finished, self.goal)), None)

    def best(self, lane: Sequence[TrialRecord]) -> TrialRecord | None:
        """The best trial that keeps the rules, by its final value; before any is finished, as the search saw them."""
        known = [t for t in lane if t.state is TrialState.DONE and self.goal.metric in t.values]
        return next(iter(best_first(allowed_by(self.rules, known), self.goal)), None)

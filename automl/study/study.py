"""A study: everything that its configuration means, put together, run lane by lane, resumed from the database."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, closing
from dataclasses import replace
from functools import cached_property, partial
from typing import Any

from torch import nn

import agents
from agents import Agent, TrialState
from automl.config.agent import AgentConfig
from automl.config.study import StudyConfig
from automl.config.training import TrainingOptions
from automl.errors import StudyError
from automl.evaluation import Evaluator
from automl.evaluation.certify import used
from automl.lanes.progress import Progress
from automl.lanes.session import Lanes, Observer, Proposer, Session
from automl.runners import Runner, SerialRunner
from automl.store import (
    LiveProjection,
    OptunaProjection,
    Store,
    StudyNotFoundError,
    StudyRecord,
    TrialRecord,
    conclusion,
)
from automl.study.artifacts import artifacts_folder
from automl.study.corrections import Corrections
from automl.study.differences import completed, first_differences
from automl.study.error_curves import record_curves
from automl.study.given_points import GivenPoints
from automl.study.known_pieces import tables_of
from automl.study.learnt_widths import LearntWidths
from automl.study.prelude import keep_start, starting_network
from automl.study.provenance import code_version, environment
from automl.study.selection import best_first, distinct, final
from automl.study.setup import Setup
from automl.study.sharing_study import SharedWeights
from automl.tasks.problem import Problem
from automl.types import BASE, CHECK, Phase, Say, silent
from automl.util.threads import pinned_threads
from search_spaces import Searched

LONG_QUEUE = 100
"""More trials than that take Optuna seconds to add."""


class Study:
    """A study in the database: new, or gone on with if it is there with the same configuration.

    Raises `StudyError` if the name is taken by another configuration.
    """

    def __init__(
        self,
        store: Store,
        config: StudyConfig,
        problem: Problem | None = None,
        *,
        known: Mapping[str, Any] | None = None,
        say: Say = silent,
    ) -> None:
        """`known`: what a new study need not measure, as a record would have it. `say`: told of what takes long beside
        the trials."""
        self.store = store
        self.config = config
        self._say = say
        found = self._find()
        if found is not None:  # before anything is measured for a study that cannot go on
            wanted = config.to_record()
            self._require_same(found, {key: value for key, value in completed(found).items() if key in wanted}, wanted)
        start = partial(starting_network, store, config, found, say=say) if config.sparsify is not None else None
        recorded, tables = found.config if found else known, partial(tables_of, store)
        self.setup = Setup(config, problem, recorded=recorded, start=start, tables=tables, say=say)
        self.record = self._same_or_new(found)
        self.corrections = Corrections(store, self.record, self.setup, say)
        if config.sparsify is not None:
            keep_start(store, config, self.record, self.setup.given_space)
        self.networks: OrderedDict[tuple[str, str | None], nn.Module] = OrderedDict()
        """(Point, checksum of its weights' file if it has one) -> the network reported: see `finishing.py`."""

    @property
    def evaluator(self) -> Evaluator:
        """Judges Points within the budget, each by itself."""
        return self.setup.evaluator

    def judge_of(self, agent: str) -> Evaluator:
        """Judges the trials of a lane: with shared weights, where they are trusted; the original without limits."""
        if self.shared is not None and self.shares and agent not in self._apart():
            return self.shared.evaluator
        return self.setup.without_limits() if agent == BASE else self.evaluator

    @cached_property
    def shared(self) -> SharedWeights | None:
        """The weights that all networks share, if the study has them."""
        if self.config.evaluation.supernet is None:
            return None
        return SharedWeights(self.store, self.record, self.setup, artifacts_folder(self.store, self.config), self._say)

    @property
    def shares(self) -> bool:
        """Whether trials are judged with shared weights: the study has them, and trusts them."""
        return self.shared is not None and self.shared.trusted

    @property
    def inherits(self) -> bool:
        """Whether the networks that are reported keep shared weights."""
        return self.shared is not None and self.shared.options.inherit and self.shares

    @property
    def training(self) -> TrainingOptions | None:
        """How the finalists are trained; None: not at all."""
        return None if self.inherits else self.config.training

    @property
    def lanes(self) -> list[tuple[str, int]]:
        """Agent and seed of every lane whose networks may be reported."""
        supernet = self.config.evaluation.supernet
        check = [(CHECK, 0)] if supernet is not None and supernet.check else []
        return [*check, *((agent.name, seed) for agent, seed in self.config.lanes)]

    @cached_property
    def finisher(self) -> Evaluator:
        """Rebuilds the networks that are reported; what is trained after that is kept in files (`finishing.py`)."""
        return self._with_care(self.shared.evaluator if self.inherits and self.shared else self.evaluator)

    @cached_property
    def _learnt(self) -> LearntWidths:
        """What gates have learnt, for agents that need it."""
        folder = artifacts_folder(self.store, self.config)
        base, space = self.best(BASE, 0), self.setup.given_space
        return LearntWidths(self.store, base, self.evaluator, space, folder, self._say)

    def finisher_of(self, space: Searched) -> Evaluator:
        """The same for the study's space as it is, or narrowed to a network that has been cut and trained."""
        if space is self.setup.space:
            return self.finisher
        options = replace(self.config.evaluation, training=None)
        return self._with_care(self.setup.plain_evaluator(space, options))

    def _with_care(self, evaluator: Evaluator) -> Evaluator:
        return evaluator.reporting(self.config.finish.reconstruction, say=self._say)

    def _find(self) -> StudyRecord | None:
        try:
            return self.store.study(self.config.name)
        except StudyNotFoundError:
            return None

    def _same_or_new(self, found: StudyRecord | None) -> StudyRecord:
        wanted = self.setup.to_record()
        if found is None:
            return self.store.create_study(
                self.config.name, wanted, code_version=code_version(), environment=environment(self.setup.threads)
            )
        self._require_same(found, completed(found), wanted)
        return found

    def _require_same(self, found: StudyRecord, recorded: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
        differences = first_differences(recorded, wanted)
        if differences:
            raise StudyError(
                f"study {found.name!r} in {self.store.name} has another configuration: {'; '.join(differences)}. "
                f"Give the new study another name, or put these back to go on with the old one"
            )

    def run(self, progress: Progress | None = None) -> None:
        """Run every trial that is not finished yet: the original network, then the lanes of all agents and seeds.

        `StudyBusyError` if another process does.
        """
        projection = LiveProjection(OptunaProjection.of(self.store, self.record))
        observers: list[Observer] = [projection.record, *([progress] if progress else [])]
        # Agents learn alike on any machine: on one thread. Evaluations use threads of their own.
        with self.drive(), closing(projection), pinned_threads(1):
            base = self._session(BASE, 0, GivenPoints(lambda: [self.setup.reference]), observers, 1)
            check = self._checking(observers)
            makers = [partial(self._agent, agent, seed) for agent, seed in self.config.lanes]
            lanes = [
                self._session(agent.name, seed, make(), observers)
                for (agent, seed), make in zip(self.config.lanes, makers, strict=True)
            ]
            if progress:
                progress.plan([base, *check, *lanes], self.setup.limits)
            if self.shared is not None and not self.shared.checked:
                self.shared.make()
            if not base.done:
                SerialRunner().run(base, self.judge_of(BASE))
            if base.best(self.config.goal) is None:
                raise StudyError(f"the base network cannot be evaluated: {base.finished[0].reason}")
            self._record_what_agents_know()
            self._share(check)
            self._run_lanes(self.corrections.rounds(lanes, makers), self.judge_of(self.config.agent.name))
            if progress and projection.behind > LONG_QUEUE:
                progress.say(f"copying {projection.behind} trials into Optuna's tables")
            projection.sync()

    def _record_what_agents_know(self) -> None:
        """Put on record, with the original's trial, what some agents start from: curves, and what gates learnt."""
        names = [agent.name for agent, _ in self.config.lanes]
        if any(map(agents.uses_sensitivity, names)):
            record_curves(self.store, self.base(), self.setup.space.knobs, self.evaluator.sensitivity())
        if any(map(agents.learns_widths, names)):
            self._learnt.keep(self.base())

    def _checking(self, observers: Sequence[Observer]) -> list[Session]:
        """The lane of the networks that are trained alone to check shared weights, if there are any."""
        if self.shared is None or not self.shared.checked:
            return []
        shared, trials = self.shared, self.shared.options.check
        return [self._session(CHECK, 0, GivenPoints(lambda: shared.points), observers, trials)]

    def _share(self, check: Sequence[Session]) -> None:
        """Train the weights that all networks share, and check them, if the study has such."""
        if self.shared is not None and self.shared.checked:
            self.shared.make()
            self._run_lanes([check], self.evaluator)
            self.shared.compare()

    def _apart(self) -> tuple[str, ...]:
        """The lanes whose trials answer none of an agent's: they train alone, by which shared weights are checked."""
        return (BASE, CHECK) if self.shared is not None and self.shared.checked and self.shares else ()

    def drive(self) -> AbstractContextManager[None]:
        """While it lasts no other process runs the study: `Store.drive`."""
        return self.store.drive(self.record.id)

    def _session(
        self, name: str, seed: int, agent: Agent, observers: Sequence[Observer], trials: int | None = None
    ) -> Session:
        """The lane of an agent; with `trials` of what is given, in whatever time it takes."""
        return Session(
            self.store,
            self.record,
            name,
            seed,
            agent,
            trials or self.config.trials,
            seconds=self.config.seconds if trials is None else None,
            goal=self.config.goal if self.config.evaluation.races else None,
            observers=observers,
            max_attempts=1 + self.config.runner.retries,
            apart=self._apart if trials is None else tuple,
            keeps=self.corrections.keeps,
        )

    def _agent(self, agent: AgentConfig, seed: int) -> Agent:
        return agents.create(
            agent.name,
            space=self.setup.space,
            goal=self.config.goal,
            limits=self.setup.limits,
            seed=seed,
            trials=self.config.trials,
            sensitivity=self.evaluator.sensitivity() if agents.uses_sensitivity(agent.name) else None,
            learnt=self._learnt.of(agent, seed) if agents.learns_widths(agent.name) else None,
            **agent.options,
        )

    def _run_lanes(self, parts: Iterable[Sequence[Session]], evaluator: Evaluator) -> None:
        """Run lanes side by side, in one part after another."""
        runner: Runner | None = None
        try:
            for sessions in parts:
                lanes = Lanes(sessions)
                if lanes.done:
                    continue
                evaluator.prepare()
                runner = runner or self._runner()
                # A scheduler compares the trials of a lane with each other, and never with those of another.
                sweeps: Sequence[Proposer] = [lanes] if self.config.evaluation.scheduler is None else sessions
                for sweep in sweeps:
                    runner.run(sweep, evaluator)
        finally:
            if runner is not None:
                runner.close()

    def _runner(self) -> Runner:
        options, evaluation = self.config.runner, self.config.evaluation
        if self.config.in_this_process:
            return SerialRunner()
        from automl.runners.ray_tune import RayTuneRunner, Schedule

        schedule = None
        if evaluation.scheduler is not None and evaluation.training is not None:
            schedule = Schedule(evaluation.scheduler, self.config.goal, evaluation.training.epochs)
        return RayTuneRunner(
            options.workers,
            threads=self.setup.threads,
            address=options.address,
            cpus=options.cpus_per_trial or 1.0,
            gpus=options.gpus_per_trial,
            timeout_s=options.timeout_s,
            schedule=schedule,
        )

    def base(self) -> TrialRecord:
        """The trial of the original network. `StudyError` if it is not done yet."""
        base = self.best(BASE, 0)
        if base is None:
            raise StudyError(f"study {self.record.name!r} has not started: `automl resume {self.record.name}`")
        return base

    def best(self, agent: str, seed: int) -> TrialRecord | None:
        """The best trial of a lane that may be reported, the earlier of two as good; the original always may.

        A trial may be if it keeps the guarantee and its network has not been timed to be over the budget.
        """
        trials = self.store.trials(self.record.id, agent=agent, seed=seed)
        if agent != BASE:
            trials = self._quick(self.guaranteed(trials), self.refused())
        return next(iter(best_first(trials, self.config.goal)), None)

    def finalists(self) -> list[TrialRecord]:
        """The trials that are to be finished: the original, the best of each lane, and of the best of all lanes as many
        as the study asks for; as the search saw them, equal networks of a lane once, and none that was timed to be over
        the budget."""
        refused = self.refused()
        lanes = [self._quick(self._by_promise(agent, seed), refused) for agent, seed in self.lanes]
        best = [lane[0] for lane in lanes if lane]
        apart = self._apart()
        comparable = (record for lane in lanes for record in lane if record.agent not in apart)
        ranked = sorted(comparable, key=self._promise, reverse=True)
        promising = distinct(ranked)[: self.config.finish.finalists]
        chosen = [*self._by_promise(BASE, 0), *best, *promising]
        return list({record.id: record for record in chosen}.values())

    def _quick(self, lane: Sequence[TrialRecord], refused: Collection[str]) -> list[TrialRecord]:
        """The trials that were not timed to be over the limit on latency: those predicted to keep it, if any are."""
        left = [record for record in lane if record.point.key not in refused]
        return [record for record in left if self.corrections.keeps(record.point)] or left

    def _by_promise(self, agent: str, seed: int) -> list[TrialRecord]:
        """The done trials of a lane, best first as the search saw them, of equals the earlier; equal networks once."""
        trials = self.store.trials(self.record.id, agent=agent, seed=seed)
        done = [record for record in trials if record.state is TrialState.DONE]
        return distinct(sorted(done, key=self._promise, reverse=True))

    def _promise(self, record: TrialRecord) -> float:
        return record.to_trial().utility(self.config.goal)

    def refused(self) -> dict[str, float]:
        """Keys of the Points whose networks exceed the limit on latency by their certificates -> how many times it."""
        term = self.config.parsed_budget.latency
        if term is None:
            return {}
        trials = [(t.point.key, t.values_of(Phase.CERTIFICATE)) for t in self.store.trials(self.record.id)]
        return {key: taken for key, timed in trials if (taken := used(term, timed) or 0.0) > 1}

    def guaranteed(self, records: Sequence[TrialRecord]) -> list[TrialRecord]:
        """Those of `records` that are done and as good as the guarantee wants."""
        done = [record for record in records if record.state is TrialState.DONE]
        guarantee = self.config.parsed_guarantee
        if guarantee is None or not done:
            return done
        metric, rate = guarantee.metric, self.setup.problem.unit(guarantee.metric) == "%"
        base = self.worth_of_base(metric)
        return [record for record in done if guarantee.keeps(final(record, metric), base, rate)]

    def guaranteed_bound(self) -> float:
        """The least or most that the guaranteed metric may be."""
        guarantee = self.config.parsed_guarantee
        assert guarantee is not None
        rate = self.setup.problem.unit(guarantee.metric) == "%"
        return guarantee.bound(self.worth_of_base(guarantee.metric), rate)

    def worth_of_base(self, metric: str) -> float:
        """What guarantees speak of: the original as it is, or the reference as it was trained in the end."""
        base = self.base()
        return base.values[metric] if self.setup.network_space is not None else final(base, metric)

    def winner(self) -> TrialRecord | None:
        """The trial that was reported, as it is on record; None before the study has concluded."""
        concluded = conclusion(self.store, self.record.id)
        return None if concluded is None else self.store.trial(concluded.trial_id)

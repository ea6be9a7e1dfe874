"""A study: everything that its configuration means, put together, run lane by lane, resumed from the database."""

from __future__ import annotations

import copy
import hashlib
import importlib.metadata
import os
import platform
import subprocess
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

import agents
from agents import Agent, Trial, TrialState
from automl.config import AgentConfig, StudyConfig, first_differences
from automl.errors import ConfigError, StudyError
from automl.evaluation import Evaluator
from automl.evaluation.certify import COUNTED, certified
from automl.evaluation.metrics import DIVERGENCE
from automl.evaluation.objectives import ERROR_TIMES_LOG
from automl.evaluation.sparsity import SparsityEvaluator
from automl.loading import load_problem
from automl.measures import pinned_threads
from automl.measures.latency_table import PREDICTED, LatencyOptions, LatencyTable, measure_latency_table
from automl.problem import Problem
from automl.progress import Progress
from automl.runners import Runner, SerialRunner
from automl.session import FINAL, Lanes, Observer, Session
from automl.store import OptunaProjection, Store, StudyNotFoundError, StudyRecord, TrialRecord
from search_spaces import ChannelSpace, Point, WeightSpace

BASE = "base"
"""The lane of the original network: one trial."""


class Setup:
    """What a configuration means before anything runs: problem, space, limits. Raises if the budget cannot be met.

    A budget on latency takes a latency table. It is measured here, which `say` is told of, unless the study has one on
    record: agents that are told of their trials anew must meet the same wall.
    """

    def __init__(
        self,
        config: StudyConfig,
        problem: Problem | None = None,
        *,
        recorded: Mapping[str, Any] | None = None,
        say: Callable[[str], None] = lambda text: None,
    ) -> None:
        """`recorded`: what an earlier `to_record` gave, if the study is in the database."""
        self.config = config
        self.problem = problem or load_problem(config)
        self._require_metrics()
        self.space = self._space()
        self.original_point = self.space.point(self.space.highest.tolist())
        self.latency_options = config.latency or LatencyOptions()
        self.latency_table: LatencyTable | None = None
        """What a budget on latency is kept by, if there is one."""
        if config.parsed_budget.latency is not None:
            assert isinstance(self.space, ChannelSpace)  # the configuration refuses it for any other
            self.latency_table = self._latency_table(self.space, recorded, say)
            self.space.add_cost(PREDICTED, self.latency_table)
        self.limits = config.parsed_budget.limits(
            {metric: self.space.cost(self.original_point, metric) for metric in self.space.metrics}
        )
        self.space.require_feasible(self.limits)
        self.threads = config.runner.threads or max(1, (os.cpu_count() or 1) // config.runner.workers)
        kind: Any = SparsityEvaluator if isinstance(self.space, WeightSpace) else Evaluator
        self.evaluator: Evaluator = kind(
            self.problem, self.space, config.evaluation, self.limits, self.threads, config.goal
        )

    def _space(self) -> ChannelSpace | WeightSpace:
        options, model, inputs = self.config.space, self.problem.model, self.problem.example_inputs
        if options.name == "weights":
            return WeightSpace(model, inputs, min_keep=options.min_keep, exclude=options.exclude)
        return ChannelSpace(
            model,
            inputs,
            min_keep=options.min_keep,
            round_to=options.round_to,
            steps=options.steps,
            exclude=options.exclude,
        )

    def _require_metrics(self) -> None:
        """Raise `ConfigError` unless the problem has what the objective and the guarantee speak of."""
        of_classes = self.config.objective in (*ERROR_TIMES_LOG, DIVERGENCE)
        wanted = {"accuracy" if of_classes else self.config.objective: "objective"}
        if self.config.guarantee is not None:
            wanted.setdefault("accuracy", "guarantee")
        for metric, key in wanted.items():
            if metric not in self.problem.metrics:
                remedy = "Set `objective: loss`" if key == "objective" else "Leave it out"
                raise ConfigError(
                    f"the {key} {getattr(self.config, key)!r} needs a network whose outputs are class scores; this one "
                    f"has {', '.join(self.problem.metrics)}. {remedy}"
                )

    def _latency_table(
        self, space: ChannelSpace, recorded: Mapping[str, Any] | None, say: Callable[[str], None]
    ) -> LatencyTable:
        if recorded is not None and "latency_table" in recorded:
            return LatencyTable.from_record(recorded["latency_table"], space)
        table = measure_latency_table(space, self.problem.example_inputs, self.latency_options, say)
        if table.unsteady:
            say(table.unsteady)
        return table

    @property
    def counted_limits(self) -> dict[str, float]:
        """The limits that a finished network is counted against; one on latency is measured."""
        return {metric: limit for metric, limit in self.limits.items() if metric in COUNTED}

    def without_limits(self) -> Evaluator:
        """The evaluator for the original network, which the budget rules out; shares what has been prepared."""
        self.evaluator.prepare()
        unlimited = copy.copy(self.evaluator)
        unlimited.limits = {}
        return unlimited

    def to_record(self) -> dict[str, Any]:
        """The configuration with what it came to, as the database holds it."""
        knobs = [asdict(knob) | {"levels": list(knob.levels)} for knob in self.space.knobs]
        return {
            **self.config.to_record(),
            "network": _fingerprint(self.problem.model),
            "knobs": knobs,
            "goal": asdict(self.config.goal),
            "limits": self.limits,
            **({"latency_table": self.latency_table.to_record()} if self.latency_table else {}),
        }


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
        say: Callable[[str], None] = lambda text: None,
    ) -> None:
        """`say`: told of what takes long before the first trial."""
        self.store = store
        self.config = config
        found = self._find()
        if found is not None:  # before anything is measured for a study that cannot go on
            wanted = config.to_record()
            self._require_same(found, {key: found.config.get(key) for key in wanted}, wanted)
        self.setup = Setup(config, problem, recorded=found.config if found else None, say=say)
        self.record = self._same_or_new(found)

    @property
    def evaluator(self) -> Evaluator:
        """Judges Points within the budget."""
        return self.setup.evaluator

    @cached_property
    def finisher(self) -> Evaluator:
        """Rebuilds the networks that are reported."""
        as_searched = self.config.finish.reconstruction == "as_searched"
        return self.evaluator if as_searched else self.evaluator.finishing()

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
        self._require_same(found, found.config, wanted)
        return found

    def _require_same(self, found: StudyRecord, recorded: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
        differences = first_differences(recorded, wanted)
        if differences:
            raise StudyError(
                f"study {found.name!r} in {self.store.name} has another configuration: {'; '.join(differences)}. "
                f"Give the new study another name, or put these back to go on with the old one"
            )

    def run(self, progress: Progress | None = None) -> None:
        """Run every trial that is not finished yet: the original network, then the lanes of all agents and seeds."""
        projection = OptunaProjection.of(self.store, self.record)
        observers: list[Observer] = [projection.record, *([progress] if progress else [])]
        # Agents learn alike on any machine: on one thread. Evaluations use threads of their own.
        with closing(projection), pinned_threads(1):
            base = self._session(BASE, 0, _Original(self.setup.original_point), observers)
            lanes = [
                self._session(agent.name, seed, self._agent(agent, seed), observers)
                for agent, seed in self.config.lanes
            ]
            if progress:
                progress.plan([base, *lanes])
            if not base.done:
                SerialRunner().run(base, self.setup.without_limits())
            if base.best(self.config.goal) is None:
                raise StudyError(f"the original network cannot be evaluated: {base.finished[0].reason}")
            self._run_lanes(Lanes(lanes))
            projection.sync()

    def _session(self, name: str, seed: int, agent: Agent, observers: Sequence[Observer]) -> Session:
        return Session(
            self.store,
            self.record,
            name,
            seed,
            agent,
            self.config.trials,
            goal=self.config.goal if self.config.evaluation.race else None,
            observers=observers,
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
            **agent.options,
        )

    def _run_lanes(self, lanes: Lanes) -> None:
        if lanes.done:
            return
        self.evaluator.prepare()
        runner = self._runner()
        try:
            runner.run(lanes, self.evaluator)
        finally:
            runner.close()

    def _runner(self) -> Runner:
        workers = self.config.runner.workers
        if workers == 1:
            return SerialRunner()
        from automl.runners.ray_tune import RayTuneRunner

        return RayTuneRunner(workers, threads=self.setup.threads)

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
            refused = self._refused()
            trials = [record for record in self.guaranteed(trials) if record.point.key not in refused]
        return next(iter(self._best_first(trials)), None)

    def finalists(self, agent: str, seed: int) -> list[TrialRecord]:
        """The trials of a lane that are to be finished, best first as the search saw them; equal networks once."""
        trials = self.store.trials(self.record.id, agent=agent, seed=seed)
        done = [record for record in trials if record.state is TrialState.DONE]
        best_first = sorted(done, key=lambda record: -record.to_trial().utility(self.config.goal))
        distinct = {record.point.key: record for record in reversed(best_first)}
        return list(reversed(distinct.values()))[: self.config.finish.finalists]

    def _best_first(self, records: Sequence[TrialRecord]) -> list[TrialRecord]:
        """The finished ones of `records` by their final values; before any is finished, all as the search saw them."""
        goal = self.config.goal
        finished = [record for record in records if FINAL + goal.metric in record.values]
        if not finished:
            return sorted(records, key=lambda record: -record.to_trial().utility(goal))
        return sorted(finished, key=lambda record: -goal.utility(record.values[FINAL + goal.metric]))

    def _refused(self) -> set[str]:
        """Keys of the Points whose networks exceed the limit on latency by their certificates."""
        term = self.config.parsed_budget.latency
        if term is None:
            return set()
        metric = certified(term)
        trials = self.store.trials(self.record.id)
        return {record.point.key for record in trials if record.values.get(metric, 0.0) > term.value}

    def guaranteed(self, records: Sequence[TrialRecord]) -> list[TrialRecord]:
        """Those of `records` that are done and as accurate as the guarantee wants."""
        done = [record for record in records if record.state is TrialState.DONE]
        guarantee = self.config.parsed_guarantee
        if guarantee is None or not done:
            return done
        floor = guarantee.floor(self.base().values["accuracy"])
        return [record for record in done if final(record, "accuracy") >= floor]

    def ranking(self) -> list[TrialRecord]:
        """The trials of all lanes that keep the guarantee, best first, of several as good that of the first lane.

        `StudyError` if there is none.
        """
        lanes = [self.store.trials(self.record.id, agent=agent.name, seed=seed) for agent, seed in self.config.lanes]
        records = [record for lane in lanes for record in lane]
        kept = self.guaranteed(records)
        if not kept:
            raise StudyError(self._why_none(records))
        return self._best_first(kept)

    def winner(self) -> TrialRecord:
        """The first of `ranking`."""
        return self.ranking()[0]

    def _why_none(self, records: Sequence[TrialRecord]) -> str:
        accuracies = [final(record, "accuracy") for record in records if record.state is TrialState.DONE]
        if accuracies and self.config.guarantee is not None:
            return (
                f"no trial of study {self.record.name!r} keeps {self.config.guarantee!r}: the best has "
                f"{max(accuracies):.2%}, the original {self.base().values['accuracy']:.2%}. Guarantee less, raise the "
                f"budget, or add trials with `automl resume {self.record.name} --trials N`"
            )
        reasons = list(dict.fromkeys(record.reason for record in records if record.reason))
        return (
            f"no trial of study {self.record.name!r} is done: "
            f"{'; '.join(reasons[:3]) or f'go on with `automl resume {self.record.name}`'}"
        )


def final(record: TrialRecord, metric: str) -> float:
    """What the trial's network is worth on the validation data, or costs: as finished, or else as the search had it."""
    values = record.values
    return values[FINAL + metric] if FINAL + metric in values else values[metric]


class _Original:
    """The agent of the base lane: asks for the network as it is."""

    max_trials: ClassVar[int | None] = 1

    def __init__(self, point: Point) -> None:
        self._point = point

    def ask(self, n: int, running: Sequence[Trial]) -> Sequence[Point]:
        return [self._point]

    def tell(self, finished: Sequence[Trial]) -> None:
        pass


def code_version() -> str:
    """The version of this distribution, with the commit if it runs from a checkout."""
    version = importlib.metadata.version("automl-compress")
    home = Path(__file__).resolve().parents[1]
    if not (home / ".git").exists():
        return version
    command = ["git", "-C", str(home), "describe", "--always", "--dirty"]
    try:
        commit = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True).stdout.strip()
    except (OSError, subprocess.SubprocessError):  # no git, or no commit yet
        return version
    return f"{version}+{commit}"


def environment(threads: int) -> Mapping[str, Any]:
    """Where the numbers came from."""
    return {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "platform": platform.platform(),
        "cpu_count": os.cpu_count(),
        "threads": threads,
    }


def _fingerprint(model: nn.Module) -> str:
    """A hash of every parameter and buffer, by name."""
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        if not isinstance(tensor, Tensor):  # a module's own extra state
            continue
        digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype} ".encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:16]

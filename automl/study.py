"""A study: everything that its configuration means, put together, run lane by lane, resumed from the database."""

from __future__ import annotations

import copy
import hashlib
import importlib.metadata
import os
import platform
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

import agents
from agents import Agent, Trial
from automl.config import AgentConfig, StudyConfig, first_differences
from automl.errors import ConfigError, StudyError
from automl.evaluation import Evaluator
from automl.loading import load_problem
from automl.measures import pinned_threads
from automl.problem import Problem
from automl.progress import Progress
from automl.runners import Runner, SerialRunner
from automl.session import Lanes, Observer, Session, best_of
from automl.store import OptunaProjection, Store, StudyNotFoundError, StudyRecord, TrialRecord
from search_spaces import ChannelSpace, Point

BASE = "base"
"""The lane of the original network: one trial."""


class Setup:
    """What a configuration means before anything runs: problem, space, limits. Raises if the budget cannot be met."""

    def __init__(self, config: StudyConfig, problem: Problem | None = None) -> None:
        self.config = config
        self.problem = problem or load_problem(config)
        if config.objective not in self.problem.metrics:
            raise ConfigError(
                f"the objective {config.objective!r} needs a network whose outputs are class scores; this one has "
                f"{', '.join(self.problem.metrics)}. Set `objective: loss`"
            )
        self.space = ChannelSpace(
            self.problem.model,
            self.problem.example_inputs,
            min_keep=config.space.min_keep,
            round_to=config.space.round_to,
            exclude=config.space.exclude,
        )
        self.original_point = self.space.point(self.space.highest.tolist())
        self.limits = config.parsed_budget.limits(
            {metric: self.space.cost(self.original_point, metric) for metric in self.space.metrics}
        )
        self.space.require_feasible(self.limits)
        self.threads = config.runner.threads or max(1, (os.cpu_count() or 1) // config.runner.workers)
        self.evaluator = Evaluator(self.problem, self.space, config.evaluation, self.limits, self.threads)

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
        }


class Study:
    """A study in the database: new, or gone on with if it is there with the same configuration.

    Raises `StudyError` if the name is taken by another configuration.
    """

    def __init__(self, store: Store, config: StudyConfig, problem: Problem | None = None) -> None:
        self.store = store
        self.config = config
        self.setup = Setup(config, problem)
        self.record = self._find_or_create()

    @property
    def evaluator(self) -> Evaluator:
        """Judges Points within the budget, and rebuilds their networks."""
        return self.setup.evaluator

    def _find_or_create(self) -> StudyRecord:
        wanted = self.setup.to_record()
        try:
            record = self.store.study(self.config.name)
        except StudyNotFoundError:
            return self.store.create_study(
                self.config.name, wanted, code_version=code_version(), environment=environment(self.setup.threads)
            )
        differences = first_differences(record.config, wanted)
        if differences:
            raise StudyError(
                f"study {record.name!r} in {self.store.name} has another configuration: {'; '.join(differences)}. "
                f"Give the new study another name, or put these back to go on with the old one"
            )
        return record

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
        return Session(self.store, self.record, name, seed, agent, self.config.trials, observers=observers)

    def _agent(self, agent: AgentConfig, seed: int) -> Agent:
        return agents.create(
            agent.name,
            space=self.setup.space,
            goal=self.config.goal,
            limits=self.setup.limits,
            seed=seed,
            trials=self.config.trials,
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
        """The best trial of a lane; the earlier of two as good."""
        return best_of(self.store.trials(self.record.id, agent=agent, seed=seed), self.config.goal)

    def winner(self) -> TrialRecord:
        """The best trial of all lanes, of several as good that of the first lane. `StudyError` if none is done."""
        lanes = [self.store.trials(self.record.id, agent=agent.name, seed=seed) for agent, seed in self.config.lanes]
        records = [record for lane in lanes for record in lane]
        best = best_of(records, self.config.goal)
        if best is None:
            reasons = list(dict.fromkeys(record.reason for record in records if record.reason))
            raise StudyError(
                f"no trial of study {self.record.name!r} is done: "
                f"{'; '.join(reasons[:3]) or f'go on with `automl resume {self.record.name}`'}"
            )
        return best


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

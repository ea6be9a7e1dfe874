"""What a study's configuration means before anything runs: problem, space, limits, evaluator."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any, NoReturn

import torch
from torch import Tensor, nn

import agents
from automl.config.budget import require_fitting
from automl.config.evaluation import EvaluationOptions
from automl.config.latency import PREDICTED, LatencyOptions
from automl.config.runner import RunnerConfig
from automl.config.study import StudyConfig
from automl.config.training import TrainingOptions
from automl.errors import ConfigError
from automl.evaluation import Evaluator
from automl.evaluation.training_time import TrainingTime
from automl.export.formats import format_of
from automl.export.subject import largest_difference, run_module
from automl.fit.cell_builder import CellBuilder
from automl.measures.backends.registry import backend_of
from automl.measures.counts import COUNTED
from automl.study.fast_shapes import FastShapes, fast_operators
from automl.study.known_pieces import Tables
from automl.study.latency_cost import Predictor, cost_of, latency_cost, require_reachable
from automl.study.loading import load_early, load_problem
from automl.study.shares import shares
from automl.study.space_of_study import measured_training_time
from automl.tasks.base import DIVERGENCE
from automl.tasks.objectives import BOUNDED_DROP, WEIGHED
from automl.tasks.problem import Problem
from automl.training.history import History
from automl.training.loss import SupervisedLoss
from automl.training.methods.registry import require_method
from automl.training.own_teachers import own_teacher
from automl.util.extras import require
from automl.util.fingerprint import fingerprint
from automl.util.own_code import named_function
from search_spaces import Channels, NetworkSpace, OfSheet, Scales, Searched, pyramid
from search_spaces.pricing.metrics import PEAK
from search_spaces.pricing.peak import peak_memory

SAME = 1e-3
"""How far outputs may differ, as a fraction of the largest, that are computed in another order."""

Start = Callable[[Evaluator, NetworkSpace], nn.Module]
"""An evaluator of the original network, and its space -> the network of the same shape and names that a search starts
from."""


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
        start: Start | None = None,
        tables: Tables = tuple,
        say: Callable[[str], None] = lambda text: None,
    ) -> None:
        """`recorded`: what an earlier `to_record` gave, if the study is in the database; `tables`: latency models of
        others. `start`: gives the network that the search starts from, if it is not the original."""
        self.config = config
        _require_packages(config)
        self.problem = problem or load_problem(config)
        for agent, _ in config.lanes:  # now it is known that the user's own may be run
            agent.require()
        self.early = load_early(config, self.problem.model)
        """What stages are rewound to, if they are."""
        self._require_metrics()
        self._teachers: list[str] = []
        self._require_trainable()
        self.threads = _threads(config.runner)
        self.network_space: NetworkSpace | None = None
        """The space, if it is of a network that was given."""
        self.fast = FastShapes()
        """The widths and ranks that were measured to be fast, if latency is limited."""
        self.space: Searched = self._made_space(recorded, tables, say)
        self.latency_options = config.latency or LatencyOptions()
        self.latency_table: Predictor | None = None
        """What a budget on latency is kept by, if there is one."""
        if self.network_space is not None and any(term.metric == PEAK for term in config.parsed_budget.terms):
            basis = self.network_space.basis
            memory = peak_memory(basis.analysis, basis.terms, self.problem.example_inputs)
            self.network_space.add_cost(PEAK, OfSheet(memory, many=True))
        costs = {metric: self.space.original_cost(metric) for metric in self.space.metrics}
        if config.parsed_budget.latency is not None and self.network_space is not None:
            self.latency_table, cost = latency_cost(
                self.problem, self.network_space, config, recorded, tables, self.fast.grids, say
            )
            self.network_space.add_cost(PREDICTED, cost)
            costs[PREDICTED] = self.latency_table.original_ms  # in float32, whatever the backend
            require_reachable(self.network_space, config.parsed_budget.latency, costs[PREDICTED])
        self.limits = self._limits(costs, recorded or {})
        self.space.require_feasible(self.limits)
        self.reference = self.space.reference(self.limits)
        """What others are compared with: the original network, or the one that stands for it."""
        self._require_stages()
        self._require_gated()
        original = None
        self.start: str | None = None
        if start is not None and self.network_space is not None:
            network = start(self.plain_evaluator(self.space, None), self.network_space)
            original = self.network_space.original.state_dict()
            self.space = self.network_space = self.network_space.with_weights(network)
            self.start = fingerprint(self.network_space.original)
        self.evaluator = self._judging(original)
        if config.timed is not None:
            self._predict_time(config.timed, recorded, say)

    def _made_space(self, recorded: Mapping[str, Any] | None, tables: Tables, say: Callable[[str], None]) -> Searched:
        """The space that the study searches."""
        made = getattr(self.problem.model, "architecture", None)
        if self.config.space.of_cells is not None:
            assert made is not None  # the network was made by this space
            return pyramid(self.config.space.of_cells, made.frame, Scales.of(self.problem.model))
        operators, self.fast = fast_operators(self.config, self.problem, recorded, tables, say)
        self.network_space = NetworkSpace(self.problem.model, self.problem.example_inputs, operators)
        return self.network_space

    def _limits(self, costs: Mapping[str, float], recorded: Mapping[str, Any]) -> dict[str, float]:
        """The budget in absolute numbers, `costs` being the original's; as on record, if the budget is the same there:
        versions foretell the bytes of a file more or less closely, and a study keeps the limits that it began with."""
        limits = self.config.parsed_budget.limits(costs)
        known: Mapping[str, float] = recorded.get("limits", {})
        same = recorded.get("budget") == self.config.to_record()["budget"] and known.keys() == limits.keys()
        return dict(known) if same else limits

    def _judging(self, original: Mapping[str, Tensor] | None) -> Evaluator:
        """What judges the study's networks; `original`: the state of the one given, if it has been trained since."""
        config, builder = self.config, None
        if self.network_space is None:
            builder = CellBuilder(self.space, self.reference)
        evaluator = Evaluator(
            self.problem,
            self.space,
            config.evaluation,
            self.limits,
            self.threads,
            config.goal,
            original,
            most_lost=config.most_lost,
            builder=builder,
        )
        evaluator.launch = by_workers
        return evaluator

    def plain_evaluator(self, space: Searched, options: EvaluationOptions | None) -> Evaluator:
        """What builds and trains networks of a space, without limits or goal."""
        evaluator = Evaluator(self.problem, space, options, threads=self.threads)
        evaluator.launch = by_workers
        return evaluator

    def _predict_time(
        self, training: TrainingOptions, recorded: Mapping[str, Any] | None, say: Callable[[str], None]
    ) -> None:
        """Let trainings last for the seconds that they may, as was predicted when the study began."""
        known = (recorded or {}).get("training_time")
        if known is not None:
            self.evaluator.training_time = TrainingTime.from_record(known)
            return
        say("measuring how long networks take to train")
        predicted = self.evaluator.training_time = measured_training_time(self.evaluator, training)
        say(f"it is predicted with an error of at most {predicted.error:.0%} on the networks that were timed")

    def _require_metrics(self) -> None:
        """Raise `ConfigError` unless the problem has what the objective and the guarantee speak of."""
        problem, goal, guarantee = self.problem, self.config.goal, self.config.parsed_guarantee
        kind, measured = problem.kind, [*problem.metrics, *([DIVERGENCE] if problem.kind.divergence else [])]
        if goal.metric in WEIGHED:
            if problem.unit(kind.headline) != "%":
                self._refuse("objective", "weighs a rate from 0 to 1 against cost", f"Set `objective: {kind.headline}`")
            if goal.metric == BOUNDED_DROP and guarantee is not None and guarantee.metric != kind.headline:
                self._refuse("guarantee", "does not bound what the objective weighs", f"Guarantee {kind.headline}")
        elif goal.metric not in measured:
            self._refuse("objective", "is not measured here", f"Set `objective: {kind.headline}`")
        elif goal.metric in problem.metrics and problem.metrics[goal.metric].direction != goal.direction:
            raise ConfigError(
                f"the metric {goal.metric} is to {problem.metrics[goal.metric].direction}, and the study says "
                f"direction {goal.direction}: leave that out, or change the metric"
            )
        if guarantee is None:
            return
        if guarantee.metric not in measured:
            self._refuse(
                "guarantee", "is of no metric that is measured here", "Leave it out, or guarantee one of these"
            )
        metric = problem.metrics.get(guarantee.metric)
        more = metric is not None and metric.direction == "maximize"
        require_fitting(guarantee, rate=problem.unit(guarantee.metric) == "%", more_is_better=more)

    def _refuse(self, key: str, why: str, remedy: str) -> NoReturn:
        kind = self.problem.kind
        labels = ", as its batches are inputs alone, without targets" if kind.imitates else ""
        raise ConfigError(
            f"the {key} {getattr(self.config, key)!r} {why}: this network has {', '.join(self.problem.metrics)}"
            f"{labels}. {remedy}"
        )

    def _require_trainable(self) -> None:
        """Raise `DataError` or `ConfigError` if training is asked for that this problem does not allow."""
        for options in self.config.trainings:
            self.problem.epochs(options.batch_size)
            SupervisedLoss(self.problem.loss, options.label_smoothing)
            for spec in options.own_code:
                named_function(spec, "a training")
            if options.distillation is not None and (teacher := own_teacher(options.distillation, self.problem)):
                self._teachers.append(fingerprint(teacher))
            if options.method is not None:
                require_method(options.method)

    def _require_gated(self) -> None:
        """Raise `ConfigError` or `DataError` if an agent wants gates trained, and there is nothing to train or gate."""
        names = [agent.name for agent, _ in self.config.lanes if agents.learns_widths(agent.name)]
        if not names:
            return
        if self.network_space is None or not self.network_space.has(Channels):
            raise ConfigError(
                f"agent {names[0]!r} learns how many channels are kept, and this space has no operator channels: add "
                f"it to the space, or name another agent"
            )
        self.problem.epochs(1)

    def _require_stages(self) -> None:
        """Raise `ConfigError` if the network is to be cut in stages and, cut once, cannot be cut again: one that
        normalises over channels does not compute the same with zeros for those that are gone."""
        stages, space = self.config.finish.stages, self.network_space
        if stages is None or stages.count == 1 or space is None:
            return
        plan = space.plan(space.point(space.lowest.tolist()))
        small = space.build(plan).eval()
        widened = space.narrowed(small, plan).original.eval()
        inputs = self.problem.example_inputs
        if not largest_difference(run_module(widened, inputs), run_module(small, inputs)) < SAME:
            raise ConfigError(
                "this network normalises over channels (LayerNorm, or GroupNorm with groups that are cut), and what is "
                "left after a stage cannot be cut by a second: leave out finish.stages"
            )

    def scale_latency(self, factor: float) -> None:
        """Let predicted latencies be `factor` times those of the model on record; agents have to be made anew."""
        assert self.latency_table is not None
        self.given_space.add_cost(PREDICTED, cost_of(self.latency_table.scaled(factor), self.given_space), anew=True)

    @property
    def given_space(self) -> NetworkSpace:
        """The space of the network that was given, where there must be one."""
        assert self.network_space is not None
        return self.network_space

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
        knobs, predicted = [knob.to_record() for knob in self.space.knobs], self.evaluator.training_time
        return {
            **self.config.to_record(),
            "network": fingerprint(self.problem.model),
            **({"early": fingerprint(self.early)} if self.early is not None else {}),
            **({"start": self.start} if self.start else {}),
            **({"teachers": self._teachers} if self._teachers else {}),
            "knobs": knobs,
            "goal": asdict(self.config.goal),
            "limits": self.limits,
            "shares": shares(self.space),
            **self.fast.to_record(),
            **({"training_time": predicted.to_record()} if predicted is not None else {}),
            **({"latency_table": self.latency_table.to_record()} if self.latency_table else {}),
        }


def _require_packages(config: StudyConfig) -> None:
    """Raise `MissingPackageError` unless all is installed that the search will need."""
    if any(training.workers > 1 for training in config.trainings):
        require("a training by several workers", "ray")
    if not config.in_this_process:
        require("a sweep over Ray workers", "ray")
    term = config.parsed_budget.latency
    if term is not None:
        backend = backend_of(term.backend)
        require(f"a budget on latency on {term.backend}", *format_of(backend.format).packages, backend.package)


def _threads(runner: RunnerConfig) -> int:
    """Threads of each worker: no more in all than torch would use here, by OMP_NUM_THREADS or the cores it may have.

    Every operator waits for its last thread: two threads where one core is free take two to four times as long as one.
    """
    if runner.threads is not None:
        return runner.threads
    if runner.cpus_per_trial is not None:
        return max(1, int(runner.cpus_per_trial))
    return max(1, torch.get_num_threads() // runner.workers)


def by_workers(*training: Any, **options: Any) -> History:
    """Train by several processes; `automl.runners.ray_train`, which is slow to import, says how."""
    from automl.runners.ray_train import train_together

    return train_together(*training, **options)

"""What a study's configuration means before anything runs: problem, space, limits, evaluator."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any, NoReturn

import torch
from torch import nn

from automl.config.budget import require_fitting
from automl.config.latency import PREDICTED, LatencyOptions
from automl.config.runner import RunnerConfig
from automl.config.study import StudyConfig
from automl.errors import ConfigError
from automl.evaluation import Evaluator
from automl.export.subject import largest_difference, run_module
from automl.measures.counts import COUNTED
from automl.study.latency_cost import Predictor, latency_cost
from automl.study.loading import load_early, load_problem
from automl.study.shares import shares
from automl.tasks.base import DIVERGENCE
from automl.tasks.objectives import WEIGHED
from automl.tasks.problem import Problem
from automl.training.loss import SupervisedLoss
from automl.util.fingerprint import fingerprint
from automl.util.own_code import named_function
from search_spaces import NetworkSpace

SAME = 1e-3
"""How far outputs may differ, as a fraction of the largest, that are computed in another order."""

Start = Callable[[Evaluator], nn.Module]
"""An evaluator of the original network -> the network of the same shape and names that a search starts from."""


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
        say: Callable[[str], None] = lambda text: None,
    ) -> None:
        """`recorded`: what an earlier `to_record` gave, if the study is in the database. `start`: gives the network
        that the search starts from, if it is not the original."""
        self.config = config
        self.problem = problem or load_problem(config)
        self.early = load_early(config, self.problem.model)
        """What stages are rewound to, if they are."""
        self._require_metrics()
        self._require_trainable()
        self.threads = _threads(config.runner)
        self.space = NetworkSpace(self.problem.model, self.problem.example_inputs, config.space.operators)
        self.latency_options = config.latency or LatencyOptions()
        self.latency_table: Predictor | None = None
        """What a budget on latency is kept by, if there is one."""
        costs = {metric: self.space.original_cost(metric) for metric in self.space.metrics}
        if config.parsed_budget.latency is not None:
            self.latency_table, cost = latency_cost(self.problem, self.space, config, recorded, say)
            self.space.add_cost(PREDICTED, cost)
            costs[PREDICTED] = self.latency_table.original_ms  # in float32, whatever the backend
        self.limits = config.parsed_budget.limits(costs)
        self.space.require_feasible(self.limits)
        self._require_stages()
        original = None
        if start is not None:
            network = start(Evaluator(self.problem, self.space, threads=self.threads))
            original = self.space.original.state_dict()
            self.space = self.space.with_weights(network)
        self.start = fingerprint(self.space.original) if start is not None else None
        self.evaluator = Evaluator(
            self.problem, self.space, config.evaluation, self.limits, self.threads, config.goal, original
        )

    def _require_metrics(self) -> None:
        """Raise `ConfigError` unless the problem has what the objective and the guarantee speak of."""
        problem, goal, guarantee = self.problem, self.config.goal, self.config.parsed_guarantee
        kind, measured = problem.kind, [*problem.metrics, *([DIVERGENCE] if problem.kind.divergence else [])]
        if goal.metric in WEIGHED:
            if problem.unit(kind.headline) != "%":
                self._refuse("objective", "weighs a rate from 0 to 1 against cost", f"Set `objective: {kind.headline}`")
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
        sparsify = self.config.sparsify.training if self.config.sparsify is not None else None
        for options in (self.config.finish.training, self.config.evaluation.training, sparsify):
            if options is not None:
                self.problem.epochs(options.batch_size)
                SupervisedLoss(self.problem.loss, options.label_smoothing)
                for spec in options.own_code:
                    named_function(spec, "a training")

    def _require_stages(self) -> None:
        """Raise `ConfigError` if the network is to be cut in stages and, cut once, cannot be cut again: one that
        normalises over channels does not compute the same with zeros for those that are gone."""
        stages, space = self.config.finish.stages, self.space
        if stages is None or stages.count == 1:
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
        knobs = [knob.to_record() for knob in self.space.knobs]
        return {
            **self.config.to_record(),
            "network": fingerprint(self.problem.model),
            **({"early": fingerprint(self.early)} if self.early is not None else {}),
            **({"start": self.start} if self.start else {}),
            "knobs": knobs,
            "goal": asdict(self.config.goal),
            "limits": self.limits,
            "shares": shares(self.space),
            **({"latency_table": self.latency_table.to_record()} if self.latency_table else {}),
        }


def _threads(runner: RunnerConfig) -> int:
    """Threads of each worker: no more in all than torch would use here, by OMP_NUM_THREADS or the cores it may have.

    Every operator waits for its last thread: two threads where one core is free take two to four times as long as one.
    """
    if runner.threads is not None:
        return runner.threads
    if runner.cpus_per_trial is not None:
        return max(1, int(runner.cpus_per_trial))
    return max(1, torch.get_num_threads() // runner.workers)

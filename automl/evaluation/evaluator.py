"""From a Point to what it is worth: the network rebuilt, its weights repaired, its accuracy measured."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from agents import Goal, Sensitivity
from automl.config.evaluation import EvaluationOptions
from automl.config.training import TrainingOptions
from automl.errors import BudgetError, ConfigError
from automl.evaluation.failures import lacks_memory, reason_of, require_any_batch, require_finite
from automl.evaluation.judge import Judge
from automl.evaluation.racing import estimates
from automl.evaluation.training_time import TrainingTime, in_time
from automl.evaluation.tuning import Tuner
from automl.fast.precision import choose_dtype, fast, first, formatted
from automl.fit.blockwise import STEPS
from automl.fit.builder import Builder
from automl.fit.building import Building
from automl.measures.counts import PRICED, excess
from automl.tasks.batches import Batch, compact
from automl.tasks.objectives import COMPARED, with_objective
from automl.tasks.problem import Problem
from automl.tasks.scores import measure_metrics
from automl.training.history import History
from automl.training.methods.base import Method
from automl.training.trainer import settle
from automl.types import Measurement, Outcome, Say, silent
from automl.util.threads import pinned_threads
from search_spaces import NetworkSpace, Plan, Point, Searched


@dataclass(frozen=True)
class Parts:
    """What an evaluator is made of, once prepared."""

    builder: Building
    """Makes networks of Points."""
    judge: Judge
    """Says what they are worth."""
    tuner: Tuner
    """Trains them."""
    training: TrainingOptions | None
    """How the network of every trial is trained, if it is, with nothing left to choose."""
    whole: Mapping[str, float] | None
    """What the original is worth and costs, where the goal weighs trials against it."""


class Evaluator:
    """Evaluates Points of one space on one problem; the same Point and rival always give the same values.

    A trial builds the smaller network, refits layers by least squares, re-estimates batch norms, and measures the
    problem's metrics on its validation batches, beside the costs that the space predicts and the objective if it weighs
    accuracy against cost. Where the problem's kind knows one, the `divergence` from the original's outputs is measured
    too. Nothing is trained unless the options say so. A network from which nothing was removed stays as it is. The
    networks that are reported are counted for real (`certify`).

    A trial with a rival races it: it ends early, with estimates, once it will hardly beat it.

    Once prepared it can be pickled cheaply: it takes along the validation data and what `prepare` gathered, but no
    training or test data.
    """

    def __init__(
        self,
        problem: Problem,
        space: Searched,
        options: EvaluationOptions | None = None,
        limits: Mapping[str, float] | None = None,
        threads: int | None = None,
        goal: Goal | None = None,
        original: Mapping[str, Tensor] | None = None,
        *,
        most_lost: float | None = None,
        builder: Building | None = None,
        parts: Parts | None = None,
    ) -> None:
        """Beside what is judged by what, `threads` None: as torch is set.

        `limits`: metric -> absolute upper limit of macs, params, size_bytes or another cost that the space predicts.
        `goal`: what trials race for; one of `WEIGHED` is computed for every trial, and has no race. `most_lost`: what
        may be lost of the rate that the goal weighs. `original`: the state of the network as it was given, if that of
        `space` has been trained since. `builder`: makes the networks, if `space` is not that of a given network.
        `parts`: what another evaluator of the same has prepared.
        """
        self.problem = problem
        self.space = space
        self.options = options or EvaluationOptions()
        self.limits = dict(limits or {})
        self.threads = threads
        self.goal, self._most_lost = goal, most_lost
        known = tuple(dict.fromkeys((*PRICED, *space.metrics)))
        unknown = sorted(self.limits.keys() - set(known))
        if unknown:
            raise ConfigError(f"no limit on {unknown[0]!r} can be kept: expected {', '.join(known)}")
        self._given = original
        if parts is not None:
            builder = parts.builder
        self._builder = builder or Builder(cast(NetworkSpace, space), self.options, original)
        self._made_parts = parts
        self.training_time: TrainingTime | None = None
        """Predicts how long trainings take, where options say how many seconds they may."""
        self.launch: Callable[..., History] | None = None
        """Trains with several workers."""

    @property
    def _parts(self) -> Parts:
        """What `prepare` gathered."""
        assert self._made_parts is not None
        return self._made_parts

    @property
    def _tuner(self) -> Tuner:
        """Who trains; before trials are prepared, in float32: what a search starts from is trained so."""
        if self._made_parts is not None:
            return self._made_parts.tuner
        return Tuner(self.problem, self._builder, torch.float32, self.judged)

    def prepare(self) -> None:
        """Gather once what every trial needs; called by the first trial if not before."""
        if self._made_parts is not None:
            return
        problem, space, builder, training = self.problem, self.space, self._builder, self.options.training
        with pinned_threads(self.threads):
            dtype = self._dtype()
            builder.prepare(problem, dtype)
            confidence = self.options.race if self.options.races else 0.0
            judge = Judge(problem, self.original, dtype, self.goal, confidence)
            if training is not None:
                training = settle(builder.example, problem.epochs(training.batch_size), training)
            whole = None
            if self.goal is not None and self.goal.metric in COMPARED:
                point = space.original_point
                scores, _ = judge.score(builder.build(point))
                whole = {m.metric: m.value for m in [*scores.measurements(), *self._predicted(point)]}
            tuner = Tuner(problem, builder, dtype, self.judged, training)
        self._made_parts = Parts(builder, judge, tuner, training, whole)

    def _dtype(self) -> torch.dtype:
        """The arithmetic of trials; float32 where there is no trained network to try another on."""
        if self.options.precision != "auto":
            dtype: torch.dtype = getattr(torch, self.options.precision)
            return dtype
        return torch.float32 if self.original is None else choose_dtype(self.original, self.problem)

    @property
    def original(self) -> nn.Module | None:
        """The network as it was given: what a Point is that removes nothing, what others are compared with, and learn
        from. That of the space unless it was trained before the search; None where networks are made from nothing."""
        return self._builder.original

    def sensitivity(self) -> Sensitivity:
        """What each level of each knob alone is estimated to cost in loss; of skips there is no such estimate.

        The first call needs the calibration data.
        """
        self.prepare()
        with pinned_threads(self.threads):
            return self._builder.sensitivity(self.problem)

    def __call__(self, point: Point, rival: Point | None = None) -> Outcome:
        """What `point` is worth, to be better than `rival`. A trial that cannot be run, or gives NaN, has failed.

        Only a lack of memory is raised.
        """
        return self._guarded(lambda: self._trial(point, rival))

    def after(self, point: Point, epochs: int, checkpoint: Path) -> Outcome:
        """What `point` is worth after `epochs` epochs of the training that trials have; at the last the whole trial.

        The training goes on from `checkpoint`, where it left off or anew, and leaves it there. Before the last epoch
        the trial is `STOPPED`, unless it has failed; what is measured has the epoch as its step. A network over the
        budget is no match for others and is trained to the end at once; the original is not trained at all.
        """
        return self._guarded(lambda: self._part(point, epochs, checkpoint))

    def _guarded(self, trial: Callable[[], Outcome]) -> Outcome:
        self.prepare()
        start = time.perf_counter()
        with pinned_threads(self.threads):
            try:
                outcome = trial()
            except Exception as error:
                if lacks_memory(error):  # that may pass: who runs the trial decides whether it is tried again
                    raise
                outcome = Outcome.failed(reason_of(error))
        return replace(outcome, wall_s=time.perf_counter() - start)

    def _part(self, point: Point, epochs: int, checkpoint: Path) -> Outcome:
        assert self._parts.training is not None
        costs = self._predicted(point)
        over, changes, last = excess(costs, self.limits), self.changes(point), self._parts.training.epochs
        if over or not changes:
            epochs = last
        network = self._builder.build(point)
        if changes:
            self.train(network, point, self._parts.training, checkpoint=checkpoint, until=epochs)
        self._require_sound(network)
        judged = self._with_objective([*self._parts.judge.score(network)[0].measurements(), *costs])
        measured = [m if m in costs else replace(m, step=epochs) for m in judged]
        if over:
            return Outcome.infeasible(f"over the budget: {over}", measured)
        if epochs < last:
            return Outcome.stopped(f"after {epochs} of {last} epochs", measured)
        return Outcome.done(measured)

    def _trial(self, point: Point, rival: Point | None) -> Outcome:
        costs = self._predicted(point)
        over = excess(costs, self.limits)
        network = self._made(point)
        self._require_sound(network)
        theirs = self._parts.judge.rival(rival, self._builder.build) if rival is not None and not over else None
        scores, lost = self._parts.judge.score(network, theirs)
        if lost and theirs is not None:
            seen, total = sum(scores.sizes), sum(theirs.sizes)
            reason = f"will not beat the best of its lane, as {seen} of {total} samples show"
            return Outcome.stopped(reason, [*estimates(scores, theirs), *costs])
        self._parts.judge.remember(point, scores)
        measured = self._with_objective([*scores.measurements(), *costs])
        return Outcome.infeasible(f"over the budget: {over}", measured) if over else Outcome.done(measured)

    def _require_sound(self, network: nn.Module) -> None:
        """Raise unless the weights are finite, and the network takes any batch if the original does."""
        require_finite(network)
        if self.space.any_batch:
            require_any_batch(network, self.problem.example_inputs)

    def _with_objective(self, measured: Sequence[Measurement]) -> list[Measurement]:
        """`measured`, and the goal if that weighs accuracy against cost."""
        goal, rate = self.goal.metric if self.goal else "", self.problem.kind.headline
        return with_objective(measured, goal, rate, self._parts.whole, self._most_lost)

    def _predicted(self, point: Point) -> list[Measurement]:
        """The costs as the space predicts them; counting them anew takes a tenth of a trial's time.

        MACs and parameters are exact, bytes at most a little too many, latency is by its table.
        """
        return [Measurement(metric, self.space.cost(point, metric), _unit(metric)) for metric in self.space.metrics]

    def counts(self, network: nn.Module) -> list[Measurement]:
        """The costs counted on a built network."""
        return self._builder.counts(network, self.problem.example_inputs)

    def certify(self, network: nn.Module) -> list[Measurement]:
        """The counts of a finished network; a `BudgetError` if one exceeds a limit, whatever was predicted."""
        measured = self.counts(network)
        over = excess(measured, self.limits)
        if over:
            raise BudgetError(f"the network exceeds its budget: {over}. Nothing should be shipped from this trial")
        return measured

    def network(self, point: Point) -> nn.Module:
        """The very network that a trial at `point` measures: float32, nothing folded, on the CPU, in eval mode."""
        self.prepare()
        with pinned_threads(self.threads):
            return self._made(point)

    def _made(self, point: Point) -> nn.Module:
        """The network at `point`, refitted, and trained if trials are."""
        network = self._builder.build(point)
        if self._parts.training is not None and self.changes(point):
            self.train(network, point, self._parts.training)
        return network

    def changes(self, point: Point) -> bool:
        """Whether the network at `point` is another than the original."""
        return self._builder.changes(point)

    @property
    def judged(self) -> Goal:
        """By what the epochs of a training are compared: the goal where that is a metric of the problem, else what
        people judge by, from which objectives that weigh cost are made too."""
        if self.goal is not None and self.goal.metric in self.problem.metrics:
            return self.goal
        kind = self.problem.kind
        return Goal(kind.headline, kind.metrics[kind.headline].direction)

    def train(
        self,
        network: nn.Module,
        point: Point,
        options: TrainingOptions,
        *,
        plan: Plan | None = None,
        validated: bool = False,
        checkpoint: Path | None = None,
        until: int | None = None,
        methods: Sequence[Method] = (),
        say: Say = silent,
    ) -> History:
        """Train the network at `point` in place, on the problem's training data, by its loss or by distillation.

        `plan`: what the network was built from, if not as a trial is. `validated`: measure what epochs are compared
        by on the validation data after each, even if only the last counts. The rest as of
        `automl.training.trainer.train`.

        A method that begins with all weights is given them: the network at `point` as it is before any are removed.
        """
        judged = self.judged
        plan = plan or self.plan(point)
        options = in_time(options, self.training_time, network, self.problem.example_inputs)

        def validate(network: nn.Module) -> dict[str, float]:
            measured = self.measure(network, self.problem.validation)
            return {m.metric: m.value for m in measured if m.metric == judged.metric}

        with pinned_threads(self.threads):
            own = self._builder.methods(network, plan, options.method)
            if options.method is not None and options.method.dense:
                network.load_state_dict(self._builder.build(point, without="sparsity").state_dict())
            return self._tuner.train(
                network,
                plan,
                options,
                validate if validated or options.keep == "best" else None,
                checkpoint=checkpoint,
                until=until,
                methods=[*own, *methods],
                say=say,
                launch=self.launch,
            )

    def plan(self, point: Point) -> Plan:
        """Which channels a trial at `point` keeps."""
        self.prepare()
        return self._builder.plan(point)

    def finishing(self, *, blockwise: bool = False, steps: int = STEPS, say: Say = silent) -> Evaluator:
        """An evaluator that keeps the same channels and fits them sequentially and thoroughly.

        For the few networks that are reported: it takes seconds where a trial takes tenths, and minutes if blocks are
        tuned too (`blockwise`). Needs the calibration data, which a pickled evaluator has left behind. Where
        nothing is fitted, and no blocks are tuned, the networks reported are those of the trials.
        """
        self.prepare()
        with pinned_threads(self.threads):
            builder = self._builder.thorough(self.problem, blockwise=blockwise, steps=steps, say=say)
        return self._varied(self.options, builder=builder)

    def reporting(self, how: str, *, steps: int = STEPS, say: Say = silent) -> Evaluator:
        """An evaluator that rebuilds networks as they are reported, before any training: in the way `how` of
        `finish.reconstruction`. The rest as of `finishing`."""
        careful = self if how == "as_searched" else self.finishing(blockwise=how == "blockwise", steps=steps, say=say)
        return careful.untrained()

    def untrained(self) -> Evaluator:
        """This evaluator without the training of each trial, for networks that are trained in another way."""
        if self.options.training is None:
            return self
        self.prepare()
        return self._varied(replace(self.options, training=None), training=None)

    def _varied(self, options: EvaluationOptions, **parts: Any) -> Evaluator:
        """This evaluator with other options and parts; it has all data, unlike a pickle, and remembers no trial."""
        judge, made = self._parts.judge.on(self.problem.validation), self._parts
        changed = replace(made, judge=judge, tuner=made.tuner.on(self.problem), **parts)
        given = self.problem, self.space, options, self.limits, self.threads, self.goal, self._given
        other = Evaluator(*given, most_lost=self._most_lost, parts=changed)
        other.training_time, other.launch = self.training_time, self.launch
        return other

    def measure(self, network: nn.Module, batches: Sequence[Batch]) -> list[Measurement]:
        """The problem's metrics of `network` over `batches` in float32, with standard errors."""
        with pinned_threads(self.threads):
            quick = fast(network, torch.float32)
            return measure_metrics(quick, formatted(batches, torch.float32), self.problem.metrics)

    def measure_validation(self, network: nn.Module) -> list[Measurement]:
        """What `network` is worth and costs: a trial's metrics on all validation data, in float32, and its counts."""
        self.prepare()
        with pinned_threads(self.threads):
            scores = self._parts.judge.score_exactly(network)
            return self._with_objective([*scores.measurements(), *self.counts(network)])

    def __getstate__(self) -> dict[str, object]:
        if self._made_parts is None:
            return dict(self.__dict__)
        problem = copy.copy(self.problem)
        problem.recalibration = problem.test = None  # these may hold a whole training set
        if self._parts.training is None:
            problem.training = None
        problem.calibration, problem.validation = compact(first(problem.calibration, 2)), compact(problem.validation)
        judge = self._parts.judge.on(problem.validation)
        parts = replace(self._parts, judge=judge, tuner=self._parts.tuner.on(problem))
        return {**self.__dict__, "problem": problem, "_made_parts": parts}


def _unit(metric: str) -> str:
    return {"macs": "MAC", "size_bytes": "B"}.get(metric, "ms" if metric.endswith("_ms") else "")

"""From a Point to what it is worth: the network rebuilt, its weights repaired, its accuracy measured."""

from __future__ import annotations

import copy
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import nn

from automl.errors import ConfigError
from automl.evaluation.certify import COUNTED, counts, excess
from automl.evaluation.gram import Gram, gather_grams, supported
from automl.evaluation.importance import activation_scores
from automl.evaluation.metrics import NotFiniteError, measure_metrics
from automl.evaluation.options import EvaluationOptions
from automl.evaluation.precision import choose_dtype, fast, first, formatted
from automl.evaluation.recalibration import recalibrate
from automl.evaluation.reconstruction import Reconstruction, kept_in_groups
from automl.measures import pinned_threads
from automl.problem import Batch, Problem, compact
from automl.types import Measurement, Outcome
from search_spaces import ChannelSpace, Plan, Point

RECALIBRATION_SEED = 0
RECALIBRATION_SAMPLES = 256
"""How many samples batch norms are re-estimated on. On a pruned ResNet-56 128, 256 and 512 gave the same accuracy to
0.2 points, and the passes over 512 took longer than measuring it on 1,000."""


class Evaluator:
    """Evaluates Points of one space on one problem; the same Point always gives the same values.

    A trial builds the smaller network, refits layers that lost inputs by least squares, re-estimates batch norms,
    and measures the problem's metrics on its validation batches, beside `macs`, `params` and `size_bytes` as
    counted on the built network. Nothing is trained. A network from which nothing was removed stays as it is.

    Once prepared it can be pickled cheaply: it takes along the validation data and what `prepare` gathered, but no
    training or test data.
    """

    def __init__(
        self,
        problem: Problem,
        space: ChannelSpace,
        options: EvaluationOptions | None = None,
        limits: Mapping[str, float] | None = None,
        threads: int | None = None,
    ) -> None:
        """`limits`: metric -> absolute upper limit of macs, params, size_bytes; `threads` None: as torch is set."""
        self.problem = problem
        self.space = space
        self.options = options or EvaluationOptions()
        self.limits = dict(limits or {})
        self.threads = threads
        unknown = sorted(self.limits.keys() - set(COUNTED))
        if unknown:
            raise ConfigError(f"no limit on {unknown[0]!r} can be kept: expected {', '.join(COUNTED)}")
        self._prepared = False
        self._scores: dict[str, np.ndarray] = {}
        self._reconstruction: Reconstruction | None = None
        self._recalibration: list[Batch] = []
        self._dtype = torch.float32
        self._validation: list[Batch] | None = None

    def prepare(self) -> None:
        """Gather once what every trial needs; called by the first trial if not before."""
        if self._prepared:
            return
        with pinned_threads(self.threads):
            grams = self._gather()
            activation = self.options.importance == "activation"
            self._scores = activation_scores(self.space, grams) if activation else self.space.magnitudes
            if self.options.reconstruction == "least_squares":
                self._reconstruction = Reconstruction(self.space.original, grams)
            if self.options.precision == "auto":
                self._dtype = choose_dtype(self.space.original, self.problem.validation, self.problem.metrics)
            else:
                self._dtype = getattr(torch, self.options.precision)
            if self.options.recalibration == "batch_norm":
                draw = self.problem.recalibration
                drawn = draw(RECALIBRATION_SEED) if draw else self.problem.calibration
                self._recalibration = formatted(first(drawn, RECALIBRATION_SAMPLES), self._dtype)
        self._prepared = True

    def _gather(self) -> dict[str, Gram]:
        """Gram matrices of the layers that can lose some of the inputs of a group."""
        if self.options.reconstruction == "none" and self.options.importance != "activation":
            return {}
        network = self.space.original
        smallest = self.space.slices(self.space.plan(self.space.point(self.space.lowest.tolist())))
        names = []
        for name, kept in smallest.items():
            if supported(layer := network.get_submodule(name)) and kept_in_groups(layer, kept.kept_in):
                names.append(name)
        return gather_grams(network, names, self.problem.calibration)

    def __call__(self, point: Point, rival: Point | None = None) -> Outcome:
        """What `point` is worth. A trial that cannot be run, or gives NaN, is an Outcome with a reason."""
        self.prepare()
        start = time.perf_counter()
        with pinned_threads(self.threads):
            try:
                outcome = self._trial(point)
            except Exception as error:
                outcome = Outcome.failed(_reason(error))
        return replace(outcome, wall_s=time.perf_counter() - start)

    def _trial(self, point: Point) -> Outcome:
        network = self._build(point)
        costs = counts(network, self.problem.example_inputs)
        if self._validation is None:
            self._validation = formatted(self.problem.validation, self._dtype)
        _require_finite(network)
        quick = fast(network, self._dtype)
        measured = [*measure_metrics(quick, self._validation, self.problem.metrics), *costs]
        over = excess(costs, self.limits)
        return Outcome.infeasible(f"over the budget: {over}", measured) if over else Outcome.done(measured)

    def network(self, point: Point) -> nn.Module:
        """The very network that a trial at `point` measures: float32, nothing folded, on the CPU, in eval mode."""
        self.prepare()
        with pinned_threads(self.threads):
            return self._build(point)

    def _build(self, point: Point) -> nn.Module:
        plan = self.space.plan(point, self._scores)
        network = self.space.build(plan).eval()
        if np.array_equal(self.space.levels(point), self.space.highest):
            return network
        if self._reconstruction:
            self._reconstruction.apply(network, self.space.slices(plan))
        recalibrate(network, self._recalibration, self._dtype)
        return network

    def plan(self, point: Point) -> Plan:
        """Which channels a trial at `point` keeps."""
        self.prepare()
        return self.space.plan(point, self._scores)

    def measure(self, network: nn.Module, batches: Sequence[Batch], *, prefix: str = "") -> list[Measurement]:
        """The problem's metrics of `network` over `batches` in float32, with standard errors.

        `prefix` goes before each metric's name, as in `test_accuracy`.
        """
        with pinned_threads(self.threads):
            quick = fast(network, torch.float32)
            return measure_metrics(quick, formatted(batches, torch.float32), self.problem.metrics, prefix=prefix)

    def __getstate__(self) -> dict[str, object]:
        if not self._prepared:
            return dict(self.__dict__)
        problem = copy.copy(self.problem)
        problem.recalibration = problem.test = None  # these may hold a whole training set
        problem.calibration, problem.validation = compact(first(problem.calibration, 2)), compact(problem.validation)
        return {
            **self.__dict__,
            "problem": problem,
            "_recalibration": compact(self._recalibration),
            "_validation": None,
        }


def _require_finite(network: nn.Module) -> None:
    """Raise `NotFiniteError` for NaN or infinite weights: a fused ReLU turns NaN into 0 and would hide them."""
    sick = [name for name, parameter in network.named_parameters() if not parameter.isfinite().all()]
    sick += [name for name, buffer in network.named_buffers() if buffer.isnan().any()]
    if sick:
        raise NotFiniteError(f"{sick[0]} is not finite")


def _reason(error: Exception) -> str:
    """Why a trial failed, in one line."""
    text = " ".join(str(error).split())
    if isinstance(error, NotFiniteError):
        return text
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)) or (
        isinstance(error, RuntimeError) and ("out of memory" in text.lower() or "allocate memory" in text.lower())
    ):
        return f"out of memory: {text}" if text else "out of memory"
    return f"{type(error).__name__}: {text}" if text else type(error).__name__

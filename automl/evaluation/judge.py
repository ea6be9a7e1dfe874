"""What networks are worth on the validation samples: each by itself, or in a race with a rival."""

from __future__ import annotations

import copy
import random
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map_only

from agents import Goal
from automl.evaluation.racing import hopeless, looks
from automl.fast.precision import fast, formatted
from automl.tasks.base import DIVERGENCE
from automl.tasks.batches import Batch, own
from automl.tasks.metric import Metric
from automl.tasks.problem import Problem
from automl.tasks.scores import Scores
from search_spaces import Point

RIVALS = 16
"""How many rivals' scores are remembered: one a lane that is running, and some to spare."""


class Judge:
    """Scores networks on the validation samples of a problem, and stops when one has lost its race.

    Where the problem's kind knows one, the `divergence` of the outputs from those of `original`, if there is one, is
    scored too. Trials are computed in `dtype`. A race is about `goal`, with this `confidence` that a trial which is
    stopped would not have won; 0 or a goal that is not measured on samples: there is none.
    """

    def __init__(
        self, problem: Problem, original: nn.Module | None, dtype: torch.dtype, goal: Goal | None, confidence: float
    ) -> None:
        self._metrics, self._divergence = problem.metrics, problem.kind.divergence if original is not None else None
        self._batches: Sequence[Batch] = problem.validation
        self._dtype, self._goal, self._confidence = dtype, goal, confidence
        # What is looked at first should stand for the rest, whatever order the data come in.
        self._order = list(range(len(self._batches)))
        random.Random(0).shuffle(self._order)
        self._references = self._outputs(original) if original is not None and self._divergence is not None else []
        self._formatted: list[Batch] | None = None
        self._rivals: OrderedDict[str, Scores] = OrderedDict()

    def _outputs(self, original: nn.Module) -> list[Any]:
        """The outputs of the original for each batch."""
        quick = fast(original, torch.float32)
        with torch.inference_mode():
            return [tree_map_only(Tensor, own, quick(*inputs)) for inputs, _ in formatted(self._batches, torch.float32)]

    def _scored(self, i: int) -> Mapping[str, Metric]:
        """What is scored on batch `i`."""
        divergence = self._divergence
        if divergence is None:
            return self._metrics
        reference = self._references[i]
        return {**self._metrics, DIVERGENCE: Metric(lambda outputs, targets: divergence(outputs, reference))}

    def on(self, batches: Sequence[Batch]) -> Judge:
        """This judge with the same samples, held in another way, and no rival in memory."""
        other = copy.copy(self)
        other._batches, other._formatted, other._rivals = batches, None, OrderedDict()
        return other

    def score(self, network: nn.Module, rival: Scores | None = None) -> tuple[Scores, bool]:
        """The scores of a trial's `network`, batch after batch, and whether it lost its race on the way."""
        if self._formatted is None:
            self._formatted = formatted(self._batches, self._dtype)
        quick = fast(network, self._dtype)
        stops = looks([len(targets) for _, targets in (self._formatted[i] for i in self._order)])
        scores = Scores()
        for count, i in enumerate(self._order, start=1):
            scores.add(quick, self._formatted[i], self._scored(i))
            if rival is None or self._goal is None or count not in stops:
                continue
            if hopeless(scores, rival, self._goal, self._confidence):
                return scores, True
        return scores, False

    def score_exactly(self, network: nn.Module) -> Scores:
        """The scores of `network` in float32."""
        quick = fast(network, torch.float32)
        scores = Scores()
        for i, batch in enumerate(self._batches):
            scores.add(quick, formatted([batch], torch.float32)[0], self._scored(i))
        return scores

    def rival(self, point: Point, build: Callable[[Point], nn.Module]) -> Scores | None:
        """The scores of `point` on every sample, if there are races; `build` makes its network again if they are
        forgotten, as after a resume."""
        if self._goal is None or not self._confidence or self._goal.metric not in self._raced:
            return None
        if point.key not in self._rivals:
            self.remember(point, self.score(build(point))[0])
        self._rivals.move_to_end(point.key)
        return self._rivals[point.key]

    def remember(self, point: Point, scores: Scores) -> None:
        """Keep the scores of a trial that may be the next one's rival."""
        self._rivals[point.key] = scores
        if len(self._rivals) > RIVALS:
            self._rivals.popitem(last=False)

    @property
    def _raced(self) -> set[str]:
        """The metrics that a race can be about: those measured on samples."""
        return {*self._metrics, *([DIVERGENCE] if self._divergence is not None else [])}

"""Segmentation: a class at each pixel, from class scores [n, classes, ...] or one channel of logits [n, 1, ...]."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from automl.errors import DataError
from automl.tasks.classification import Classification, hits
from automl.tasks.losses import IGNORED, ignored_label, loss_metric, require_labels
from automl.tasks.metric import Metric, Score, weighted_mean


def class_scores(outputs: Tensor) -> Tensor:
    """`outputs` as scores of at least two classes: one channel z is 0 and z, whose softmax is the sigmoid of z."""
    return torch.cat([torch.zeros_like(outputs), outputs], 1) if outputs.shape[1] == 1 else outputs


def labels(outputs: Tensor, targets: Tensor) -> Tensor:
    """`targets` as indices of the pixels of `outputs`: [n, ...]; a mask may have the one channel of the outputs."""
    return targets.reshape(len(outputs), *outputs.shape[2:]).long()


def overlaps(outputs: Tensor, targets: Tensor, ignored: int = IGNORED) -> Tensor:
    """Of each sample the pixels of each class that prediction and label share, then those of either: [n, 2 classes].

    Pixels labelled `ignored` are in neither.
    """
    scores, truth = class_scores(outputs), labels(outputs, targets)
    counts, predicted = truth != ignored, scores.argmax(1)
    classes = scores.shape[1]

    def sizes(found: Tensor, where: Tensor) -> Tensor:
        """How often each class stands in `found` where it counts: [n, classes]."""
        sample = torch.arange(len(found)).view(-1, *[1] * (found.ndim - 1)).expand_as(found)
        places = (sample * classes + found)[where]
        return torch.bincount(places, minlength=len(found) * classes).view(-1, classes).double()

    shared = sizes(predicted, counts & (predicted == truth))
    return torch.cat([shared, sizes(predicted, counts) + sizes(truth, counts) - shared], 1)


def mean_overlap(sums: Tensor) -> float:
    """The mean intersection over union of the classes that are labelled or predicted anywhere, from `overlaps`."""
    shared, either = sums.chunk(2)
    there = either > 0
    return float((shared[there] / either[there]).mean())


def right_pixels(outputs: Tensor, targets: Tensor, ignored: int = IGNORED) -> Tensor:
    """How many pixels of each sample are right, and how many count: [n, 2]."""
    return hits(class_scores(outputs), labels(outputs, targets), ignored)


@dataclass(frozen=True)
class Segmentation:
    """The kind of task whose outputs score the classes of each pixel; targets are indices, or a mask of 0 and 1.

    It is judged by the mean over classes of the intersection over union, over the whole split.
    """

    loss: Score = F.cross_entropy
    void: int | None = None
    """The label of pixels that do not count; None: the one that the loss leaves out."""
    headline = "miou"
    imitates = False

    @property
    def metrics(self) -> Mapping[str, Metric]:
        """The mean intersection over union, the part of the pixels that is right, and the loss."""
        ignored = ignored_label(self.loss) if self.void is None else self.void
        overlap, right = partial(overlaps, ignored=ignored), partial(right_pixels, ignored=ignored)
        return {
            self.headline: Metric(direction="maximize", unit="%", statistics=overlap, value=mean_overlap),
            "pixel_accuracy": Metric(direction="maximize", unit="%", statistics=right, value=weighted_mean),
            "loss": loss_metric(self.loss),
        }

    def require_labels(self, outputs: Tensor, targets: Tensor) -> None:
        """Raise `DataError` if the label of a pixel is no index of a class, of a mask 0 or 1, and not left out."""
        require_labels(targets, max(outputs.shape[1], 2), self.loss, self.void)

    @staticmethod
    def divergence(outputs: Tensor, originals: Tensor) -> Tensor:
        """The Kullback-Leibler divergence of each pixel's probabilities from the original's: [n, ...]."""
        return Classification.divergence(class_scores(outputs), class_scores(originals))

    @staticmethod
    def softened(outputs: Tensor, reference: Tensor, temperature: float) -> Tensor:
        """That of classification, at each pixel."""
        return Classification.softened(class_scores(outputs), class_scores(reference), temperature)

    @staticmethod
    def drawn_loss(outputs: Tensor, targets: Tensor, generator: torch.Generator) -> Tensor:
        """That of classification, at each pixel. Errors: `NotFiniteError`."""
        return Classification.drawn_loss(class_scores(outputs), targets, generator)

    @staticmethod
    def agreement(outputs: Tensor, others: Tensor) -> Tensor:
        """Whether the most likely class is the same, 1 or 0: [n, ...]."""
        return Classification.agreement(class_scores(outputs), class_scores(others))


def require_pixels(outputs: Any, targets: Tensor) -> None:
    """Raise `DataError` unless `outputs` are class scores of the pixels of `targets`, or one channel for a mask."""
    fits = isinstance(outputs, Tensor) and outputs.ndim > 2
    if fits and outputs.shape[1] == 1:
        fits = targets.shape in (outputs.shape, outputs[:, 0].shape)
    elif fits:
        fits = not targets.is_floating_point() and targets.shape == outputs[:, 0].shape
    if not fits:
        shape = list(outputs.shape) if isinstance(outputs, Tensor) else type(outputs).__name__
        raise DataError(
            f"segmentation needs class scores [n, classes, h, w] with indices [n, h, w] as targets, or one channel "
            f"[n, 1, h, w] with a mask of 0 and 1, got outputs {shape} and targets {list(targets.shape)} of "
            f"{targets.dtype}. Give such targets, or another task"
        )

"""How long networks of a space take to train, predicted from what their layers do.

Multiply-accumulates alone do not tell: those of grouped convolutions take several times as long as others, longest
where they are strided, and in small networks calling a layer takes longer than what it computes. So the seconds that a
sample takes are a sum, with coefficients of at least 0, over what a network has of each of `FEATURES`. A few networks
of the space are trained for some batches, and the coefficients found by least squares on the relative errors (Lawson &
Hanson 1974, as in SciPy). The prediction goes on record with the study: whoever resumes it trains networks for as long
as before.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from scipy.optimize import nnls
from torch import Tensor, nn

from automl.config.training import TrainingOptions

FEATURES = (
    "multiply-accumulates",
    "of grouped convolutions",
    "of strided grouped convolutions",
    "activations",
    "layers a batch",
    "samples",
)
"""What a sample takes time for; the last is reading it."""


@dataclass(frozen=True)
class TrainingTime:
    """Predicts how long training takes."""

    coefficients: tuple[float, ...]
    """Seconds for one of each of `FEATURES`."""
    samples: int
    """Of the training data."""
    error: float
    """The largest relative error on the networks that it was found from."""

    def each_s(self, network: nn.Module, inputs: Sequence[Tensor], batch_size: int) -> float:
        """Seconds that a sample takes in training `network` in such batches."""
        return float(np.dot(self.coefficients, features(network, inputs, batch_size)))

    def within(self, options: TrainingOptions, each_s: float) -> TrainingOptions:
        """`options` with as many epochs, or samples of one, as their `seconds` allow if a sample takes `each_s`."""
        assert options.seconds is not None
        there = self.samples if options.samples is None else min(options.samples, self.samples)
        affordable = max(options.batch_size, int(options.seconds / each_s))
        if affordable >= there * options.epochs:
            return replace(options, seconds=None)
        epochs = math.ceil(affordable / there)
        return replace(options, seconds=None, epochs=epochs, samples=math.ceil(affordable / epochs))

    def to_record(self) -> dict[str, Any]:
        """Plain data for the database."""
        return {"coefficients": list(self.coefficients), "samples": self.samples, "error": self.error}

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> TrainingTime:
        """The inverse of `to_record`."""
        return cls(tuple(record["coefficients"]), record["samples"], record["error"])


def in_time(
    options: TrainingOptions, predicted: TrainingTime | None, network: nn.Module, inputs: Sequence[Tensor]
) -> TrainingOptions:
    """`options` with epochs in place of seconds, as many as training `network` is predicted to manage in them."""
    if options.seconds is None:
        return options
    assert predicted is not None
    return predicted.within(options, predicted.each_s(network, inputs, options.batch_size))


def found_from(rows: np.ndarray, seconds: np.ndarray, samples: int) -> TrainingTime:
    """The prediction that fits networks of these features, [n, n_features], that took these seconds a sample, [n]."""
    coefficients, _ = nnls(rows / seconds[:, None], np.ones(len(seconds)))
    error = float(np.abs(rows @ coefficients / seconds - 1).max())
    return TrainingTime(tuple(float(c) for c in coefficients), samples, round(error, 4))


def features(network: nn.Module, inputs: Sequence[Tensor], batch_size: int) -> np.ndarray:
    """What a sample has of each of `FEATURES` in training `network`, which is in eval mode: [n_features]."""
    found = np.zeros(len(FEATURES))
    n = len(inputs[0])

    def note(layer: nn.Module, _: Any, output: Any) -> None:
        if not isinstance(output, Tensor):
            return
        found[3] += output.numel() / n
        found[4] += 1 / batch_size
        if isinstance(layer, nn.Conv1d | nn.Conv2d):
            kernel = layer.in_channels // layer.groups * math.prod(layer.kernel_size)
            kind = 0 if layer.groups == 1 else 1 if max(layer.stride) == 1 else 2
            found[kind] += output.numel() / n * kernel
        elif isinstance(layer, nn.Linear):
            found[0] += output.numel() / n * layer.in_features

    leaves = [layer for layer in network.modules() if not list(layer.children())]
    hooks = [layer.register_forward_hook(note) for layer in leaves]
    try:
        with torch.inference_mode():
            network(*inputs)
    finally:
        for hook in hooks:
            hook.remove()
    found[5] = 1.0
    return found

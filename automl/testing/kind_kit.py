"""What any kind of task must do: subclass, give an example, and collect the tests."""

from __future__ import annotations

import pickle
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from automl.tasks.base import Kind
from automl.tasks.metric import Metric

Example = tuple[Kind, Any, Tensor]
"""A kind, outputs of a network for some samples, and their targets: float64, so that sums are what they should be."""


def seeded() -> torch.Generator:
    """The generator of what is drawn."""
    return torch.Generator().manual_seed(0)


class KindConformance:
    """Set `example`, a method or a fixture that gives a kind, outputs for six samples or so, all of them different, and
    targets."""

    @pytest.fixture
    def example(self) -> Example:
        """What is tested."""
        raise NotImplementedError

    def test_it_travels_to_workers(self, example: Example) -> None:
        assert pickle.loads(pickle.dumps(example[0])) == example[0]

    def test_metrics_are_means_over_samples_and_the_headline_is_one(self, example: Example) -> None:
        kind, outputs, targets = example
        assert kind.headline in kind.metrics and all(isinstance(metric, Metric) for metric in kind.metrics.values())
        if "loss" in kind.metrics:
            assert kind.metrics["loss"].direction == "minimize"
            assert kind.metrics["loss"].of(outputs, targets) == pytest.approx(float(kind.loss(outputs, targets)))
        for metric in kind.metrics.values():
            assert metric.unit != "%" or 0 <= metric.of(outputs, targets) <= 1

    def test_outputs_agree_with_themselves_and_are_no_distance_away(self, example: Example) -> None:
        kind, outputs, _ = example
        assert (kind.agreement(outputs, outputs) == 1).all()
        if kind.divergence is None:
            return
        assert kind.divergence(outputs, outputs).abs().max() < 1e-12
        each = kind.divergence(outputs, outputs.flip(0))
        assert len(each) == len(outputs) and (each > 0).all()

    def test_the_drawn_loss_is_repeatable_and_reaches_all_outputs(self, example: Example) -> None:
        kind, outputs, targets = example
        outputs.requires_grad_(True)
        loss, again = (kind.drawn_loss(outputs, targets, seeded()) for _ in range(2))
        assert loss.ndim == 0 and torch.equal(loss, again)
        (gradient,) = torch.autograd.grad(loss, outputs)
        assert gradient.isfinite().all() and (gradient != 0).all()

    def test_softening_is_for_probabilities(self, example: Example) -> None:
        kind, outputs, _ = example
        if kind.softened is None:
            return
        loss = kind.softened(outputs, outputs.flip(0), 2.0)
        if outputs.shape[1] == 1:  # of a mask: the scores of no and yes
            outputs = torch.cat([torch.zeros_like(outputs), outputs], 1)
        classes = outputs.shape[1]
        theirs, ours = (
            torch.softmax(x.float().movedim(1, -1).reshape(-1, classes) / 2, 1) for x in (outputs.flip(0), outputs)
        )
        torch.testing.assert_close(loss, 4 * F.kl_div(ours.log(), theirs, reduction="batchmean"), check_dtype=False)

    def test_its_own_targets_are_accepted(self, example: Example) -> None:
        kind, outputs, targets = example
        kind.require_labels(outputs, targets)

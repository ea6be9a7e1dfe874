"""Makes the networks of a space of cells with the weights that all share, so that nothing has to be trained."""

from __future__ import annotations

import torch
from torch import nn

from automl.fit.cell_builder import CellBuilder
from automl.fit.recalibration import recalibrate
from automl.tasks.batches import Batch
from automl.tasks.problem import Problem
from search_spaces import Point, Searched, Supernet

SEED = 0
"""Of the training samples on which statistics are estimated."""
BATCH = 128
"""How many of them at a time, of data that can be had so."""


class SubnetBuilder(CellBuilder):
    """Builds networks with the weights of a supernet, the statistics of their norms estimated on training samples."""

    def __init__(self, space: Searched, reference: Point, weights: Supernet, samples: int) -> None:
        """`samples`: on how many statistics are estimated; their batches are augmented as in training."""
        super().__init__(space, reference)
        self.supernet = weights.eval()
        self._samples = samples
        self._batches: list[Batch] = []

    def prepare(self, problem: Problem, dtype: torch.dtype) -> None:
        """Keep the samples on which statistics are estimated."""
        seen = 0
        for inputs, targets in problem.epochs(BATCH)(SEED):
            self._batches.append((inputs, targets))
            seen += len(targets)
            if seen >= self._samples:
                break

    def build(self, point: Point, *, without: str | None = None) -> nn.Module:
        """The network at `point`, the same whenever it is built; no operator has a step."""
        network = self.supernet.plain(point)
        recalibrate(network, self._batches)
        return network

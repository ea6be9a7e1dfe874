"""What a network standardises its inputs by, and puts its numbers back with: measured on training data, not learnt."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from search_spaces.cells.modules import Standardize, Unstandardize
from search_spaces.errors import SpaceError

Pair = tuple[tuple[float, ...], tuple[float, ...]]
"""Means and standard deviations."""


@dataclass(frozen=True)
class Scales:
    """Of inputs and of numbers put out: mean and standard deviation of each; None where they stay as they are."""

    inputs: Pair | None = None
    """Of each channel."""
    numbers: Pair | None = None

    @classmethod
    def of(cls, network: nn.Module) -> Scales:
        """Those of a network of cells."""
        found = {
            kind: (tuple(layer.offset.flatten().tolist()), tuple(layer.spread.flatten().tolist()))
            for kind in (Standardize, Unstandardize)
            for layer in network.modules()
            if isinstance(layer, kind)
        }
        return cls(found.get(Standardize), found.get(Unstandardize))

    def put(self, network: nn.Module) -> None:
        """Let `network` standardise by these, in place. `SpaceError` if it has another number of channels."""
        for layer in network.modules():
            if isinstance(layer, Standardize | Unstandardize):
                pair = self.inputs if isinstance(layer, Standardize) else self.numbers
                if pair is None or len(pair[0]) != len(layer.offset) or len(pair[1]) != len(layer.spread):
                    raise SpaceError(
                        f"expected the mean and standard deviation of each of {len(layer.offset)} channels, got "
                        f"{'none' if pair is None else len(pair[0])}: measure them on the training data"
                    )
                _fill(layer.offset, pair[0])
                _fill(layer.spread, pair[1])


def _fill(buffer: Tensor, values: tuple[float, ...]) -> None:
    buffer.copy_(torch.tensor(values).reshape(buffer.shape))

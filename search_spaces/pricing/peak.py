"""The peak memory of activations as a cost: foretold for any widths from one run of the whole network.

While the network runs once on one sample it is noted which storages are alive whenever a new one is made. Of each
storage it is known which call made it and so, from the labels of what that call returns, how its size goes with the
widths. The cost is the most that any of these moments adds up to, and never falls when a width rises.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, fx
from torch.utils._pytree import tree_leaves

from search_spaces.errors import SpaceError
from search_spaces.graph.analysis import Analysis
from search_spaces.graph.labels import Labelled
from search_spaces.graph.liveness import Liveness
from search_spaces.pricing.metrics import whole_number
from search_spaces.pricing.sheet import Cost, Sheet
from search_spaces.pricing.terms import Terms


@dataclass(frozen=True)
class PeakMemory:
    """The most bytes of activations alive at once for one sample, read off a price sheet.

    Exact where the network's calls return tensors whose channels are known. What a call takes besides, and frees before
    it returns, is taken to go with what it returns if it has its shape, and else as large as in the original; blocks
    that are gone are priced as narrow as they can be. So it is never less than what the rebuilt network takes.
    """

    constants: np.ndarray
    """[n_dims]: a dimension has so many positions, and so many more a channel of each group."""
    slopes: np.ndarray
    """[n_dims, n_groups]."""
    whole: np.ndarray
    """[n_dims]: the sizes in the original."""
    dims: np.ndarray
    """[n_storages, n_factors] numbers of dimensions, padded with one of size 1."""
    bytes: np.ndarray
    """[n_storages] in the original."""
    alive: np.ndarray
    """[n_moments, n_storages]: 1 for those alive, else 0."""

    def __call__(self, sheet: Sheet) -> Cost:
        """Bytes, a whole number."""
        sizes = (self.constants + sheet.widths @ self.slopes.T) / self.whole
        return whole_number(((self.bytes * sizes[..., self.dims].prod(axis=-1)) @ self.alive.T).max(axis=-1))


def peak_memory(analysis: Analysis, terms: Terms, example_inputs: Sequence[Tensor]) -> PeakMemory:
    """The cost of a network's narrower forms, from one run on the first sample of `example_inputs`, [n, ...] each.

    Factorised layers, skips and inputs that are rounded take memory that is not in it. A `SpaceError` if the network
    runs on no single sample.
    """
    run = _recorded(analysis.network, tuple(x[:1] for x in example_inputs), analysis.values)
    numbers: dict[bytes, int] = {}
    constants, slopes, rows = [1.0], [np.zeros(len(terms.whole))], []
    for labels in run.labels:
        row = []
        for constant, slope in terms.factors_of(labels):
            key = np.concatenate([[constant], slope]).tobytes()
            if key not in numbers:
                numbers[key] = len(constants)
                constants.append(constant)
                slopes.append(slope)
            row.append(numbers[key])
        rows.append(row)
    width = max(map(len, rows))
    dims = np.array([row + [0] * (width - len(row)) for row in rows], dtype=np.int64)
    base, more = np.array(constants), np.stack(slopes)
    whole = np.maximum(base + more @ terms.whole, 1)
    return PeakMemory(base, more, whole, dims, np.array(run.bytes, dtype=float), run.moments())


class _Run(fx.Interpreter):
    """Runs a network call by call, and notes what is alive."""

    def __init__(self, network: fx.GraphModule, values: dict[str, Labelled]) -> None:
        super().__init__(network)
        self.bytes: list[int] = []
        self.labels: list[Labelled] = []
        """Of each storage; none where its size does not go with any width."""
        self.liveness = Liveness(self._note)
        self._values = values
        self._numbers: dict[int, int] = {}
        self._moments: list[tuple[int, ...]] = []
        self._made: list[tuple[int, torch.Size]] = []

    def run_node(self, n: fx.Node) -> Any:
        """Run a call, and find what the size of each storage that it made goes with."""
        self._made = []
        result = super().run_node(n)
        leaves = tree_leaves(result)
        labels = self._values.get(n.name)
        if n.op != "placeholder" and labels is not None and len(leaves) == 1:
            returned, own = leaves[0].shape, self.liveness.number(leaves[0])
            for number, shape in self._made:
                if number == own or shape == returned:
                    self.labels[self._numbers[number]] = labels
        return result

    def _note(self, number: int, tensor: Tensor, _: Any) -> None:
        self._numbers[number] = len(self.bytes)
        self.bytes.append(tensor.untyped_storage().nbytes())
        self.labels.append(())
        self._made.append((number, tensor.shape))
        self._moments.append(tuple(self._numbers[one] for one in self.liveness.alive))

    def moments(self) -> np.ndarray:
        """What is alive at each moment, those left out that another has all of: [n_moments, n_storages]."""
        sets = sorted({frozenset(moment) for moment in self._moments}, key=len, reverse=True)
        kept: list[frozenset[int]] = []
        for one in sets:
            if not any(one <= other for other in kept):
                kept.append(one)
        alive = np.zeros((len(kept), len(self.bytes)))
        for row, one in enumerate(kept):
            alive[row, list(one)] = 1
        return alive


def _recorded(network: fx.GraphModule, inputs: tuple[Tensor, ...], values: dict[str, Labelled]) -> _Run:
    """A run of the network on one sample."""
    run = _Run(network, values)
    modes = {module: module.training for module in network.modules()}
    run.liveness.ignore([*network.parameters(), *network.buffers()])
    for tensor in inputs:
        run.liveness.see(tensor)
    network.eval()
    try:
        with torch.no_grad(), run.liveness:
            run.run(*inputs)
    except Exception as error:  # what a network says of a single sample is its own
        raise SpaceError(f"no peak memory is foretold, as the network does not run on one sample: {error}") from error
    finally:
        run.liveness.forget()
        for module, training in modes.items():
            module.training = training
    return run

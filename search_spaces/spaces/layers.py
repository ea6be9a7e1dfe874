"""A network of reduced depth as a sequence of layers, one row each, as a recurrent network reads an architecture.

In the manner of ESNAC (Cao et al. 2019, section 3.2: type, kernel, stride, channels and connections of each layer), but
shorter and scaled: a row is a convolution, a linear layer or any other layer with a matrix of weights, a sum or a
concatenation; normalisation and activation after it are marked in its row. Connections are told by how many rows back
they reach, `LINKS` and further as one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from search_spaces.graph.analysis import Analysis
from search_spaces.graph.blocks import ACTIVATIONS, LAYERS, NORMS, SUMS
from search_spaces.graph.labels import Labelled, fixed, movable
from search_spaces.graph.recorded import Recorded
from search_spaces.graph.wiring import Addition, Remaining
from search_spaces.pricing.terms import Terms

LINKS = 16
KINDS = ("convolution", "linear", "sum", "concatenation", "other")
COLUMNS = (
    *KINDS,
    *("norm", "activation", "kernel", "stride", "grouped", "in_channels", "out_channels", "height"),
    *(f"link_{back}" for back in range(1, LINKS + 1)),
    *(f"skip_{back}" for back in range(1, LINKS + 1)),
)
"""What a row says. Kinds, norm, activation, grouped, links and skips are 0 or 1; channels and height are logarithms, by
the largest of the original; a kernel is by the largest; a stride s is 1 - 1 / s."""
IN, OUT, LINK, SKIP = (COLUMNS.index(name) for name in ("in_channels", "out_channels", "link_1", "skip_1"))


class LayerSequence:
    """The rows of every network that removing blocks of one network can leave."""

    def __init__(self, recorded: Recorded, analysis: Analysis, terms: Terms) -> None:
        self._wiring = recorded.wiring
        self._analysis = analysis
        wiring = self._wiring
        self._rows = [i for i in range(len(wiring.nodes)) if self._kind(i) is not None]
        """Positions of the calls that have a row."""
        row_of = {i: row for row, i in enumerate(self._rows)}
        self._sources: list[tuple[int, ...]] = []
        """Call -> the rows whose values reach it without another row between, itself if it has one."""
        for i, inputs in enumerate(wiring.inputs):
            before = tuple(dict.fromkeys(row for j in inputs for row in self._sources[j]))
            self._sources.append((row_of[i],) if i in row_of else before)
        self._reads = [
            tuple(dict.fromkeys(row for j in wiring.inputs[i] for row in self._sources[j])) for i in self._rows
        ]
        """Row -> the rows it reads: [n_rows]."""
        self._gives_way = {}
        """Row -> where its block ends, and what takes its place."""
        for block in recorded.blocks:
            end = wiring.position[block.exit]
            (row,) = self._sources[end]
            self._gives_way[row] = (end, self._sources[wiring.position[block.stays]])
        self._table = np.zeros((len(self._rows), len(COLUMNS)), dtype=np.float32)
        sizes = [(terms.size_of(read), terms.size_of(made)) for read, made in map(self._channels, self._rows)]
        self._constants = np.array([[c for c, _ in pair] for pair in sizes], dtype=float).reshape(-1, 2)
        self._slopes = np.array([[s for _, s in pair] for pair in sizes], dtype=float).reshape(len(sizes), 2, -1)
        widest = self._constants + self._slopes @ terms.whole
        self._scale = 1 / np.log2(1 + max(widest.max(initial=1), 1))
        self._describe()

    def _kind(self, i: int) -> str | None:
        """One of `KINDS` for a call that has a row."""
        node, kind = self._wiring.nodes[i], self._wiring.kind[i]
        if kind in SUMS or kind in ("cat", "concat", "concatenate"):
            tensors = [other for other in node.all_input_nodes if "shape" in other.meta]
            return ("sum" if kind in SUMS else "concatenation") if len(tensors) > 1 else None
        if kind in LAYERS or kind.startswith("conv") or kind == "linear":
            return "linear" if kind in ("Linear", "linear") else "convolution"
        if node.op == "call_module":
            layer = self._analysis.network.get_submodule(str(node.target))
            return "other" if any(parameter.ndim > 1 for parameter in layer.parameters()) else None
        return None

    def _channels(self, i: int) -> tuple[np.ndarray, np.ndarray]:
        """The labels of the channels that a call reads and makes."""
        node = self._wiring.nodes[i]
        made = _along_channels(self._analysis.values.get(node.name), node.meta["shape"], self._kind(i))
        if node.op == "call_module" and str(node.target) in self._analysis.inputs:
            return self._analysis.inputs[str(node.target)], made
        source = node.all_input_nodes[0]
        return _along_channels(self._analysis.values.get(source.name), source.meta.get("shape"), self._kind(i)), made

    def _describe(self) -> None:
        """Fill in what of a row does not depend on widths and on what is removed."""
        nodes, kinds, table = self._wiring.nodes, self._wiring.kind, self._table
        for row, i in enumerate(self._rows):
            kind, shape = self._kind(i), nodes[i].meta["shape"]
            assert kind is not None
            table[row, KINDS.index(kind)] = 1
            table[row, COLUMNS.index("height")] = shape[2] if len(shape) > 3 and isinstance(shape[2], int) else 1
            if nodes[i].op == "call_module":
                layer: Any = self._analysis.network.get_submodule(str(nodes[i].target))
                table[row, COLUMNS.index("kernel")] = getattr(layer, "kernel_size", (1,))[-1]
                table[row, COLUMNS.index("stride")] = 1 - 1 / getattr(layer, "stride", (1,))[-1]
                table[row, COLUMNS.index("grouped")] = getattr(layer, "groups", 1) > 1
        for name in ("kernel", "height"):
            column = table[:, COLUMNS.index(name)]
            column[:] = np.log2(1 + column) if name == "height" else column
            column /= max(column.max(initial=0), 1)
        for i, kind in enumerate(kinds):
            for name, these in (("norm", NORMS), ("activation", ACTIVATIONS)):
                if kind in these:
                    table[list(self._sources[i]), COLUMNS.index(name)] = 1

    def __call__(self, remaining: Remaining, widths: np.ndarray, added: Sequence[Addition]) -> np.ndarray:
        """The rows that remain, with `widths` channels in each group ([n_groups]): [n_rows, n_columns] float32."""
        alive = remaining.alive
        number: dict[int, int] = {}
        """Row -> its number among those that remain."""
        stands_for: list[tuple[int, ...]] = []
        """Row -> the rows whose values are used in place of its own."""
        links: list[tuple[int, int]] = []
        for row, i in enumerate(self._rows):
            end, stays = self._gives_way.get(row, (-1, ()))
            if end >= 0 and remaining.stands_for[end] != end:
                stands_for.append(tuple(dict.fromkeys(other for source in stays for other in stands_for[source])))
                continue
            stands_for.append((row,))
            if alive[i]:
                number[row] = len(number)
                links += [
                    (number[row], LINK - 1 + min(number[row] - number[other], LINKS))
                    for source in self._reads[row]
                    for other in stands_for[source]
                ]
        for addition in added:
            (target,) = self._sources[addition.target]
            links += [
                (number[target], SKIP - 1 + min(number[target] - number[other], LINKS))
                for source in self._sources[addition.source]
                for other in stands_for[source]
            ]
        rows = list(number)
        table = self._table[rows]
        sizes = self._constants[rows] + self._slopes[rows] @ widths  # [n_rows, 2]
        table[:, IN : OUT + 1] = np.log2(1 + sizes) * self._scale
        if links:
            at = np.array(links)
            table[at[:, 0], at[:, 1]] = 1
        return table


def _along_channels(labelled: Labelled | None, shape: Any, kind: str | None) -> np.ndarray:
    """The labels along the channels of a tensor: its last dimension for linear layers and matrices, else its second."""
    if not labelled:
        whole = shape if isinstance(shape, tuple) and all(isinstance(size, int) for size in shape) else (1,)
        labelled = tuple(fixed(size) for size in whole)
    if kind == "linear" or len(labelled) < 3:
        return labelled[-1]
    tokens = len(labelled) == 3 and kind != "convolution" and movable(labelled[2])
    return labelled[2] if tokens else labelled[1]

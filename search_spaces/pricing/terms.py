"""What the network built from any choice of widths costs, exactly, before it is built."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from math import prod

import numpy as np

from search_spaces.graph.analysis import Analysis
from search_spaces.graph.groups import Group

METRICS = ("macs", "params", "size_bytes")


class CostModel:
    """Costs as sums of products of dimension sizes, each size linear in the numbers of channels kept.

    `macs` are multiply-accumulates of convolutions, linear layers and products of tensors, for one sample.
    `params` counts parameters. `size_bytes` bounds the bytes of the network's safetensors file from above: its
    tensors to the byte, and a header that is never longer than theirs in the original network.

    Each term is needed by some calls of the network (`users`), or by none in particular; where layers are removed, only
    the terms that are `present` count.
    """

    def __init__(self, analysis: Analysis, groups: Sequence[Group]) -> None:
        self.sizes = np.array([group.size for group in groups], dtype=np.int64)
        """How many channels each group has: [n_groups]."""
        self._group_of = {root: g for g, group in enumerate(groups) for root in group.roots}
        self._dims: dict[bytes, int] = {}
        self._constant: list[int] = []
        self._slope: list[np.ndarray] = []
        self._analysis = analysis
        self._one = self._dim(np.zeros(1, dtype=np.int64))

        tensors = {**dict(analysis.network.named_parameters()), **dict(analysis.network.named_buffers())}
        parameters = {name for name, _ in analysis.network.named_parameters()}
        macs = [(coefficient, dims) for _, coefficient, dims in analysis.terms]
        # A state dict names shared tensors as often as they are used, a file holds them once.
        state = analysis.state.get
        sizes = [self._numel(t.shape, state(name), t.element_size()) for name, t in tensors.items()]
        headers = _header_bytes({name: t.shape for name, t in tensors.items()})
        self._terms = {
            "macs": self._stack(macs),
            "params": self._stack([self._numel(t.shape, state(n)) for n, t in tensors.items() if n in parameters]),
            "size_bytes": self._stack([*sizes, *((float(n), ()) for n in headers.values())]),
        }
        self._constants = np.array(self._constant)  # [n_dims]
        self._slopes = np.stack(self._slope)  # [n_dims, n_groups]
        self._overhead = {"size_bytes": FRAME_BYTES}
        users = analysis.users
        of_tensors = [users[name] for name in tensors]
        self.users: Mapping[str, Sequence[frozenset[str]]] = {
            "macs": [frozenset([call]) for call, _, _ in analysis.terms],
            "params": [users[name] for name in tensors if name in parameters],
            "size_bytes": [*of_tensors, *of_tensors],
        }
        """Cost -> for each of its terms the calls that need it; none in particular: it is always there."""

    def _dim(self, labels: np.ndarray) -> int:
        """The number of a dimension among the distinct ones."""
        counts = self._counts(labels)
        key = counts.tobytes()
        if key not in self._dims:
            self._dims[key] = len(self._constant)
            self._constant.append(int(counts[0]))
            self._slope.append(counts[1:] / np.maximum(self.sizes, 1))
        return self._dims[key]

    def _counts(self, labels: np.ndarray) -> np.ndarray:
        """How many positions always stay, and how many belong to each group: [1 + n_groups]."""
        roots = self._analysis.labels.roots(labels)
        in_group = np.array([self._group_of.get(int(root), -1) for root in roots], dtype=np.int64)
        return np.bincount(in_group + 1, minlength=len(self.sizes) + 1)

    def size_of(self, labels: np.ndarray) -> tuple[int, np.ndarray]:
        """How many positions of a dimension remain: those that always do, and how many for a channel of each group.

        The size is the first plus the second, [n_groups], times the channels kept in each group.
        """
        counts = self._counts(labels)
        return int(counts[0]), counts[1:] / np.maximum(self.sizes, 1)

    def _numel(
        self, shape: Sequence[int], labels: Sequence[np.ndarray] | None, scale: int = 1
    ) -> tuple[float, tuple[np.ndarray, ...]]:
        if labels is None:
            return float(scale * prod(shape)), ()
        return float(scale), tuple(labels)

    def _stack(self, terms: Sequence[tuple[float, tuple[np.ndarray, ...]]]) -> tuple[np.ndarray, np.ndarray]:
        """Coefficients [n_terms] and dimension numbers [n_terms, n_factors], padded with a dimension of size 1."""
        width = max((len(dims) for _, dims in terms), default=1)
        numbers = [[self._dim(d) for d in dims] + [self._one] * (width - len(dims)) for _, dims in terms]
        return np.array([c for c, _ in terms]), np.array(numbers, dtype=np.int64).reshape(len(terms), width)

    def _by_term(self, levels: np.ndarray, metric: str) -> np.ndarray:
        sizes = self._constants + self._slopes @ levels  # [n_dims]
        coefficients, dims = self._terms[metric]
        return coefficients * np.prod(sizes[dims], axis=1)

    def cost(self, levels: np.ndarray, metric: str, present: np.ndarray | None = None) -> float:
        """The cost with `levels` channels kept in each group, [n_groups], of the terms `present`, [n_terms] bool."""
        terms = self._by_term(levels, metric)
        whole = terms.sum() if present is None else terms[present].sum()
        return float(np.rint(whole)) + self._overhead.get(metric, 0)

    def depends(self, metric: str) -> np.ndarray:
        """Whether each term of a cost depends on each group: [n_terms, n_groups] bool."""
        return (self._slopes[self._terms[metric][1]] > 0).any(axis=1)

    def macs_by_term(self, levels: np.ndarray) -> np.ndarray:
        """The multiply-accumulates of each term: [n_terms]."""
        return self._by_term(levels, "macs")

    def terms_of(self, group: int) -> np.ndarray:
        """Whether each term of `macs` depends on this group: [n_terms]."""
        return self.depends("macs")[:, group]


FRAME_BYTES = 8 + len("{}") - 1 + 8
"""Of a safetensors file: the length of its header, braces, less the comma that the last tensor does not need, and what
aligns it at most."""


def _header_bytes(shapes: dict[str, Sequence[int]]) -> dict[str, int]:
    """An upper bound of what each tensor takes in a safetensors header, if it or others are smaller or gone."""
    end = 8 * sum(prod(shape) for shape in shapes.values())
    entries = {
        name: {"dtype": "BF16", "shape": list(shape), "data_offsets": [end, end]} for name, shape in shapes.items()
    }
    return {name: len(json.dumps({name: entry}, separators=(",", ":"))) - 1 for name, entry in entries.items()}

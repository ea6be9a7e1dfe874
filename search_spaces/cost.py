"""What the network built from any choice of widths costs, exactly, before it is built."""

from __future__ import annotations

import json
from collections.abc import Sequence
from math import prod

import numpy as np

from search_spaces.analysis import Analysis
from search_spaces.groups import Group

METRICS = ("macs", "params", "size_bytes")


class CostModel:
    """Costs as sums of products of dimension sizes, each size linear in the numbers of channels kept.

    `macs` are multiply-accumulates of convolutions, linear layers and products of tensors, for one sample.
    `params` counts parameters. `size_bytes` bounds the bytes of the network's safetensors file from above: its
    tensors to the byte, and a header that is never longer than that of the original network.
    """

    def __init__(self, analysis: Analysis, groups: Sequence[Group]) -> None:
        self._group_of = {root: g for g, group in enumerate(groups) for root in group.roots}
        self._sizes = np.array([group.size for group in groups])
        self._dims: dict[bytes, int] = {}
        self._constant: list[int] = []
        self._slope: list[np.ndarray] = []
        self._analysis = analysis
        self._one = self._dim(np.zeros(1, dtype=np.int64))

        tensors = {**dict(analysis.network.named_parameters()), **dict(analysis.network.named_buffers())}
        parameters = {name for name, _ in analysis.network.named_parameters()}
        macs = [(coefficient, dims) for _, coefficient, dims in analysis.terms]
        # A state dict names shared tensors as often as they are used, a file holds them once.
        stored = [(tensors[name], analysis.state.get(name), name in parameters) for name in tensors]
        self._terms = {
            "macs": self._stack(macs),
            "params": self._stack([self._numel(t.shape, labels) for t, labels, is_param in stored if is_param]),
            "size_bytes": self._stack([self._numel(t.shape, labels, t.element_size()) for t, labels, _ in stored]),
        }
        self._constants = np.array(self._constant)  # [n_dims]
        self._slopes = np.stack(self._slope)  # [n_dims, n_groups]
        self._overhead = {"size_bytes": _header_bytes({name: t.shape for name, t in tensors.items()})}

    def _dim(self, labels: np.ndarray) -> int:
        """The number of a dimension among the distinct ones."""
        roots = self._analysis.labels.roots(labels)
        in_group = np.array([self._group_of.get(int(root), -1) for root in roots])
        counts = np.bincount(in_group + 1, minlength=len(self._sizes) + 1)
        key = counts.tobytes()
        if key not in self._dims:
            self._dims[key] = len(self._constant)
            self._constant.append(int(counts[0]))
            self._slope.append(counts[1:] / np.maximum(self._sizes, 1))
        return self._dims[key]

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

    def cost(self, levels: np.ndarray, metric: str) -> float:
        """The cost with `levels` channels kept in each group: [n_groups]."""
        return float(np.rint(self._by_term(levels, metric).sum())) + self._overhead.get(metric, 0)

    def macs_by_term(self, levels: np.ndarray) -> np.ndarray:
        """The multiply-accumulates of each term: [n_terms]."""
        return self._by_term(levels, "macs")

    def terms_of(self, group: int) -> np.ndarray:
        """Whether each term of `macs` depends on this group: [n_terms]."""
        depends = self._slopes[:, group] > 0  # [n_dims]
        return depends[self._terms["macs"][1]].any(axis=1)


def _header_bytes(shapes: dict[str, Sequence[int]]) -> int:
    """An upper bound of the length of a safetensors header for these tensors or smaller ones."""
    end = 8 * sum(prod(shape) for shape in shapes.values())
    entry = {
        name: {"dtype": "BF16", "shape": list(shape), "data_offsets": [end, end]} for name, shape in shapes.items()
    }
    return 8 + len(json.dumps(entry, separators=(",", ":"))) + 8

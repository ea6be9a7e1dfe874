"""What the costs of a network are made of: sums of products of dimension sizes, each linear in the widths chosen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import prod

import numpy as np

from search_spaces.graph.analysis import Analysis
from search_spaces.graph.groups import Group
from search_spaces.graph.labels import fixed
from search_spaces.graph.tensors import WeightTensor, find_tensors
from search_spaces.pricing.overhead import header_bytes
from search_spaces.pricing.sheet import Cost, Pieces, Presence, Sheet, dot


@dataclass(frozen=True)
class _Sum:
    """A sum over terms, coefficient * product of the sizes of its dimensions."""

    coefficients: np.ndarray
    """[n_terms]."""
    dims: np.ndarray
    """[n_terms, n_factors] numbers of dimensions, padded with one of size 1."""
    users: tuple[frozenset[str], ...]
    """For each term the calls that need it; none in particular: it is always there."""
    kind: str
    """"site" for the weights of a layer, else what is added up beside the sites: "macs", "params", "bytes" of tensors,
    or bytes of a file's "header"."""


class Terms:
    """The terms of a network's costs, with rows of their own for the weights of convolutions and linear layers: sites.

    What belongs to no site, biases, norms, embeddings, products of two activations, is added up beside them. A term is
    needed by some calls of the network, or by none in particular; where calls are removed, only those count that are
    needed.
    """

    def __init__(self, analysis: Analysis, groups: Sequence[Group]) -> None:
        """`groups`: those whose width is chosen."""
        self.whole = np.array([group.size for group in groups], dtype=np.int64)
        """How many channels each group has: [n_groups]."""
        self.tensors: tuple[WeightTensor, ...] = find_tensors(analysis.network)
        """The tensor of each site, in the order in which the network first uses them."""
        self._analysis = analysis
        self._group_of = {root: g for g, group in enumerate(groups) for root in group.roots}
        self._dims: dict[bytes, int] = {}
        self._constant: list[int] = []
        self._slope: list[np.ndarray] = []
        self._one = self._dim(np.zeros(1, dtype=np.int64))
        self._find_sites()
        self._find_rest()
        self._constants = np.array(self._constant, dtype=float)  # [n_dims]
        self._slopes = np.stack(self._slope)  # [n_dims, n_groups]

    # The dimensions

    def _dim(self, labels: np.ndarray) -> int:
        """The number of a dimension among the distinct ones."""
        counts = self._counts(labels)
        key = counts.tobytes()
        if key not in self._dims:
            self._dims[key] = len(self._constant)
            self._constant.append(int(counts[0]))
            self._slope.append(counts[1:] / np.maximum(self.whole, 1))
        return self._dims[key]

    def _counts(self, labels: np.ndarray) -> np.ndarray:
        """How many positions always stay, and how many belong to each group: [1 + n_groups]."""
        roots = self._analysis.labels.roots(labels)
        in_group = np.array([self._group_of.get(int(root), -1) for root in roots], dtype=np.int64)
        return np.bincount(in_group + 1, minlength=len(self.whole) + 1)

    def size_of(self, labels: np.ndarray) -> tuple[int, np.ndarray]:
        """How many positions of a dimension remain: those that always do, and how many for a channel of each group.

        The size is the first plus the second, [n_groups], times the channels kept in each group. Of a grid the inner
        dimension is taken as whole.
        """
        grid = self._analysis.labels.grid(labels) if self._analysis.labels.is_grid(labels) else None
        outer, inner = (labels, labels[:1]) if grid is None else grid
        counts = self._counts(outer) * len(inner)
        return int(counts[0]), counts[1:] / np.maximum(self.whole, 1)

    def factors_of(self, dims: Sequence[np.ndarray]) -> list[tuple[float, np.ndarray]]:
        """The dimensions the product of whose sizes is that of `dims`, each as `size_of` tells its size."""
        return [self.size_of(labels) for labels in self._factors(dims)]

    def _factors(self, dims: Sequence[np.ndarray]) -> list[np.ndarray]:
        """The dimensions the product of whose sizes is that of `dims`: a grid is one of its two sides."""
        out: list[np.ndarray] = []
        for labels in dims:
            grid = self._analysis.labels.grid(labels) if self._analysis.labels.is_grid(labels) else None
            out += [labels] if grid is None else grid
        return out

    def _stack(self, dims: Sequence[Sequence[np.ndarray]]) -> np.ndarray:
        """The numbers of the dimensions of each term, padded with the one of size 1: [n_terms, n_factors]."""
        factors = [self._factors(along) for along in dims]
        width = max((len(along) for along in factors), default=1) or 1
        numbers = [[self._dim(d) for d in along] + [self._one] * (width - len(along)) for along in factors]
        return np.array(numbers, dtype=np.int64).reshape(len(dims), width)

    # The terms

    def _find_sites(self) -> None:
        """What each site reads and makes, and the products in which its layers use it."""
        analysis = self._analysis
        self.names = tuple(analysis.first_name(tensor.name) for tensor in self.tensors)
        """The first name of each site's tensor."""
        site_of = {name: site for site, name in enumerate(self.names)}
        labels = [analysis.state.get(name) for name in self.names]
        self.made_dims = [1 if analysis.roles.get((name, 1)) == "out" else 0 for name in self.names]
        """Along which of the first two dimensions of each site's tensor lie the channels that are made."""
        shapes = [tensor.shape for tensor in self.tensors]
        along = [tuple(map(fixed, s)) if found is None else found for s, found in zip(shapes, labels, strict=True)]
        self._read = self._stack([(dims[1 - made],) for dims, made in zip(along, self.made_dims, strict=True)])
        self._made = self._stack([(dims[made],) for dims, made in zip(along, self.made_dims, strict=True)])
        self.taps = np.array([prod(shape[2:]) for shape in shapes], dtype=float)[:, None]  # [n_sites, 1]
        uses, self._others = [], []
        layers = {node.name: str(node.target) for node in analysis.network.graph.nodes if node.op == "call_module"}
        for call, coefficient, dims in analysis.terms:
            site = site_of.get(self._weight_of(layers.get(call)))
            ours = labels[site] if site is not None else None
            if site is None or ours is None or sum(d is ours[0] or d is ours[1] for d in dims) < 2:
                self._others.append((call, coefficient, dims))
                continue
            rest = tuple(d for d in dims if d is not ours[0] and d is not ours[1])
            uses.append((site, call, coefficient / self.taps[site, 0], rest))
        self._use_site = np.array([site for site, *_ in uses], dtype=np.int64)
        once = len(uses) == len(self.tensors) and np.array_equal(self._use_site, np.arange(len(uses)))
        self._each_once = once
        self._uses_of_site = (self._use_site[:, None] == np.arange(len(self.tensors))).astype(float)
        """[n_uses, n_sites]: 1 where a use is of a site."""
        self._use_dims = self._stack([rest for *_, rest in uses])
        self._use_coefficient = np.array([coefficient for _, _, coefficient, _ in uses], dtype=float)
        self._use_calls = tuple(frozenset([call]) for _, call, _, _ in uses)
        self._site_calls = tuple(analysis.users[name] for name in self.names)
        fixed_uses = (self._use_dims == self._one).all(axis=1)
        self._fixed_uses = bool(fixed_uses.all())
        self.fixed_positions = np.ones(len(self.tensors), dtype=bool)
        """Whether each site is used at positions whose number depends on no width: [n_sites] bool."""
        np.logical_and.at(self.fixed_positions, self._use_site, fixed_uses)

    def _weight_of(self, layer: str | None) -> str:
        weight = f"{layer}.weight"
        return self._analysis.first_name(weight) if layer and self._analysis.has(weight) else ""

    def _find_rest(self) -> None:
        """What belongs to no site."""
        analysis, ours = self._analysis, set(self.names)
        tensors = {**dict(analysis.network.named_parameters()), **dict(analysis.network.named_buffers())}
        parameters = {name for name, _ in analysis.network.named_parameters()}
        headers = header_bytes({name: t.shape for name, t in tensors.items()})
        self.itemsize = np.array([tensors[name].element_size() for name in self.names], dtype=float)
        """Bytes of a number of each site: [n_sites]."""

        def numel(name: str) -> tuple[float, tuple[np.ndarray, ...]]:
            labels = analysis.state.get(name)
            return (float(prod(tensors[name].shape)), ()) if labels is None else (1.0, tuple(labels))

        rest = {name: numel(name) for name in tensors if name not in ours}
        calls = {name: analysis.users[name] for name in tensors}
        terms: dict[str, list[tuple[float, tuple[np.ndarray, ...], frozenset[str]]]] = {
            "macs": [(coefficient, dims, frozenset([call])) for call, coefficient, dims in self._others],
            "params": [(n, dims, calls[name]) for name, (n, dims) in rest.items() if name in parameters],
            "bytes": [(n * tensors[name].element_size(), dims, calls[name]) for name, (n, dims) in rest.items()],
            "header": [(float(n), (), calls[name]) for name, n in headers.items()],
        }
        self.rest_names = tuple(rest)
        """The tensors that belong to no site, in the order of the terms of "bytes"."""
        self._sums = {
            kind: _Sum(
                np.array([c for c, _, _ in found], dtype=float),
                self._stack([dims for _, dims, _ in found]),
                tuple(users for *_, users in found),
                kind,
            )
            for kind, found in terms.items()
        }
        self._constant_sums = {kind: bool((s.dims == self._one).all()) for kind, s in self._sums.items()}
        self._totals: dict[str, float] = {
            kind: float(s.coefficients.sum()) for kind, s in self._sums.items() if self._constant_sums[kind]
        }

    # The sheet

    def sheet(self, widths: np.ndarray, presence: Presence | None = None) -> Sheet:
        """The price sheet with `widths` channels in each group, [n_groups], of what is present; None: all."""
        return Sheet(self, widths, presence)

    def sizes(self, widths: np.ndarray) -> np.ndarray:
        """Of every distinct dimension, with `widths` channels in each group, [n_groups]: [n_dims]."""
        sizes: np.ndarray = self._constants + widths @ self._slopes.T
        return sizes

    def pieces(self, sizes: np.ndarray, presence: Presence | None) -> Pieces:
        """The whole layers, with dimensions of these sizes, [n_dims]; a layer that is gone is used nowhere."""
        used = self._use_coefficient
        if not self._fixed_uses:
            used = used * np.prod(sizes[..., self._use_dims], axis=-1)
        if presence is not None:
            used = used * presence.uses
        if not self._each_once:
            used = used @ self._uses_of_site
        return Pieces(_product(sizes[..., self._read]), _product(sizes[..., self._made]), self.taps, used)

    def rest(self, kind: str, sizes: np.ndarray, presence: Presence | None) -> Cost:
        """The sum of the terms of a kind that belong to no site, with dimensions of these sizes: [n_dims]."""
        if presence is None and kind in self._totals:
            return self._totals[kind]
        terms = self._sums[kind]
        values = terms.coefficients
        if not self._constant_sums[kind]:
            values = values * np.prod(sizes[..., terms.dims], axis=-1)
        return values.sum(axis=-1) if presence is None else dot(values, presence.rest[kind])

    def rest_of(self, kind: str) -> tuple[np.ndarray, np.ndarray]:
        """The terms of a kind of the whole network, and which of them depend on no width: [n_terms] each."""
        terms = self._sums[kind]
        sizes = self._constants + self._slopes @ self.whole
        values = terms.coefficients * np.prod(sizes[terms.dims], axis=1)
        return values, ~self._depends[terms.dims].any(axis=(1, 2))

    # What remains where calls are removed

    def presence(self, alive: Mapping[str, bool]) -> Presence:
        """Which terms count where only some calls are `alive`."""

        def there(users: Sequence[frozenset[str]]) -> np.ndarray:
            return np.array([not calls or any(alive[call] for call in calls) for calls in users], dtype=float)

        uses, sites = there(self._use_calls), there(self._site_calls)
        rest = {kind: there(terms.users) for kind, terms in self._sums.items()}
        return Presence(sites, uses, rest, self._groups_of(sites, uses, rest))

    def _groups_of(self, sites: np.ndarray, uses: np.ndarray, rest: Mapping[str, np.ndarray]) -> np.ndarray:
        """Whether anything that is present depends on each group: [n_groups] bool."""
        depends, there = self._depends, sites > 0
        dims = np.hstack([self._read, self._made])
        groups: np.ndarray = depends[dims].any(axis=1)[there].any(axis=0)
        groups |= depends[self._use_dims].any(axis=1)[uses > 0].any(axis=0)
        for kind, terms in self._sums.items():
            groups |= depends[terms.dims].any(axis=1)[rest[kind] > 0].any(axis=0)
        return groups

    @cached_property
    def _depends(self) -> np.ndarray:
        """Whether each dimension depends on each group: [n_dims, n_groups] bool."""
        return self._slopes > 0

    def macs_share(self, group: int) -> float:
        """The fraction of the whole network's multiply-accumulates in which the channels of a group take part."""
        sizes = self._constants + self._slopes @ self.whole
        ours = self._depends[:, group]
        uses = self._use_coefficient * np.prod(sizes[self._use_dims], axis=1)
        uses = uses * (self.taps * _product(sizes[self._read]) * _product(sizes[self._made]))[self._use_site, 0]
        part = (ours[self._read].any(axis=1) | ours[self._made].any(axis=1))[self._use_site]
        part |= ours[self._use_dims].any(axis=1)
        others = self._sums["macs"]
        products = others.coefficients * np.prod(sizes[others.dims], axis=1)
        taking = uses[part].sum() + products[ours[others.dims].any(axis=1)].sum()
        whole = uses.sum() + products.sum()
        return float(taking / whole) if whole else 0.0


def _product(sizes: np.ndarray) -> np.ndarray:
    """The product along the last axis, which stays: [..., n_factors] as [..., 1]."""
    return sizes if sizes.shape[-1] == 1 else sizes.prod(axis=-1, keepdims=True)

"""A recorded network with its groups of channels and its blocks, and the one surgery that removes them."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property, partial

import numpy as np
from torch import fx

from search_spaces.errors import SpaceError
from search_spaces.graph.analysis import analysed
from search_spaces.graph.blocks import Block, find_blocks
from search_spaces.graph.edits import Kept
from search_spaces.graph.groups import Group, find_groups
from search_spaces.graph.labels import Labelled
from search_spaces.graph.surgery import build, kept_without
from search_spaces.graph.wiring import Addition, Remaining, Wiring, rewrite


@dataclass(frozen=True)
class Cut:
    """Which channels and calls of a recorded network are removed, and which skips added."""

    kept: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    """Group -> indices of the channels kept, ascending. A group not named is kept whole."""
    removed: tuple[str, ...] = ()
    """Blocks that are gone, by name, in the order in which the network runs them."""
    skips: tuple[tuple[str, str], ...] = ()
    """Pairs of blocks (a, b): what block a is given is also added to what block b makes."""


@dataclass(frozen=True)
class LayerSlice:
    """What remains of a convolution or linear layer, in the numbering of the original."""

    kept_in: np.ndarray
    """Input channels kept: [n_in]."""
    kept_out: np.ndarray
    """Output channels kept: [n_out]."""
    lost: Mapping[int, np.ndarray] = field(default_factory=dict)
    """Dimension of what the layer makes -> the indices along it that went, where some did. That is the dimension of the
    channels, and another where channels of other layers are rows of this one: tokens of a mixer, heads, or part of the
    batch. Empty for a layer that is called several times."""


class Recorded:
    """A recorded network, its groups of channels and its blocks: all that a `Cut` can speak of.

    Every cut that is made is whole and consistent, or a `SpaceError`: the channels that meet where a run is gone,
    or where a skip arrives, must be the same ones.
    """

    def __init__(self, network: fx.GraphModule) -> None:
        self.network = network
        self.analysis = analysed(network)

    @cached_property
    def groups(self) -> tuple[Group, ...]:
        """The groups in whose terms a cut names channels."""
        return find_groups(self.analysis)

    @cached_property
    def wiring(self) -> Wiring:
        """The calls of the network."""
        return Wiring(self.network.graph, self.analysis.kinds)

    @cached_property
    def blocks(self) -> tuple[Block, ...]:
        """The blocks that a cut names."""
        return find_blocks(self.analysis, self.wiring)

    @property
    def whole(self) -> Cut:
        """The cut that removes nothing."""
        return Cut()

    def build(self, cut: Cut) -> fx.GraphModule:
        """A new network, smaller for real, with the original's module names; the original is untouched."""
        kept = self.kept(cut)
        if not cut.removed and not cut.skips:
            return build(self.analysis, kept)
        remaining = self._remaining(cut, kept)
        additions = [self._addition(pair, kept, remaining) for pair in cut.skips]
        rewire = partial(rewrite, remaining=remaining, additions=additions, network=self.network)
        return build(self.analysis, kept, rewire)

    def slices(self, cut: Cut) -> dict[str, LayerSlice]:
        """For every convolution and linear layer left, the channels that `cut` keeps, by the layer's name."""
        kept = self.kept(cut)
        alive = self._remaining(cut, kept).alive
        left = {node.name for node, is_left in zip(self.wiring.nodes, alive, strict=True) if is_left}
        out = {}
        for (name, dim), role in self.analysis.roles.items():
            layer = name.rpartition(".")[0]
            if role == "in" and name == f"{layer}.weight" and not left.isdisjoint(self.analysis.users[name]):
                made = self.analysis.state[name][1 - dim]
                lost = self._lost(self.analysis.users[name], kept)
                out[layer] = LayerSlice(kept.indices(self.analysis.inputs[layer]), kept.indices(made), lost)
        return out

    def _lost(self, calls: Collection[str], kept: Kept) -> dict[int, np.ndarray]:
        """Dimension of what the one call makes -> the indices along it that went."""
        labelled = self.labelled(next(iter(calls))) if len(calls) == 1 else None
        masks = [kept.mask(labels) for labels in labelled or ()]
        return {dim: np.flatnonzero(~mask) for dim, mask in enumerate(masks) if not mask.all()}

    def kept(self, cut: Cut) -> Kept:
        """Which labels remain under `cut`; one that does not fit is a `SpaceError`."""
        groups = {group.name: group for group in self.groups}
        removed: set[int] = set()
        for name, indices in cut.kept.items():
            if name not in groups:
                raise SpaceError(f"the plan names group {name!r}, which this network does not have")
            group = groups[name]
            if not all(0 <= j < group.size for j in indices):
                raise self._refused(group, indices)
            removed |= set(group.roots) - {group.roots[j] for j in indices}
        kept = kept_without(self.analysis, removed)
        for name, indices in cut.kept.items():
            # Tied to others, a group may go whole where those of its layers' channels that others hold remain.
            members = () if indices else groups[name].members
            if any(not kept.count(self.analysis.state[member.parameter][member.dim]) for member in members):
                raise self._refused(groups[name], indices)
        return kept

    def kept_in_state(self, cut: Cut) -> dict[str, tuple[np.ndarray, ...]]:
        """For every parameter and buffer that is understood, what `cut` keeps of it: indices along each dimension.

        A tensor that several names share stands under its first.
        """
        kept = self.kept(cut)
        return {name: tuple(map(kept.indices, along)) for name, along in self.analysis.state.items()}

    @staticmethod
    def _refused(group: Group, indices: tuple[int, ...]) -> SpaceError:
        return SpaceError(f"the plan keeps channels {indices} of {group.name!r}, expected some of 0..{group.size - 1}")

    def block(self, name: str) -> Block:
        """The block of this name; a `SpaceError` if there is none."""
        for block in self.blocks:
            if block.name == name:
                return block
        raise SpaceError(f"the plan names block {name!r}, which this network does not have")

    def without(self, blocks: Iterable[Block]) -> Remaining:
        """What remains of the calls without `blocks`."""
        at = self.wiring.position
        return self.wiring.without({at[block.exit]: at[block.stays] for block in blocks})

    def _remaining(self, cut: Cut, kept: Kept) -> Remaining:
        blocks = [self.block(name) for name in cut.removed]
        for block in blocks:
            self._require_same(block.stays, block.exit, kept, f"without block {block.name!r}")
        return self.without(blocks)

    def addition(self, source: Block, target: Block) -> Addition:
        """The skip that adds what `source` is given to what `target` makes."""
        at = self.wiring.position
        operand = at[target.stays] if target.kind == "branch" else None
        return Addition(at[source.entry], at[target.end], operand)

    def _addition(self, pair: tuple[str, str], kept: Kept, remaining: Remaining) -> Addition:
        source, target = (self.block(name) for name in pair)
        addition = self.addition(source, target)
        alive = remaining.alive
        if addition.source >= addition.target or not alive[addition.source] or not alive[addition.target]:
            raise SpaceError(f"the plan's skip from {pair[0]!r} to {pair[1]!r} joins nothing: one of its ends is gone")
        self._require_same(source.entry, target.end, kept, f"under the skip from {pair[0]!r} to {pair[1]!r}")
        return addition

    def labelled(self, call: str) -> Labelled | None:
        """The labels of what a call returns, if that is a tensor."""
        return self.analysis.values.get(call)

    def _require_same(self, a: str, b: str, kept: Kept, where: str) -> None:
        """Raise unless two calls return the same channels."""
        first, second = self.labelled(a), self.labelled(b)
        if first is None or second is None or len(first) != len(second):
            raise SpaceError(f"what meets {where} has not the same shape")
        for x, y in zip(first, second, strict=True):
            if len(x) != len(y) or not np.array_equal(kept.mask(x), kept.mask(y)):
                raise SpaceError(f"the plan keeps other channels on either side {where}: they must be the same ones")

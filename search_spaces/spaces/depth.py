"""The space of depth: which blocks of layers remain, how wide each coupled group is, which skips are added.

After ESNAC (Cao et al. 2019, "Learnable embedding space for efficient neural architecture compression": removal,
shrinkage, skips), but whole blocks instead of single calls, a width for each coupled group, and invalid networks cannot
be expressed. The knobs, in this order:

- `block:NAME`, levels 0 (removed) and 1, for each block of `search_spaces.graph.blocks`. Not active inside of another
  block that is removed.
- one width for each coupled group, as in `ChannelSpace`. Not active where nothing that is left depends on it. What goes
  into a run and what comes out of it are one group here, since either may have to take the other's place; a run for
  which that would leave less to choose is not offered.
- `skip:A>B`, levels 0 and 1 (added): what block A is given is also added to what block B makes, before its activation,
  as in a residual network. There a layer can be refitted, or trained, to make what the original makes there less what
  is added, so that little of the inherited network is lost; after an activation nothing could make up for it. Both
  places have the same channels, whatever is chosen. Not active where one of them is gone, or where B adds that value
  already. A skip costs nothing: no parameter, no multiplication.

Costs never fall when a level rises: a block only adds calls, a width only channels, a skip nothing.
"""

from __future__ import annotations

import copy
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from fnmatch import fnmatch
from typing import Any

import numpy as np
from torch import nn

from search_spaces.errors import SpaceError
from search_spaces.graph.analysis import Analysis
from search_spaces.graph.blocks import Block, alike, tied
from search_spaces.graph.groups import Group, find_groups
from search_spaces.graph.wiring import Remaining
from search_spaces.spaces.channels import ChannelSpace, best, scaled
from search_spaces.spaces.conditional import ConditionalSpace
from search_spaces.spaces.layers import LayerSequence
from search_spaces.types import Knob, Plan, Point

PATTERNS = 4096
"""For how many sets of removed blocks it is remembered what remains."""


class DepthSpace(ConditionalSpace, ChannelSpace):
    """Blocks that may go, widths and skips, conditional on each other, on any network that can be recorded.

    Raises `TraceError` if the model cannot be recorded, `SpaceError` for a bad option or if nothing can change.

    Args:
        model: the network; it is copied, and never changed.
        example_inputs: positional arguments on which its forward runs, batch first.
        min_keep: the smallest fraction of a group's channels that may remain, in (0, 1].
        round_to: keep multiples of this many channels of the layer that makes the group (or all of them).
        steps: only this many widths of each group, evenly spaced up to the full one; None for all.
        exclude: names of blocks, groups or layers to leave as they are; `*` and `?` match as in file names.
        skips: whether skips may be added.
        max_skips: to how many earlier places each block may be joined by a skip; the nearest are offered.
    """

    feature_names = (*ChannelSpace.feature_names, "block", "skip")

    blocks: tuple[Block, ...]
    """Those that may be removed, in the order in which the network runs them."""
    skips: tuple[tuple[Block, Block], ...]
    """Those that may be added: what the first is given, to what the second makes."""

    def __init__(
        self,
        model: nn.Module,
        example_inputs: Sequence[Any],
        *,
        min_keep: float = 0.1,
        round_to: int = 1,
        steps: int | None = None,
        exclude: Sequence[str] = (),
        skips: bool = False,
        max_skips: int = 1,
    ) -> None:
        if max_skips < 1:
            raise SpaceError(f"max_skips is a number of skips a block, at least 1, got {max_skips}")
        self._max_skips = max_skips if skips else 0
        super().__init__(model, example_inputs, min_keep=min_keep, round_to=round_to, steps=steps, exclude=exclude)
        self._arguments[1].update(skips=skips, max_skips=max_skips)
        self._n_blocks, self._n_groups = len(self.blocks), len(self.groups)
        position = self._blueprint.wiring.position
        self._exits = np.array([position[block.exit] for block in self.blocks], dtype=np.int64)
        self._additions = [self._blueprint.addition(source, target) for source, target in self.skips]
        self._targets = [self.blocks.index(target) for _, target in self.skips]
        self._needed = {metric: _padded(users, position) for metric, users in self._costs.users.items()}
        self._depends = {metric: self._costs.depends(metric) for metric in self._needed}
        self._patterns: OrderedDict[bytes, _Pattern] = OrderedDict()
        self._layers = LayerSequence(self._blueprint, self._analysis, self._costs)

    def _analysed(self, exclude: Sequence[str]) -> tuple[Analysis, tuple[Group, ...]]:
        """The analysis with the ends of each run that is offered tied to each other."""
        blueprint = self._blueprint
        analysis = copy.copy(blueprint.analysis)
        offered = []
        for block in blueprint.blocks:
            if any(fnmatch(name, pattern) for name in (block.name, *block.layers) for pattern in exclude):
                continue
            if block.kind == "run":
                ends = blueprint.labelled(block.entry), blueprint.labelled(block.exit)
                joined = tied(analysis.labels, block, *ends)
                if joined is None:
                    continue
                analysis.labels = joined
            offered.append(block)
        while offered and not self._has_layers(offered):
            offered.pop()
        self.blocks = tuple(offered)
        return analysis, find_groups(analysis)

    def _has_layers(self, removed: Sequence[Block]) -> bool:
        """Whether any matrix of weights is used without these blocks."""
        alive = self._blueprint.without(removed).alive
        left = {node.name for node, is_left in zip(self._blueprint.wiring.nodes, alive, strict=True) if is_left}
        analysis = self._blueprint.analysis
        matrices = [name for name, parameter in self.original.named_parameters() if parameter.ndim > 1]
        return any(not left.isdisjoint(analysis.users[analysis.first_name(name)]) for name in matrices)

    def _all_knobs(self, widths: tuple[Knob, ...]) -> tuple[Knob, ...]:
        self.skips = tuple(self._find_skips())
        blocks = (Knob(f"block:{block.name}", (0, 1), unit="block") for block in self.blocks)
        skips = (Knob(f"skip:{source.name}>{target.name}", (0, 1), unit="skip") for source, target in self.skips)
        return (*blocks, *widths, *skips)

    def _find_skips(self) -> list[tuple[Block, Block]]:
        """For each block, the nearest earlier places whose value it could add, and does not."""
        blueprint, found = self._blueprint, []
        position = blueprint.wiring.position
        places = {block.entry: block for block in reversed(self.blocks)}  # several blocks may be given one value
        nearest = sorted(places.values(), key=lambda block: -position[block.entry])
        for target in self.blocks if self._max_skips else ():
            first = position[target.entry]
            earlier = [
                source
                for source in nearest
                if position[source.entry] <= first
                and source.entry != (target.stays if target.kind == "branch" else None)
                and alike(self._analysis.labels, blueprint.labelled(source.entry), blueprint.labelled(target.end))
            ]
            found += [(source, target) for source in earlier[: self._max_skips]]
        return found

    def _require_matches(self, patterns: Sequence[str], groups: Sequence[Group]) -> None:
        names = [name for block in self._blueprint.blocks for name in (block.name, *block.layers)]
        others = [pattern for pattern in patterns if not any(fnmatch(name, pattern) for name in names)]
        super()._require_matches(others, groups)

    # What a choice means

    def _split(self, levels: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Levels ([n_knobs]) of blocks, of widths and of skips."""
        first = self._n_blocks + self._n_groups
        return levels[: self._n_blocks], levels[self._n_blocks : first], levels[first:]

    def _pattern(self, blocks: np.ndarray) -> _Pattern:
        """What remains with `blocks` at these levels: [n_blocks]."""
        key = np.asarray(blocks, dtype=bool).tobytes()
        known = self._patterns.get(key)
        if known is None:
            gone = [block for block, level in zip(self.blocks, blocks, strict=True) if not level]
            known = self._patterns[key] = _Pattern(self, self._blueprint.without(gone), blocks)
            if len(self._patterns) > PATTERNS:
                self._patterns.popitem(last=False)
        return known

    def active(self, levels: np.ndarray) -> np.ndarray:
        """Whether each knob makes a difference to the network at `levels` ([n_knobs]): [n_knobs] bool."""
        return self._pattern(self._split(levels)[0]).active

    def cost_of_levels(self, levels: np.ndarray, metric: str) -> float:
        """The cost of the network at `levels`, [n_knobs]; inactive knobs make no difference."""
        if metric in self._added:
            return self._added[metric](levels)
        blocks, widths, _ = self._split(levels)
        return self._costs.cost(widths, metric, self._pattern(blocks).present[metric])

    def plan(self, point: Point, scores: Mapping[str, np.ndarray] | None = None) -> Plan:
        """Which blocks are removed, which skips added, and in each group the channels with the highest scores.

        Channels are named by the groups of `ChannelSpace`, which do not depend on which runs are offered.

        Args:
            point: a legal Point of this space.
            scores: group of this space -> importance of each channel, [size]; by default their L1 norm.
        """
        canonical = self.point(self.levels(point).tolist())  # illegal levels are refused
        levels = self.levels(canonical)
        active = self.active(levels)[self._n_blocks : self._n_blocks + self._n_groups]
        scores = scores if scores is not None else self.magnitudes
        lost: list[int] = []
        for group, is_active in zip(self.groups, active, strict=True):
            kept = best(scores[group.name], canonical[group.name]) if is_active else range(group.size)
            lost += np.delete(np.array(group.roots), kept).tolist()
        named = {}
        for group in self._blueprint.groups:
            stays = ~np.isin(self._analysis.labels.roots(np.array(group.roots)), lost)
            if not stays.all():
                named[group.name] = tuple(np.flatnonzero(stays).tolist())
        blocks, _, skips = self._split(levels)
        removed = tuple(block.name for block, level in zip(self.blocks, blocks, strict=True) if not level)
        added = tuple((a.name, b.name) for (a, b), level in zip(self.skips, skips, strict=True) if level)
        return Plan(named, removed=removed, skips=added)

    @property
    def narrowest(self) -> np.ndarray:
        """The levels at which every group is as narrow as it can be, and no layer is gone: [n_knobs]."""
        levels = self.original_levels
        levels[self._n_blocks : self._n_blocks + self._n_groups] = self._split(self.lowest)[1]
        return levels

    def narrowed(self, network: nn.Module, plan: Plan) -> ChannelSpace:
        """Refused: what is left of a network without some of its layers is no smaller space of this one."""
        raise SpaceError("a space of depth cannot be narrowed in stages: search it in one go, or search channels")

    def _leave(self, left: Mapping[str, np.ndarray]) -> None:
        """All channels are left: nothing has been narrowed."""

    def kept_in_value(self, node: str, plan: Plan) -> tuple[np.ndarray, ...]:
        """As `ChannelSpace` has it; a `SpaceError` also for a node that is gone."""
        kept = super().kept_in_value(node, plan)
        position = self._blueprint.wiring.position[node]
        if not self._blueprint.without(map(self._blueprint.block, plan.removed)).alive[position]:
            raise SpaceError(f"node {node!r} of the graph went with a removed block: compare other layers, or none")
        return kept

    # What an agent may look at

    def features(self) -> np.ndarray:
        """What is known of each knob's first layer, each column scaled to [0, 1]: [n_knobs, 10].

        The columns of `ChannelSpace`, and whether the knob is a block or a skip. The MACs of a block are those that go
        with it, a skip has none.
        """
        widths = [(*self._described(group), 0.0, 0.0) for group in self.groups]
        blocks = [(*self._described_block(t, block), 1.0, 0.0) for t, block in enumerate(self.blocks)]
        at = {block.name: row for block, row in zip(self.blocks, blocks, strict=True)}
        skips = [(*at[target.name][:6], 0.0, 0.0, 1.0) for _, target in self.skips]
        return scaled(np.array([(t, *row) for t, row in enumerate((*blocks, *widths, *skips))], dtype=float))

    def _described_block(self, t: int, block: Block) -> tuple[float, ...]:
        """Of what goes in and comes out of a block: channels, height, width, stride, kernel, share of the MACs."""
        nodes, at = self._blueprint.wiring.nodes, self._blueprint.wiring.position
        read, made = ([*nodes[at[name]].meta["shape"], 1, 1, 1][1:4] for name in (block.entry, block.exit))
        kernels = [getattr(self.original.get_submodule(name), "kernel_size", (1,))[-1] for name in block.layers]
        without = self.original_levels
        without[t] = 0
        whole = self.cost_of_levels(self.original_levels, "macs")
        share = 1 - self.cost_of_levels(without, "macs") / whole if whole else 0.0
        return (made[0], read[0], made[1], made[2], max(read[1] // max(made[1], 1), 1), max(kernels, default=1), share)

    def sequence(self, point: Point) -> np.ndarray:
        """The layers that remain, in the order in which they run, as a recurrent network reads them.

        float32 [n_rows, n_columns], every number in [0, 1]; `search_spaces.spaces.layers` says what the columns are.
        """
        blocks, widths, skips = self._split(self.canonical(self.levels(point)))
        added = [addition for addition, level in zip(self._additions, skips, strict=True) if level]
        return self._layers(self._pattern(blocks).remaining, widths, added)


class _Pattern:
    """What follows from which blocks are removed."""

    def __init__(self, space: DepthSpace, remaining: Remaining, blocks: np.ndarray) -> None:
        self.remaining = remaining
        alive = remaining.alive
        there = np.append(alive, [False, True])
        self.present = {metric: there[users].any(axis=1) for metric, users in space._needed.items()}
        """Cost -> which of its terms count: [n_terms] bool."""
        widths = np.zeros(len(space.groups), dtype=bool)
        for metric, present in self.present.items():
            widths |= space._depends[metric][present].any(axis=0)
        skips = []
        for addition, target in zip(space._additions, space._targets, strict=True):
            stays = None if addition.operand is None else remaining.stands_for[addition.operand]
            joins = alive[addition.source] and alive[addition.target] and stays != addition.source
            skips.append(bool(joins and blocks[target]))
        self.active = np.concatenate([remaining.reached[space._exits], widths, np.array(skips, dtype=bool)])
        """[n_knobs] bool."""
        self.active.flags.writeable = False


def _padded(users: Sequence[frozenset[str]], position: Mapping[str, int]) -> np.ndarray:
    """Positions of the calls that need each term, filled up with -2, a call that is never there: [n_terms, most].

    -1, which is always there, for a term that none needs in particular.
    """
    rows = [sorted(position[call] for call in calls) or [-1] for calls in users]
    most = max((len(row) for row in rows), default=1)
    return np.array([row + [-2] * (most - len(row)) for row in rows], dtype=np.int64).reshape(len(rows), most)

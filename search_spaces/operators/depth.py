"""Depth: which blocks of layers remain, and which skips are added.

After ESNAC (Cao et al. 2019, "Learnable embedding space for efficient neural architecture compression": removal,
shrinkage, skips), but whole blocks instead of single calls, and invalid networks cannot be expressed. The knobs:

- `block:NAME`, levels 0 (removed) and 1, for each block of `search_spaces.graph.blocks`. Not active inside of another
  block that is removed. What goes into a run and what comes out of it are one group of channels, since either may have
  to take the other's place; a run for which that would leave less to choose is not offered.
- `skip:A>B`, levels 0 and 1 (added): what block A is given is also added to what block B makes, before its activation,
  as in a residual network. There a layer can be refitted, or trained, to make what the original makes there less what
  is added, so that little of the inherited network is lost; after an activation nothing could make up for it. Both
  places have the same channels, whatever is chosen. Not active where one of them is gone, or where B adds that value
  already. A skip costs nothing: no parameter, no multiplication.

Costs never fall when a level rises: a block only adds calls, a skip nothing.
"""

from __future__ import annotations

import copy
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatch
from typing import Any, ClassVar, Self

import numpy as np

from search_spaces.graph.analysis import Analysis
from search_spaces.graph.blocks import Block, alike, tied
from search_spaces.graph.recorded import Cut, Recorded
from search_spaces.graph.wiring import Addition, Remaining
from search_spaces.operators.base import Basis, Listing, Operator, Scores, first_few
from search_spaces.operators.options import DepthOptions
from search_spaces.operators.step import Step
from search_spaces.pricing.metrics import macs, params
from search_spaces.pricing.sheet import Account, Cost, Presence, Sheet
from search_spaces.types import Knob

PATTERNS = 4096
"""For how many sets of removed blocks it is remembered what remains."""


@dataclass(frozen=True)
class DepthStep(Step):
    """Which blocks of layers are removed, and which skips added."""

    operator: ClassVar[str] = "depth"

    removed: tuple[str, ...] = ()
    """Blocks that are gone, by name, in the order in which the network runs them."""
    skips: tuple[tuple[str, str], ...] = ()
    """Pairs of blocks (a, b): what block a is given is also added to what block b makes."""

    def to_record(self) -> dict[str, Any]:
        """The step as plain data."""
        return {"removed": list(self.removed), "skips": [list(pair) for pair in self.skips]}

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> Self:
        """The inverse of `to_record`."""
        return cls(tuple(record["removed"]), tuple((source, target) for source, target in record["skips"]))

    def within(self, cut: Cut) -> Cut:
        """`cut` with these blocks and skips."""
        return replace(cut, removed=self.removed, skips=self.skips)


class Depth(Operator):
    """Offers blocks that may go and skips that may be added."""

    name: ClassVar[str] = "depth"
    marks: ClassVar[tuple[str, ...]] = ("block", "skip")
    options_type = DepthOptions
    step_type = DepthStep

    blocks: tuple[Block, ...]
    """Those that may be removed, in the order in which the network runs them."""
    skips: tuple[tuple[Block, Block], ...]
    """Those that may be added: what the first is given, to what the second makes."""

    def __init__(self, basis: Basis, options: DepthOptions) -> None:
        recorded = self.recorded = basis.recorded
        analysis, self.blocks = _offered(recorded, basis.analysis, options.exclude)
        names = tuple(name for block in recorded.blocks for name in (block.name, *block.layers))
        self.basis = basis.changed(analysis=analysis, passed_over=names)
        self.skips = _skips(recorded, analysis, self.blocks, options.max_skips if options.skips else 0)
        self.knobs = (
            *(
                Knob(f"block:{b.name}", (0, 1), "block", kind="gate", operator="depth", site=b.name)
                for b in self.blocks
            ),
            *(
                Knob(f"skip:{a.name}>{b.name}", (0, 1), "skip", kind="free", operator="depth", site=b.name)
                for a, b in self.skips
            ),
        )
        at = recorded.wiring.position
        self._exits = np.array([at[block.exit] for block in self.blocks], dtype=np.int64)
        self._additions = [recorded.addition(source, target) for source, target in self.skips]
        self._targets = [self.blocks.index(target) for _, target in self.skips]
        self._patterns: OrderedDict[bytes, _Pattern] = OrderedDict()

    def pattern(self, levels: np.ndarray, terms: Account) -> _Pattern:
        """What follows from which blocks are removed; `levels` may hold those of the skips too: [n_blocks or more]."""
        blocks = np.asarray(levels[: len(self.blocks)], dtype=bool)
        key = blocks.tobytes()
        known = self._patterns.get(key)
        if known is None:
            known = self._patterns[key] = self._found(blocks, terms)
            if len(self._patterns) > PATTERNS:
                self._patterns.popitem(last=False)
        return known

    def _found(self, blocks: np.ndarray, terms: Account) -> _Pattern:
        gone = [block for block, stays in zip(self.blocks, blocks, strict=True) if not stays]
        remaining = self.recorded.without(gone)
        alive = remaining.alive
        nodes = self.recorded.wiring.nodes
        presence = terms.presence({node.name: bool(is_left) for node, is_left in zip(nodes, alive, strict=True)})
        skips = []
        for addition, target in zip(self._additions, self._targets, strict=True):
            stays = None if addition.operand is None else remaining.stands_for[addition.operand]
            joins = alive[addition.source] and alive[addition.target] and stays != addition.source
            skips.append(bool(joins and blocks[target]))
        active = np.concatenate([remaining.reached[self._exits], np.array(skips, dtype=bool)])
        active.flags.writeable = False
        return _Pattern(remaining, presence, active)

    def price(self, sheet: Sheet, levels: np.ndarray) -> Sheet:
        """The sheet of what is left without the blocks removed."""
        if levels.ndim == 1:
            return sheet.changed(presence=self.pattern(levels, sheet.terms).presence)
        found, which = self._patterns_of(levels, sheet.terms)
        each = [pattern.presence for pattern in found]
        return sheet.changed(presence=each[0] if len(each) == 1 else Presence.of_each(each, which))

    def _patterns_of(self, levels: np.ndarray, terms: Account) -> tuple[list[_Pattern], list[int]]:
        """The distinct patterns of `levels`, [n, n_knobs], and the place of each network's among them: [n]."""
        places: dict[bytes, int] = {}
        which = [places.setdefault(row.tobytes(), len(places)) for row in levels[:, : len(self.blocks)]]
        return [self.pattern(levels[which.index(place)], terms) for place in places.values()], which

    def active(self, sheet: Sheet, levels: np.ndarray) -> np.ndarray:
        """A block makes a difference unless it lies in another that is gone, a skip where it joins something."""
        if levels.ndim == 1:
            return self.pattern(levels, sheet.terms).active
        found, which = self._patterns_of(levels, sheet.terms)
        return np.stack([pattern.active for pattern in found])[which]

    def step(self, sheet: Sheet, levels: np.ndarray, scores: Scores | None) -> DepthStep:
        """Name the blocks that stand at 0, and the skips that stand at 1."""
        n = len(self.blocks)
        removed = tuple(b.name for b, level in zip(self.blocks, levels[:n], strict=True) if not level)
        added = tuple((a.name, b.name) for (a, b), level in zip(self.skips, levels[n:], strict=True) if level)
        return DepthStep(removed, added)

    def additions(self, levels: np.ndarray) -> list[Addition]:
        """The skips that `levels` add."""
        return [add for add, level in zip(self._additions, levels[len(self.blocks) :], strict=True) if level]

    def inventory(self) -> tuple[Listing, ...]:
        """The blocks, and the skips."""
        rows = [
            (b.name, b.kind, f"{self._share(t, macs):.1%}", f"{self._share(t, params):.1%}", first_few(b.layers))
            for t, b in enumerate(self.blocks)
        ]
        count = f"{len(rows)} blocks that can be removed (MACs, parameters: share that goes with it)"
        blocks = Listing(count, ("block", "kind", "MACs", "parameters", "layers"), tuple(rows), (0, 1, 4))
        skips = ", ".join(f"{source.name} to {target.name}" for source, target in self.skips)
        return (blocks, *([Listing(f"{len(self.skips)} skips can be added: {skips}", (), ())] if skips else []))

    def described(self) -> np.ndarray:
        """Of what goes into and comes out of a block, and the MACs that go with it; a skip has those of its target but
        for the MACs, which are none."""
        blocks = {block.name: self._described(t, block) for t, block in enumerate(self.blocks)}
        skips = [(*blocks[target.name][:6], 0.0) for _, target in self.skips]
        return np.array([*blocks.values(), *skips], dtype=float).reshape(len(self.knobs), 7)

    def _described(self, t: int, block: Block) -> tuple[float, ...]:
        nodes, at = self.recorded.wiring.nodes, self.recorded.wiring.position
        read, made = ([*nodes[at[name]].meta["shape"], 1, 1, 1][1:4] for name in (block.entry, block.exit))
        layers = [self.recorded.network.get_submodule(name) for name in block.layers]
        kernels = [getattr(layer, "kernel_size", (1,))[-1] for layer in layers]
        stride = max(read[1] // max(made[1], 1), 1)
        return (made[0], read[0], made[1], made[2], stride, max(kernels, default=1), self._share(t, macs))

    def _share(self, t: int, cost: Callable[[Sheet], Cost]) -> float:
        """The fraction of a cost that goes with a block."""
        terms = self.basis.terms  # without groups of channels the layers are whole, as they are to be here
        whole = float(cost(terms.sheet(terms.whole)))
        remaining = self.recorded.without([self.blocks[t]]).alive
        nodes = self.recorded.wiring.nodes
        presence = terms.presence({node.name: bool(left) for node, left in zip(nodes, remaining, strict=True)})
        return 1 - float(cost(terms.sheet(terms.whole, presence))) / whole if whole else 0.0


@dataclass(frozen=True)
class _Pattern:
    """What follows from which blocks are removed."""

    remaining: Remaining
    presence: Presence
    active: np.ndarray
    """[n_knobs] bool."""


def _offered(recorded: Recorded, analysis: Analysis, exclude: Sequence[str]) -> tuple[Analysis, tuple[Block, ...]]:
    """The blocks that may go, and the analysis with the ends of each run among them tied to each other."""
    analysis = copy.copy(analysis)
    offered = []
    for block in recorded.blocks:
        if any(fnmatch(name, pattern) for name in (block.name, *block.layers) for pattern in exclude):
            continue
        if block.kind == "run":
            joined = tied(analysis.labels, block, recorded.labelled(block.entry), recorded.labelled(block.exit))
            if joined is None:
                continue
            analysis.labels = joined
        offered.append(block)
    while offered and not _has_layers(recorded, offered):
        offered.pop()
    return analysis, tuple(offered)


def _has_layers(recorded: Recorded, removed: Sequence[Block]) -> bool:
    """Whether any matrix of weights is used without these blocks."""
    alive = recorded.without(removed).alive
    left = {node.name for node, is_left in zip(recorded.wiring.nodes, alive, strict=True) if is_left}
    analysis = recorded.analysis
    matrices = [name for name, parameter in recorded.network.named_parameters() if parameter.ndim > 1]
    return any(not left.isdisjoint(analysis.users[analysis.first_name(name)]) for name in matrices)


def _skips(
    recorded: Recorded, analysis: Analysis, blocks: Sequence[Block], most: int
) -> tuple[tuple[Block, Block], ...]:
    """For each block, the nearest earlier places, at most `most`, whose value it could add, and does not."""
    found: list[tuple[Block, Block]] = []
    position = recorded.wiring.position
    places = {block.entry: block for block in reversed(blocks)}  # several blocks may be given one value
    nearest = sorted(places.values(), key=lambda block: -position[block.entry])
    for target in blocks if most else ():
        first = position[target.entry]
        earlier = [
            source
            for source in nearest
            if position[source.entry] <= first
            and source.entry != (target.stays if target.kind == "branch" else None)
            and alike(analysis.labels, recorded.labelled(source.entry), recorded.labelled(target.end))
        ]
        found += [(source, target) for source in earlier[:most]]
    return tuple(found)

"""A space of whole architectures: of each stage the kind of block, its kernel, width, depth and what the kind heeds.

There is no original network: the reference is the Point of every first choice at its largest amounts. Width and depth
are amounts, on which a budget is spent; all else is a choice, decided before them. What a kind of block does not heed
makes no difference and stands at its first level, so that a network is one Point.

Costs are sums over stem, stages and head, exact and in closed form (`search_spaces.cells.price`). What a stage costs
depends on the channels and the size of the map that reach it. So what is left of a budget is known by dynamic
programming over them (`search_spaces.spaces.choices`), with amounts that are still open at their smallest. Of choices
only the kind and the way to reduce the map have to be tried there: of the others one level is the cheapest whatever
the rest is.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Any, cast

import numpy as np
from torch import nn

from search_spaces.cells.architecture import (
    Architecture,
    Frame,
    Stage,
    head_price,
    stage_price,
    stem_price,
)
from search_spaces.cells.block_kinds import USES
from search_spaces.cells.block_layers import Size
from search_spaces.cells.cells_step import CellsStep
from search_spaces.cells.price import METRICS, Price
from search_spaces.cells.scales import Scales
from search_spaces.errors import SpaceError
from search_spaces.plan import Plan
from search_spaces.replay import from_nothing
from search_spaces.spaces.choices import ChoiceSpace, Costs, State
from search_spaces.types import Kind, Knob, Point

PLACED = frozenset({"kind", "reduce", "activation", "dropout", "norm", "excite", "bypass"})
"""Fields of which a level is the place of the value among those to choose from; of others it is the value."""

CHOICES = ("kind", "reduce", "kernel", "expand", "squeeze", "groups", "excite", "activation", "norm", "dropout")
"""In the order in which they are decided."""
AMOUNTS = ("depth", "width")
FREE = ("bypass",)
ORDER: tuple[tuple[Kind, tuple[str, ...]], ...] = (("choice", CHOICES), ("amount", AMOUNTS), ("free", FREE))
ALWAYS = frozenset({"kind", "reduce", "kernel", "activation", "norm", *AMOUNTS})
"""What every kind of block heeds."""
TRIED = ("kind", "reduce")
"""The choices none of whose levels is the cheapest whatever the rest is."""
REMEMBERED = 10_000
"""How many networks' prices are kept in memory."""
FINEST = 64
"""Into how many parts the way from the smallest network to the largest is divided, to find where a budget ends."""


@dataclass(frozen=True)
class StageOptions:
    """What a stage may be: of each field of `Stage` the values to choose from, the reference's choice first."""

    kind: tuple[str, ...] = ("residual", "separable", "mobile")
    width: tuple[int, ...] = tuple(range(8, 65, 8))
    depth: tuple[int, ...] = (1, 2, 3)
    reduce: tuple[str, ...] = ("none",)
    kernel: tuple[int, ...] = (3, 5)
    expand: tuple[int, ...] = (3, 6)
    squeeze: tuple[int, ...] = (1, 2)
    groups: tuple[int, ...] = (2,)
    excite: tuple[bool, ...] = (False, True)
    bypass: tuple[bool, ...] = (False, True)
    activation: tuple[str, ...] = ("relu",)
    norm: tuple[str, ...] = ("batch",)
    dropout: tuple[float, ...] = (0.0,)

    def levels(self, name: str) -> tuple[int, ...]:
        """The levels of a field in ascending order; of what is `PLACED` the places, the reference's first."""
        values: tuple[Any, ...] = getattr(self, name)
        if not isinstance(values, tuple) or not values or len(set(values)) != len(values):
            raise SpaceError(f"stage option {name!r}: expected a tuple of different values, got {values!r}")
        if name not in PLACED:
            return tuple(sorted(values))
        return tuple(range(len(values)))

    def value(self, name: str, level: int) -> Any:
        """What a level of a field stands for."""
        return getattr(self, name)[level] if name in PLACED else level


class CellSpace(ChoiceSpace):
    """Whole architectures of one frame. `Plan` and `build` need no network."""

    metrics = METRICS
    feature_names = ("index", "stage", "amount", "levels")
    packed = False
    any_batch = True

    def __init__(
        self, frame: Frame, stem_width: Sequence[int], stages: Sequence[StageOptions], scales: Scales | None = None
    ) -> None:
        """`stem_width`: the channels to choose from; `scales`: what networks standardise by, if the frame says that
        they do. `SpaceError` where some architecture could not be built."""
        self.frame, self.stages, self.scales = frame, tuple(stages), scales or Scales()
        if not self.stages or not stem_width:
            raise SpaceError("expected at least one stage and one width of the stem")
        self.stem_widths = tuple(sorted(set(stem_width)))
        self.n_parts, self.start = len(self.stages) + 2, ()
        self._fields: list[tuple[int, str]] = []
        """Of each knob the stage, -1 for the stem, and the field of `Stage`."""
        knobs: list[Knob] = []
        for kind, names in ORDER:
            if kind == "amount":
                self._add(knobs, -1, "width", Knob("stem:width", self.stem_widths, "channels"))
            for i, options in enumerate(self.stages):
                for name in names:
                    if name in ALWAYS or any(name in USES[of] for of in options.kind if of in USES):
                        self._add(knobs, i, name, self._knob(i, options, name, kind))
        self.knobs = tuple(knobs)
        self._place = {field: t for t, field in enumerate(self._fields)}
        self._require_buildable()
        self._ways: dict[tuple[Any, ...], list[tuple[Costs, State]]] = {}
        self._prices: dict[tuple[int, ...], Price] = {}

    def _add(self, knobs: list[Knob], stage: int, name: str, knob: Knob) -> None:
        """One more knob, if there is anything to choose."""
        if len(knob.levels) > 1:
            self._fields.append((stage, name))
            knobs.append(knob)

    @staticmethod
    def _knob(i: int, options: StageOptions, name: str, kind: Kind) -> Knob:
        levels = options.levels(name)
        words = tuple(str(value) for value in getattr(options, name)) if name in PLACED else ()
        unit = {"width": "channels", "depth": "blocks"}.get(name, "choice")
        return Knob(f"stage{i}:{name}", levels, unit, kind=kind, labels=words)

    def _require_buildable(self) -> None:
        """Words exist, maps do not vanish, and channels of a shuffle unit are whole in each group."""
        _, size = stem_price(self.frame, self.stem_widths[0])
        for i, options in enumerate(self.stages):
            after = []
            for kind, by, activation in product(options.kind, options.reduce, options.activation):
                stage = Stage(kind, options.width[0], reduce=by, activation=activation, excite=any(options.excite))
                stage.require_fitting(self.frame.size)
                after.append(stage_price(self.frame, 0, stage, options.width[0], size)[1])
            size = tuple(min(sides) for sides in zip(*after, strict=True))
            if min(size, default=1) < 1:
                raise SpaceError(f"stage {i} leaves nothing of a map of {self.frame.size}: reduce less often")
            if "shuffle" in options.kind:
                before = self.stem_widths if i == 0 else self.stages[i - 1].width
                for groups in options.groups:
                    strange = [w for w in options.width if w % (4 * groups)] or [w for w in before if w % groups]
                    if strange:
                        raise SpaceError(
                            f"stage {i}: shuffle units of {groups} groups need widths that {4 * groups} divides, and "
                            f"widths before them that {groups} divides, got {strange[0]}. Leave these out"
                        )

    def value(self, levels: np.ndarray, stage: int, name: str) -> Any:
        """What a field of a stage is at `levels` ([n_knobs])."""
        t = self._place.get((stage, name))
        options = self.stages[stage]
        return options.value(name, options.levels(name)[0] if t is None else int(levels[t]))

    def active(self, levels: np.ndarray) -> np.ndarray:
        """Whether each knob makes a difference to the architecture at `levels` ([n_knobs]): [n_knobs] bool."""
        out = np.ones(len(self.knobs), dtype=bool)
        for t, (stage, name) in enumerate(self._fields):
            if stage >= 0 and name not in ALWAYS:
                out[t] = name in USES[self.value(levels, stage, "kind")]
                if name == "bypass" and out[t]:
                    out[t] = self._can_bypass(levels, stage)
        return out

    def _can_bypass(self, levels: np.ndarray, stage: int) -> bool:
        """Whether some block of the stage makes the shape that it reads."""
        same = self.value(levels, stage, "width") == self._width_before(levels, stage)
        strided = self.value(levels, stage, "reduce") == "stride"
        return bool(self.value(levels, stage, "depth") > 1 or (same and not strided))

    def _width_before(self, levels: np.ndarray, stage: int) -> int:
        if stage > 0:
            return int(self.value(levels, stage - 1, "width"))
        t = self._place.get((-1, "width"))
        return self.stem_widths[0] if t is None else int(levels[t])

    def architecture(self, levels: np.ndarray) -> Architecture:
        """What stands at `levels`, [n_knobs], canonical or not."""
        stages = tuple(self._stage(levels, i) for i in range(len(self.stages)))
        return Architecture(self.frame, self._width_before(levels, 0), stages)

    def _stage(self, levels: np.ndarray, i: int) -> Stage:
        kind = self.value(levels, i, "kind")
        heeded = [name for name in (*CHOICES, *AMOUNTS, *FREE) if name in ALWAYS or name in USES[kind]]
        stage = Stage(**{name: self.value(levels, i, name) for name in heeded})
        bypass = stage.bypass and self._can_bypass(levels, i)
        return replace(stage, bypass=bypass) if bypass != stage.bypass else stage

    def levels_of(self, architecture: Architecture) -> np.ndarray:
        """Where an architecture stands in this space: [n_knobs]. `SpaceError` if it is no Point of it."""
        levels = self.lowest
        for t, (i, name) in enumerate(self._fields):
            of = architecture.stem_width if i < 0 else getattr(architecture.stages[i], name)
            known = self.stem_widths if i < 0 else getattr(self.stages[i], name)
            if of in known:
                levels[t] = known.index(of) if name in PLACED else of
        levels = self.canonical(levels)
        if self.architecture(levels) != architecture:
            raise SpaceError(
                "the architecture is no Point of this space: allow what it has in the options of its stages"
            )
        return levels

    def cost_of_levels(self, levels: np.ndarray, metric: str) -> float:
        """The cost of the architecture at `levels`: [n_knobs]."""
        key = tuple(levels.tolist())
        if key not in self._prices:  # a projection asks for the same levels again and again
            if len(self._prices) >= REMEMBERED:
                self._prices.clear()
            self._prices[key] = self.architecture(levels).price()
        return self._prices[key][self.metrics.index(metric)]

    def original_cost(self, metric: str) -> float:
        """What the reference costs at its largest amounts."""
        return self.cost(self.original_point, metric)

    def reference(self, limits: Mapping[str, float]) -> Point:
        """The hand-made network that is scaled to `limits`: every choice its first, all amounts the same part of their
        largest; half of it without limits."""
        part = 1.0 if limits else 0.5
        wanted = [knob.keep(knob.original) if knob.kind == "choice" else part for knob in self.knobs]
        return self.project(np.array(wanted), limits)

    @property
    def spends(self) -> bool:
        """Whether amounts rise until a budget is used up. Of networks for rows of a table smaller ones are tried too:
        rows are often so few that the largest network that is allowed is not the best."""
        return bool(self.frame.size)

    def bounds(self, prefix: Sequence[int], limits: Mapping[str, float]) -> tuple[int, int]:
        """As for any space of choices; where the budget need not be spent, from the lowest level."""
        low, high = super().bounds(prefix, limits)
        return (low if self.spends else self.knobs[len(prefix)].levels[0]), high

    def fill(self, levels: Sequence[int], wanted: np.ndarray, limits: Mapping[str, float]) -> Point:
        """As for any space of choices; where the budget need not be spent, `levels` as they are."""
        return super().fill(levels, wanted, limits) if self.spends else self.point(levels)

    def project(self, wanted: np.ndarray, limits: Mapping[str, float]) -> Point:
        """As for any space of choices. Where the budget need not be spent, each fraction is one of the places of levels
        up to that of the largest even network within the budget: all at 1 are that, with what rounding left used up,
        and lower ones are smaller networks.
        """
        if self.spends or not limits:
            return super().project(wanted, limits)
        self.require_feasible(limits)
        levels = self._decided(np.asarray(wanted, dtype=float), limits)
        amounts, even = np.flatnonzero(self._amounts(levels)).tolist(), np.ones(len(self.knobs))
        parts = np.linspace(1.0, 0.0, 1 + FINEST)
        part = next(p for p in parts if self.within(self._at_places(levels, amounts, p * even), limits))
        parted = self._at_places(levels, amounts, part * np.clip(wanted, 0.0, 1.0))
        if min(wanted[amounts], default=0.0) < 1:
            return self.point(parted.tolist())
        return super().fill(parted.tolist(), even, limits)

    def _at_places(self, levels: np.ndarray, amounts: Sequence[int], parts: np.ndarray) -> np.ndarray:
        """`levels` with `amounts` at these parts, [n_knobs], of the places of their levels."""
        placed = levels.copy()
        for t in amounts:
            legal = self.knobs[t].levels
            placed[t] = legal[round(float(parts[t]) * (len(legal) - 1))]
        return placed

    def ways(self, part: int, state: State, levels: np.ndarray, settled: np.ndarray) -> Iterable[tuple[Costs, State]]:
        """What stem, a stage or the head can cost; a state is the channels and the size of the map."""
        if part == 0:
            t = self._place.get((-1, "width"))
            width = int(levels[t]) if t is not None and settled[t] else self.stem_widths[0]
            price, size = stem_price(self.frame, width)
            return [(price, (width, size))]
        read, size = cast(tuple[int, Size], state)
        if part == self.n_parts - 1:
            return [(head_price(self.frame, read, size), ())]
        stage = part - 1
        own = [(t, name) for t, (i, name) in enumerate(self._fields) if i == stage and name not in FREE]
        standing = tuple(int(levels[t]) if settled[t] else None for t, _ in own)
        key = (stage, read, size, standing)
        if key not in self._ways:
            self._ways[key] = list(
                self._stage_ways(stage, read, size, dict(zip((name for _, name in own), standing, strict=True)))
            )
        return self._ways[key]

    def _stage_ways(
        self, i: int, read: int, size: Size, standing: Mapping[str, int | None]
    ) -> Iterable[tuple[Costs, State]]:
        """One a kind and a way to reduce the map; whatever else is open stands where it is cheapest."""
        options = self.stages[i]
        fixed = {}
        for name in (*CHOICES, *AMOUNTS):
            level = standing.get(name)
            cheapest = options.levels(name)[-1 if name == "groups" else 0]
            fixed[name] = options.value(name, cheapest if level is None else level)
        if standing.get("excite") is None:
            fixed["excite"] = all(options.excite)
        if standing.get("norm") is None:
            fixed["norm"] = "none" if "none" in options.norm else "batch"  # a bias costs less than a norm
        tried = [getattr(options, name) if standing.get(name) is None else (fixed[name],) for name in TRIED]
        for kind, reduce in product(*tried):
            heeded = {name: value for name, value in fixed.items() if name in ALWAYS or name in USES[kind]}
            stage = Stage(**(heeded | {"kind": kind, "reduce": reduce, "dropout": 0.0}))
            price, after = stage_price(self.frame, i, stage, read, size)
            yield price, (stage.width, after)

    def features(self) -> np.ndarray:
        """Where each knob stands, of which stage it is, whether it is an amount, how many levels: [n_knobs, 4]."""
        n, most = len(self.knobs), max(len(knob.levels) for knob in self.knobs)
        rows = [
            (t / max(n - 1, 1), (stage + 1) / len(self.stages), float(knob.kind == "amount"), len(knob.levels) / most)
            for t, (knob, (stage, _)) in enumerate(zip(self.knobs, self._fields, strict=True))
        ]
        return np.array(rows)

    def plan(self, point: Point) -> Plan:
        """The architecture at `point`, as the one step of a plan."""
        return Plan((CellsStep(self.architecture(self.levels(point))),))

    def build(self, plan: Plan) -> nn.Module:
        """A new network of the plan's architecture, which standardises as all of this space do."""
        network = from_nothing(plan)
        if network is None:
            raise SpaceError(
                "the plan names no architecture, which a space of cells does not have: make one with `plan`"
            )
        self.scales.put(network)
        return network

"""The vocabulary of a search: what may be chosen (`Knob`), a choice (`Point`), and what agents see of a space."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol, runtime_checkable

if TYPE_CHECKING:
    import numpy as np

Kind = Literal["amount", "gate", "free", "choice"]
"""How a knob behaves. A budget is spent on an *amount*. A *gate*, levels 0 and 1, lets others matter: a block of layers
that may be removed. What is *free* costs nothing, and the original is at its lowest level: a skip. A *choice* is one of
several names without an order of cost, such as a kind of block; the first is the reference's."""


@dataclass(frozen=True)
class Knob:
    """One decision: a name and its exact legal levels in ascending order.

    A level is an integer in `unit`, a word for people only. Of an amount and a gate the last level leaves the original
    unchanged, of what is free the first, and `keep`, a fraction in [0, 1], is 1 there. For a group of coupled channels
    the level is how many of them are kept, so `level / size` is their `keep`. Each of the n levels of a choice has an
    n-th of [0, 1], so that a fraction drawn evenly chooses evenly, and its `keep` is the middle of that.
    """

    name: str
    levels: tuple[int, ...]
    unit: str = "channels"
    size: int = 0
    """What a level is a fraction of; by default the last level."""
    kind: Kind = "amount"
    labels: tuple[str, ...] = ()
    """What people call each level, such as "int8"; empty where the number says it."""
    operator: str = ""
    """The operator that offers the knob."""
    site: str = ""
    """What it decides about: a group of channels, a block, a tensor."""

    def __post_init__(self) -> None:
        if not self.levels or list(self.levels) != sorted(set(self.levels)):
            raise ValueError(f"knob {self.name!r}: levels must be ascending and distinct, got {self.levels}")
        if not self.size:
            object.__setattr__(self, "size", self.levels[-1])

    def keep(self, level: int) -> float:
        """The fraction of the original that remains at `level`, in [0, 1]; 1 at the level of the original."""
        if self.kind == "choice":
            return (self.levels.index(level) + 0.5) / len(self.levels)
        return 1 - level / self.size if self.kind == "free" else level / self.size

    @property
    def least(self) -> float:
        """The smallest fraction that stands for a level: 0 of a choice, else the smallest keep fraction."""
        return 0.0 if self.kind == "choice" else min(self.keep(self.levels[0]), self.keep(self.levels[-1]))

    @property
    def original(self) -> int:
        """The level that leaves the original unchanged."""
        return self.levels[0 if self.kind in ("free", "choice") else -1]

    def nearest(self, keep: float) -> int:
        """The legal level whose keep fraction is nearest to `keep` (the larger of two as near)."""
        if self.kind == "choice":
            return self.levels[min(max(int(keep * len(self.levels)), 0), len(self.levels) - 1)]
        wanted = (1 - keep if self.kind == "free" else keep) * self.size
        return min(reversed(self.levels), key=lambda level: abs(level - wanted))

    @property
    def is_bit(self) -> bool:
        """Whether this is a yes or no: levels 0 and 1. A width with two levels is none, nor is a choice of two."""
        return self.levels == (0, 1) and self.kind != "choice"

    def shown(self, level: int) -> str:
        """A level as people call it."""
        return self.labels[self.levels.index(level)] if self.labels else str(level)

    def to_record(self) -> dict[str, Any]:
        """Plain data for the database and for files. Which operator offers it is for the space to say."""
        record = {"name": self.name, "levels": list(self.levels), "unit": self.unit, "size": self.size}
        return record | {"kind": self.kind} | ({"labels": list(self.labels)} if self.labels else {})

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> Knob:
        """The inverse of `to_record`; reads also what earlier versions wrote, which told kinds apart by the unit."""
        unit = record.get("unit", "channels")
        kind = record.get("kind", _KIND_OF_UNIT.get(unit, "amount"))
        labels = tuple(record.get("labels", ()))
        return cls(record["name"], tuple(record["levels"]), unit, record.get("size", 0), kind, labels)


_KIND_OF_UNIT: dict[str, Kind] = {"block": "gate", "skip": "free"}


class Point(Mapping[str, int]):
    """A frozen choice: knob name -> level, in the order of the space's knobs."""

    __slots__ = ("_levels", "key")

    def __init__(self, levels: Mapping[str, int] | Sequence[tuple[str, int]]) -> None:
        self._levels = {name: int(level) for name, level in dict(levels).items()}
        self.key: str = hashlib.sha256(self.to_json().encode()).hexdigest()[:16]
        """Equal for equal choices whatever their order; names a Point in caches and in the database."""

    def to_json(self) -> str:
        """Canonical JSON: sorted keys, no spaces."""
        return json.dumps(self._levels, sort_keys=True, separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str) -> Point:
        """The inverse of `to_json`."""
        return cls(json.loads(text))

    def __getitem__(self, name: str) -> int:
        return self._levels[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._levels)

    def __len__(self) -> int:
        return len(self._levels)

    def __hash__(self) -> int:
        return hash(self.key)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Point) and self._levels == other._levels

    def __repr__(self) -> str:
        return f"Point({self._levels})"

    def __reduce__(self) -> tuple[Any, ...]:
        return Point, (self._levels,)


@runtime_checkable
class Space(Protocol):
    """What may be chosen, what each choice costs, and where the budget's wall stands.

    `limits` maps a cost metric to its upper limit in absolute units, e.g. `{"macs": 20.4e6}`. Costs never fall
    when a level rises, but for choices, of which the space knows the least cost: so a wall is exact. Empty limits are
    no budget: nothing is to be used up.
    """

    @property
    def knobs(self) -> tuple[Knob, ...]:
        """The decisions, in the order in which an agent takes them."""

    @property
    def original_levels(self) -> np.ndarray:
        """The levels at which the original is left unchanged: [n_knobs]."""

    @property
    def original_point(self) -> Point:
        """The Point that leaves the original unchanged."""

    @property
    def metrics(self) -> tuple[str, ...]:
        """The costs that `cost` predicts, e.g. `("macs", "params", "size_bytes")`."""

    @property
    def feature_names(self) -> tuple[str, ...]:
        """The names of the columns of `features`."""

    def features(self) -> np.ndarray:
        """What is known of each knob before the search, each column scaled to [0, 1]: [n_knobs, n_features]."""

    def encode(self, point: Point) -> np.ndarray:
        """Keep fractions scaled to [0, 1]: [n_knobs]."""

    def decode(self, x: np.ndarray) -> Point:
        """The nearest legal Point to `x`: [n_knobs] in [0, 1]. Inverse of `encode` on legal Points."""

    def point(self, levels: Sequence[int]) -> Point:
        """The Point with these levels, in knob order; an illegal level is a `SpaceError`.

        In a conditional space it is the canonical one: knobs that others have made inactive stand at their lowest.
        """

    def cost(self, point: Point, metric: str) -> float:
        """The predicted cost of the network built from `point`, in the metric's unit."""

    def cost_of_levels(self, levels: np.ndarray, metric: str) -> float:
        """The cost of the network whose knobs, in order, stand at `levels`, [n_knobs], canonical or not."""

    def costs_of_levels(self, levels: np.ndarray, metric: str) -> np.ndarray:
        """The costs of many networks: `levels` [n, n_knobs], result [n], equal to those of each alone."""

    def points(self, levels: np.ndarray) -> list[Point]:
        """The canonical Points of many networks whose levels, [n, n_knobs], are legal."""

    def active(self, levels: np.ndarray) -> np.ndarray:
        """Whether each knob makes a difference, the others standing at `levels` ([n_knobs]): [n_knobs] bool.

        Which knobs do is decided by knobs before them.
        """

    def sequence(self, point: Point) -> np.ndarray:
        """The network built from `point` as rows in the order of its layers: float32, [n_rows, n_columns].

        What is removed has no row, so the number of rows differs from Point to Point; that of columns does not. Each
        column is scaled to [0, 1]; one Point has the same rows whenever asked.
        """

    def within(self, levels: np.ndarray, limits: Mapping[str, float]) -> bool:
        """Whether the network whose knobs stand at `levels` ([n_knobs]) exceeds no limit."""

    def are_within(self, levels: np.ndarray, limits: Mapping[str, float]) -> np.ndarray:
        """Whether each of many networks exceeds no limit: `levels` [n, n_knobs], result [n] bool."""

    def bounds(self, prefix: Sequence[int], limits: Mapping[str, float]) -> tuple[int, int]:
        """Lowest and highest level of the next knob from which the budget can still be met exactly.

        Above the highest, even the smallest choice of everything later would exceed a limit. Below the lowest,
        even the largest choice of everything later would leave budget unused. Without limits all levels.
        """

    def allowed(self, prefix: Sequence[int], limits: Mapping[str, float]) -> tuple[int, ...]:
        """The levels of the next knob from which the budget can still be met: of a choice any, else all of `bounds`."""

    def repaired(self, levels: Sequence[int], order: Sequence[int], limits: Mapping[str, float]) -> Point:
        """The Point within limits whose knobs stand at `levels` where they can, the first in `order` before others."""

    def fill(self, levels: Sequence[int], wanted: np.ndarray, limits: Mapping[str, float]) -> Point:
        """Raise `levels`, which keep the limits, towards keep fractions `wanted` ([n_knobs]) until none can rise.

        Without limits they stay as they are.
        """

    def project(self, wanted: np.ndarray, limits: Mapping[str, float]) -> Point:
        """The Point nearest in shape to keep fractions `wanted` ([n_knobs]) that uses the budget, if any, up."""

    def least_costs(self, limits: Mapping[str, float]) -> Mapping[str, float]:
        """Of each limited metric, what the smallest network within the limits costs: metric -> cost in its unit."""

    def require_feasible(self, limits: Mapping[str, float]) -> None:
        """Raise `InfeasibleBudgetError`, saying what can be met, unless some network meets every limit."""

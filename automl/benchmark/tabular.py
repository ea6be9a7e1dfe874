"""Points evaluated once and for all: a space without its network, and what each Point is worth, in one small file."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from itertools import product
from pathlib import Path
from typing import Any, NoReturn, Protocol, runtime_checkable
from zipfile import BadZipFile

import numpy as np

from agents import Goal, Sensitivity
from automl.benchmark.costs import CostPolynomial
from automl.errors import TableError
from automl.measures.counts import excess
from automl.types import Measurement, Outcome
from automl.util.names import nearest
from search_spaces import AdditiveSpace, ConditionalSpace, CostedSpace, Knob, Plan, Point, Space, SpaceError

FORMAT = 2
"""Written to every file, and checked when one is read. Files of format 1 have no conditional knobs."""

MOST_BLOCKS = 12
"""That a table of a space of depth can have."""


class TableSpace(ConditionalSpace):
    """The knobs, costs and features of the space that a table was made from. It has no network to plan or build."""

    def __init__(
        self,
        knobs: Sequence[Knob],
        costs: Mapping[str, CostPolynomial],
        feature_names: Sequence[str],
        features: np.ndarray,
        patterns: np.ndarray,
    ) -> None:
        """`features`: [n_knobs, n_features]; `patterns`: which knobs are active, bool [2^n_blocks, n_knobs].

        The row of a pattern has the levels of the blocks for its binary digits, the first block's highest.
        """
        self.knobs = tuple(knobs)
        self.costs = dict(costs)
        self.metrics = tuple(costs)
        self.feature_names = tuple(feature_names)
        self._features = np.asarray(features, dtype=float)
        self.patterns = patterns
        blocks = self._is_a("gate")
        self._places = np.where(blocks, 2 ** np.cumsum(blocks[::-1])[::-1] // 2, 0)

    @classmethod
    def of(cls, space: CostedSpace, levels: np.ndarray, metrics: Sequence[str]) -> TableSpace:
        """The same knobs, features and `metrics`, these exact at `levels`: [n, n_knobs]. Else a `TableError`."""
        assert isinstance(space, Space)  # it has features too
        costs = {metric: CostPolynomial.fit(space, metric, levels) for metric in metrics}
        blocks = [t for t, knob in enumerate(space.knobs) if knob.kind == "gate"]
        if len(blocks) > MOST_BLOCKS:
            raise TableError(
                f"a table keeps what is left without each set of blocks: expected at most {MOST_BLOCKS} blocks, got "
                f"{len(blocks)}. Exclude some"
            )
        patterns = []
        for bits in product((0, 1), repeat=len(blocks)):
            at = space.highest
            at[blocks] = bits
            patterns.append(space.active(at))
        return cls(space.knobs, costs, space.feature_names, space.features(), np.array(patterns))

    def active(self, levels: np.ndarray) -> np.ndarray:
        """Whether each knob makes a difference to the network at `levels` ([n_knobs]): [n_knobs] bool."""
        active: np.ndarray = self.patterns[int(levels @ self._places)]
        return active

    def cost_of_levels(self, levels: np.ndarray, metric: str) -> float:
        """The cost of the network whose knobs, in order, stand at `levels`: [n_knobs]."""
        return float(self.costs[metric](levels))

    def costs_of_levels(self, levels: np.ndarray, metric: str) -> np.ndarray:
        """The costs of many networks: `levels` [n, n_knobs], result [n]."""
        return self.costs[metric](levels)

    def features(self) -> np.ndarray:
        """What is known of each knob before the search: [n_knobs, n_features]."""
        return self._features.copy()

    def described(self) -> dict[str, Any]:
        """The costs and features, as plain data."""
        costs = {
            metric: {"constant": cost.constant, "slope": cost.slope.tolist(), "curve": cost.curve.tolist()}
            for metric, cost in self.costs.items()
        }
        return {"costs": costs, "feature_names": self.feature_names, "features": self._features.tolist()}

    def plan(self, point: Point) -> Plan:
        """Refused: which channels to keep takes the network's weights."""
        self._refuse()

    def build(self, plan: Plan) -> NoReturn:
        """Refused: there is no network."""
        self._refuse()

    def _refuse(self) -> NoReturn:
        raise SpaceError("a table knows what networks are worth and has none of them: build one with its own space")


@runtime_checkable
class Described(Protocol):
    """A space whose costs a table's file can hold."""

    patterns: np.ndarray

    def described(self) -> dict[str, Any]:
        """The costs and features, as plain data."""


@dataclass(frozen=True)
class Coverage:
    """Which Points of its space a table holds: all that cost at most `within` and at least `above`."""

    within: Mapping[str, float] = field(default_factory=dict)
    """Cost metric -> highest cost, in its unit."""
    above: Mapping[str, float] = field(default_factory=dict)
    """Cost metric -> lowest cost."""
    full: bool = False
    """Whether Points are left out that do not use `within` up: those that the space would `fill`."""

    def __str__(self) -> str:
        terms = [f"{metric} <= {value:,.0f}" for metric, value in self.within.items()]
        terms += [f"{metric} >= {value:,.0f}" for metric, value in self.above.items()]
        return " and ".join(terms or ["any cost"]) + (" and no knob that could rise" if self.full else "")


@dataclass(frozen=True)
class Table:
    """What the Points of a space are worth under one evaluation. Judges a Point by looking it up."""

    space: TableSpace | AdditiveSpace
    rows: np.ndarray
    """Positions of the levels among those of each knob, one row a Point: uint8, [n_points, n_knobs]."""
    values: Mapping[str, np.ndarray]
    """Metric -> value at each Point, NaN where the evaluation failed: float32, [n_points]."""
    goal: Goal
    coverage: Coverage
    sensitivity: Sensitivity | None = None
    """What agents that use one are given."""
    provenance: Mapping[str, Any] = field(default_factory=dict)
    """Network, data, evaluation, code version: plain data."""
    limits: Mapping[str, float] = field(default_factory=dict)
    """Cost metric -> upper limit; a Point above it is infeasible. At first the highest costs that are covered."""

    def __post_init__(self) -> None:
        if self.rows.shape != (len(self.rows), len(self.space.knobs)) or not len(self.rows):
            raise TableError(f"expected [n_points, {len(self.space.knobs)}] levels, got {list(self.rows.shape)}")
        wrong = [name for name, column in self.values.items() if column.shape != (len(self.rows),)]
        if wrong:
            raise TableError(f"expected {len(self.rows)} values of {wrong[0]!r}, got {self.values[wrong[0]].shape}")
        if self.goal.metric not in self.values:
            raise TableError(f"the table has no {self.goal.metric!r}{nearest(self.goal.metric, self.values)}")

    @classmethod
    def make(
        cls,
        space: CostedSpace,
        values: Mapping[Point, Mapping[str, float] | None],
        goal: Goal,
        coverage: Coverage,
        *,
        metrics: Sequence[str] | None = None,
        sensitivity: Sensitivity | None = None,
        provenance: Mapping[str, Any] | None = None,
    ) -> Table:
        """From what each Point is worth, None for one that failed; costs are computed and need not be among it.

        `metrics`: costs the table predicts (default: all of the space). `TableError` unless each is exact.
        """
        levels = np.array([space.levels(point) for point in values])
        position = [{level: i for i, level in enumerate(knob.levels)} for knob in space.knobs]
        rows = np.array([[at[level] for at, level in zip(position, row, strict=True)] for row in levels.tolist()])
        order = np.lexsort(rows.T[::-1])
        costs = tuple(metrics if metrics is not None else space.metrics)
        known = list(values.values())
        names = list(dict.fromkeys(name for worth in known for name in worth or () if name not in space.metrics))
        columns = {name: np.array([(worth or {}).get(name, np.nan) for worth in known]) for name in names}
        return cls(
            TableSpace.of(space, levels, costs),
            rows[order].astype(np.uint8),
            {name: column[order].astype(np.float32) for name, column in columns.items()},
            goal,
            coverage,
            sensitivity,
            dict(provenance or {}),
            dict(coverage.within),
        )

    def __len__(self) -> int:
        return len(self.rows)

    def limited(self, limits: Mapping[str, float]) -> Table:
        """The same with other limits. `TableError` if Points within them are not covered."""
        for metric, covered in self.coverage.within.items():
            if limits.get(metric, np.inf) > covered:
                raise TableError(f"the table has Points of {self.coverage} only: set a limit on {metric} within that")
        self.space.require_feasible(limits)
        return replace(self, limits=dict(limits))

    def aiming(self, goal: Goal) -> Table:
        """The same with another goal."""
        return replace(self, goal=goal)

    def evaluate(self, point: Point, rival: Point | None = None) -> Outcome:
        """What `point` is worth: infeasible above a limit, failed if the evaluation failed or the table has no such."""
        row = self._index.get(self.space.levels(point).tobytes())
        if row is None:
            return Outcome.failed(f"not in the table, which has Points of {self.coverage}")
        values = {name: float(column[row]) for name, column in self.values.items()}
        if np.isnan(values[self.goal.metric]):
            return Outcome.failed("its evaluation failed when the table was made")
        values |= {metric: self.space.cost(point, metric) for metric in self.space.metrics}
        measured = [Measurement(name, value) for name, value in values.items() if not np.isnan(value)]
        over = excess(measured, self.limits)
        return Outcome.infeasible(f"over the budget: {over}", measured) if over else Outcome.done(measured)

    __call__ = evaluate
    """An `Evaluate`, as runners take it."""

    @cached_property
    def optimum(self) -> float:
        """The best value of the goal within the limits. `TableError` if there is none."""
        return self.top(0.0)

    def top(self, part: float) -> float:
        """The value of the goal that the best `part` of the evaluated Points within the limits reach, at least one."""
        values = self.values[self.goal.metric]
        costs = {metric: self.space.costs_of_levels(self._levels, metric) for metric in self.limits}
        inside = np.all([costs[metric] <= limit for metric, limit in self.limits.items()], axis=0)
        best_last: list[float] = sorted(values[inside & ~np.isnan(values)].tolist(), key=self.goal.utility)
        if not best_last:
            raise TableError("the table has no evaluated Point within the limits: raise them")
        return best_last[-max(int(part * len(best_last)), 1)]

    @cached_property
    def _levels(self) -> np.ndarray:
        """The levels of every Point: [n_points, n_knobs]."""
        columns = [np.array(knob.levels)[at] for knob, at in zip(self.space.knobs, self.rows.T, strict=True)]
        return np.stack(columns, axis=1).astype(np.int64)

    @cached_property
    def _index(self) -> dict[bytes, int]:
        """Levels as bytes -> row."""
        return {levels.tobytes(): row for row, levels in enumerate(self._levels)}

    def save(self, path: str | Path) -> None:
        """Write the table to `path`, a compressed NumPy archive without pickles.

        `TableError` for a table that somebody else publishes: it is read from the file that they publish.
        """
        if not isinstance(self.space, Described):
            raise TableError(f"a published table has its own file and is not written to {path}: read that")
        described = {
            "format": FORMAT,
            "knobs": [knob.to_record() for knob in self.space.knobs],
            **self.space.described(),
            "goal": asdict(self.goal),
            "coverage": asdict(self.coverage),
            "sensitivity": None if self.sensitivity is None else {k: v.tolist() for k, v in self.sensitivity.items()},
            "provenance": dict(self.provenance),
        }
        text = np.frombuffer(json.dumps(described).encode(), dtype=np.uint8)
        with Path(path).open("wb") as file:
            columns = {f"value/{name}": column for name, column in self.values.items()}
            np.savez_compressed(
                file, allow_pickle=False, described=text, rows=self.rows, patterns=self.space.patterns, **columns
            )

    @classmethod
    def load(cls, path: str | Path) -> Table:
        """The inverse of `save`. `TableError` if the file is missing or holds something else."""
        try:
            with np.load(path, allow_pickle=False) as archive:
                described = json.loads(archive["described"].tobytes())
                rows = archive["rows"]
                patterns = archive["patterns"] if "patterns" in archive else np.ones((1, rows.shape[1]), dtype=bool)
                values = {n.removeprefix("value/"): archive[n] for n in archive.files if n.startswith("value/")}
        except (OSError, EOFError, ValueError, KeyError, BadZipFile) as error:
            raise TableError(f"cannot read a table from {path}: {error}. Make one with experiments/tabular") from error
        if described["format"] not in (1, FORMAT):
            raise TableError(f"expected a table of format {FORMAT} in {path}, got {described['format']}: make it anew")
        knobs = [Knob.from_record(knob) for knob in described["knobs"]]
        lowest = np.array([knob.levels[0] for knob in knobs])
        costs = {
            metric: CostPolynomial(lowest, cost["constant"], np.array(cost["slope"]), np.array(cost["curve"]))
            for metric, cost in described["costs"].items()
        }
        sensitivity = described["sensitivity"]
        coverage = Coverage(**described["coverage"])
        return cls(
            TableSpace(knobs, costs, described["feature_names"], np.array(described["features"]), patterns),
            rows,
            values,
            Goal(**described["goal"]),
            coverage,
            None if sensitivity is None else {name: np.array(curve) for name, curve in sensitivity.items()},
            described["provenance"],
            dict(coverage.within),
        )

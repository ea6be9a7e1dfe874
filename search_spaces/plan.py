"""The surgery as pure data: an ordered list of steps, one an operator."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar, runtime_checkable

from torch import nn

from search_spaces.cells.cells_step import CellsStep
from search_spaces.errors import SpaceError
from search_spaces.operators.registry import OPERATORS
from search_spaces.operators.step import Step
from search_spaces.types import Point, Space

STEPS: dict[str, type[Step]] = {name: operator.step_type for name, operator in OPERATORS.items()} | {
    CellsStep.operator: CellsStep
}
"""Kinds of step by the names in a plan's record."""

S = TypeVar("S", bound=Step)


@dataclass(frozen=True)
class Plan:
    """What becomes of a network, as an ordered list of steps; no steps leave it as it is.

    A step speaks in the names of the network before it. Replaying a plan needs no pickle, only the original network.
    """

    steps: tuple[Step, ...] = ()

    def get(self, kind: type[S]) -> S:
        """The step of this kind; an empty one where there is none."""
        return next((step for step in self.steps if isinstance(step, kind)), kind())

    @property
    def packed(self) -> bool:
        """Whether the network's file is a packed one: some step leaves weights that take less than their numbers."""
        return any(step.packed for step in self.steps)

    def to_json(self) -> str:
        """Canonical JSON, a list of objects: sorted keys, no spaces."""
        return json.dumps(self.to_record(), sort_keys=True, separators=(",", ":"))

    def to_record(self) -> list[dict[str, Any]]:
        """The same as plain data."""
        return [{"operator": step.operator, **step.to_record()} for step in self.steps]

    @classmethod
    def from_json(cls, text: str) -> Plan:
        """The inverse of `to_json`; reads also the single object that earlier versions wrote."""
        raw = json.loads(text)
        return cls.from_record(_steps_of(raw) if isinstance(raw, Mapping) else raw)

    @classmethod
    def from_record(cls, record: list[dict[str, Any]]) -> Plan:
        """The inverse of `to_record`. A step of an operator that does not exist is a `SpaceError`."""
        steps = []
        for raw in record:
            kind = STEPS.get(raw["operator"])
            if kind is None:
                known = ", ".join(STEPS)
                raise SpaceError(f"the plan has a step of operator {raw['operator']!r}, expected one of {known}")
            steps.append(kind.from_record(raw))
        return cls(tuple(steps))


def _steps_of(raw: Mapping[str, Any]) -> list[dict[str, Any]]:
    """A plan of versions up to 0.1, which had one field an operator, as steps."""
    steps: list[dict[str, Any]] = []
    if raw.get("removed") or raw.get("skips"):
        steps.append({"operator": "depth", "removed": raw.get("removed", []), "skips": raw.get("skips", [])})
    if raw.get("kept"):
        steps.append({"operator": "channels", "kept": raw["kept"]})
    if raw.get("weights"):
        steps.append({"operator": "sparsity", "counts": raw["weights"], "scales": raw.get("scales", {})})
    return steps


@runtime_checkable
class Builds(Space, Protocol):
    """What an evaluation sees of a space besides: what a Point means, and the network made of it."""

    def plan(self, point: Point) -> Plan:
        """What becomes of the network at `point`."""

    def build(self, plan: Plan) -> nn.Module:
        """A new network, smaller for real; the original is untouched."""


@runtime_checkable
class Searched(Builds, Protocol):
    """What a study sees of a space besides: with what its networks are compared, and how they are kept and run."""

    @property
    def packed(self) -> bool:
        """Whether a network's file is a packed one."""

    @property
    def any_batch(self) -> bool:
        """Whether networks run on batches of any size."""

    def reference(self, limits: Mapping[str, float]) -> Point:
        """What others are compared with: the original network, or the hand-made one that is scaled to `limits`."""

    def original_cost(self, metric: str) -> float:
        """What relative limits are parts of."""

"""The step of a plan that makes a network from nothing: its architecture."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self

from search_spaces.cells.architecture import Architecture
from search_spaces.operators.step import Step


@dataclass(frozen=True)
class CellsStep(Step):
    """Build this architecture. Other steps of the plan change what it makes, as they change any network."""

    operator: ClassVar[str] = "cells"
    architecture: Architecture | None = None

    def to_record(self) -> dict[str, Any]:
        """The architecture as plain data."""
        return self.architecture.to_record() if self.architecture else {}

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> Self:
        """The inverse of `to_record`. `SpaceError` for what is no architecture."""
        return cls(Architecture.from_record(record))

"""A step of a plan: what one operator does to a network, as plain data."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Mapping
from dataclasses import fields, is_dataclass, replace
from typing import Any, ClassVar, Self

from search_spaces.graph.recorded import Cut


class Step(ABC):
    """What one operator does to a network. A subclass is a frozen dataclass whose defaults do nothing."""

    operator: ClassVar[str]
    """The name of the operator whose step it is."""
    packed: ClassVar[bool] = False
    """Whether it leaves weights that take less in a packed file than their numbers do."""

    @abstractmethod
    def to_record(self) -> dict[str, Any]:
        """The step as plain data, for JSON."""

    @classmethod
    @abstractmethod
    def from_record(cls, record: Mapping[str, Any]) -> Self:
        """The inverse of `to_record`."""

    def within(self, cut: Cut) -> Cut:
        """`cut` with the channels and calls that this step removes too. Most steps remove none."""
        return cut

    def of(self, layer: str) -> Self | None:
        """What the step does to one layer, named as the step names it; None if that is nothing."""
        return self._restricted(lambda name: name in (layer, f"{layer}.weight"))

    def but(self, layers: Collection[str]) -> Self | None:
        """What the step does to all but these layers; None if that is nothing."""
        return self._restricted(lambda name: name.removesuffix(".weight") not in layers)

    def _restricted(self, wanted: Callable[[str], bool]) -> Self | None:
        """The step with the entries wanted of its mappings, which are by layer or by the layer's tensor."""
        assert is_dataclass(self)
        found = {f.name: getattr(self, f.name) for f in fields(self)}
        parts = {
            field: {name: entry for name, entry in value.items() if wanted(name)}
            for field, value in found.items()
            if isinstance(value, Mapping)
        }
        return replace(self, **parts) if any(parts.values()) else None

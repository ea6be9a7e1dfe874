"""A step of a plan: what one operator does to a network, as plain data."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
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

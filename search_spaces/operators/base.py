"""What an operator is: something that can be done to a network to make it smaller, with knobs, a price and a step."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
from torch import fx

from search_spaces.graph.analysis import Analysis
from search_spaces.graph.groups import Group
from search_spaces.graph.recorded import Recorded
from search_spaces.operators.options import Options
from search_spaces.operators.step import Step
from search_spaces.pricing.sheet import Sheet
from search_spaces.pricing.storage import AS_IT_IS, Storage
from search_spaces.pricing.terms import Terms
from search_spaces.types import Knob

Scores = Mapping[str, np.ndarray]
"""Site -> what each of its parts matters; the highest stay."""


@dataclass(frozen=True)
class Basis:
    """What an operator stands on: the recorded network, and what the operators before it have found in it."""

    recorded: Recorded
    analysis: Analysis
    """Its analysis, with the ties that an operator has added."""
    groups: tuple[Group, ...] = ()
    """The groups of channels whose width is chosen."""
    narrowest: np.ndarray | None = None
    """The least width that each group may have, [n_groups]; None: they are whole."""

    storage: Storage = AS_IT_IS
    """What the operators so far ask of the network's file."""
    passed_over: tuple[str, ...] = ()
    """What other operators exclude by name, which so is known though it is no group: blocks and their layers."""

    known: dict[Any, Terms] = field(default_factory=dict, repr=False, compare=False)
    """The terms worked out so far, shared by all operators of a space."""

    @property
    def terms(self) -> Terms:
        """What the network's costs are made of, with the groups so far."""
        key = id(self.analysis), tuple(group.name for group in self.groups)
        if key not in self.known:
            self.known[key] = Terms(self.analysis, self.groups)
        return self.known[key]

    def changed(self, **found: Any) -> Basis:
        """The same with what an operator that changes weights has found: fields of this class or of `Storage`."""
        asked = {name: value for name, value in found.items() if name in Storage.__dataclass_fields__}
        rest = {name: value for name, value in found.items() if name not in asked}
        return replace(self, storage=replace(self.storage, untouched=False, **asked), **rest)

    @cached_property
    def whole(self) -> Sheet:
        """The price sheet of the network as it is."""
        return self.terms.sheet(self.terms.whole)

    @cached_property
    def least(self) -> Sheet:
        """The price sheet with every group as narrow as it can be, and no layer gone."""
        return self.whole if self.narrowest is None else self.terms.sheet(self.narrowest)


@dataclass(frozen=True)
class Listing:
    """A table for people."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    left: tuple[int, ...] = (0,)
    """The columns that are set to the left."""


class Operator(ABC):
    """One kind of change to a network.

    An operator is made for one network. Its knobs stand in the space in the order of `knobs`, gates before all
    amounts and what is free after them. `levels` below are those of its own knobs, [n_knobs].
    """

    name: ClassVar[str]
    marks: ClassVar[tuple[str, ...]]
    """The kinds of its knobs: its own name for amounts, else their unit."""
    options_type: ClassVar[type[Options]]
    step_type: ClassVar[type[Step]]

    def __init__(self, basis: Basis, options: Any) -> None:  # noqa: B027 (a subclass has its own)
        """Find what can be changed in the network of `basis`; a `SpaceError` if nothing can."""

    basis: Basis
    """What the next operator stands on."""
    knobs: tuple[Knob, ...]

    @property
    def structural(self) -> bool:
        """Whether it removes channels or calls."""
        return self.options_type.structural

    def canonical(self, before: Sheet, levels: np.ndarray) -> np.ndarray:
        """The one form of all levels that make the same network of that of `before`: [n_knobs].

        Knobs that make no difference stand at their lowest.
        """
        lowest = np.array([knob.levels[0] for knob in self.knobs], dtype=np.int64)
        return np.where(self.active(before, levels), levels, lowest)

    def inventory(self) -> tuple[Listing, ...]:
        """What can be changed, and what cannot and why, in tables for people."""
        return ()

    @property
    def network(self) -> fx.GraphModule:
        """The original network."""
        return self.basis.recorded.network

    @abstractmethod
    def price(self, sheet: Sheet, levels: np.ndarray) -> Sheet:
        """`sheet`, of the network before this operator, with what it changes. No cost falls when a level rises."""

    @abstractmethod
    def active(self, sheet: Sheet, levels: np.ndarray) -> np.ndarray:
        """Whether each knob makes a difference to the network of `sheet`, which has its price here: [n_knobs] bool."""

    @abstractmethod
    def step(self, sheet: Sheet, levels: np.ndarray, scores: Scores | None) -> Step:
        """What becomes of the network whose `sheet` this operator has priced. `scores` None: its weights decide."""

    @abstractmethod
    def described(self) -> np.ndarray:
        """Describe each knob's layer: [n_knobs, 7].

        The static part of the AMC state (He et al. 2018, section 3.1): output and input channels, height, width,
        stride, kernel, share of the MACs.
        """

    @staticmethod
    def rebuild(network: fx.GraphModule, step: Any) -> fx.GraphModule:
        """Give `network`, which may be changed, the structure of `step`, and weights that need no data to be chosen.

        Of structural operators nothing is left to do. A step that does not fit is a `SpaceError`.
        """
        return network


def first_few(names: Sequence[str], n: int = 3) -> str:
    """The first names, and how many more there are."""
    more = f" and {len(names) - n} more" if len(names) > n else ""
    return ", ".join(names[:n]) + more

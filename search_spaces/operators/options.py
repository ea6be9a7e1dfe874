"""The options of every operator, and what is known of it without a network: all that a study file needs.

Nothing here loads torch, so that study files and their keys can be read at once.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar

from search_spaces.codecs.number_formats import (
    ALL_FORMATS,
    CODED,
    FLOAT_INPUTS,
    FORMATS,
    INPUT_BITS,
    SHARED,
    NumberFormat,
)
from search_spaces.errors import SpaceError
from search_spaces.operators.patterns import pattern_of


@dataclass(frozen=True)
class Options:
    """What a study says of one operator."""

    lowers: ClassVar[frozenset[str]]
    """The costs that its knobs lower."""
    structural: ClassVar[bool] = False
    """Whether it removes channels or calls, which one surgery of the recorded network does for all such operators."""
    excludes: ClassVar[Mapping[str, str]] = {}
    """Operators, and sections of a study, that it cannot be joined with -> why, with the remedy."""


@dataclass(frozen=True)
class DepthOptions(Options):
    """Which blocks of layers remain, and which skips are added."""

    lowers: ClassVar[frozenset[str]] = frozenset({"macs", "params", "size_bytes", "bops"})
    structural: ClassVar[bool] = True

    exclude: tuple[str, ...] = ()
    """Blocks that stay, by their names or those of their layers; `*` and `?` match as in file names."""
    skips: bool = False
    """Whether skips may be added."""
    max_skips: int = 1
    """From how many earlier places each block may be given one; the nearest are offered."""

    def __post_init__(self) -> None:
        if self.max_skips < 1:
            raise SpaceError(f"max_skips is a number of skips a block, at least 1, got {self.max_skips}")


@dataclass(frozen=True)
class ChannelsOptions(Options):
    """How many channels of each coupled group remain."""

    lowers: ClassVar[frozenset[str]] = frozenset({"macs", "params", "size_bytes", "bops", "peak_activation_bytes"})
    structural: ClassVar[bool] = True

    min_keep: float = 0.1
    """The smallest fraction of a group's channels that may remain."""
    round_to: int = 1
    """Kept channels are a multiple of this, counted in channels of the layer that makes the group (or all of them)."""
    steps: int | None = None
    """Only this many widths of each group, evenly spaced up to the full one: a coarse grid. None for all."""
    exclude: tuple[str, ...] = ()
    """Groups or layers whose channels all stay; `*` and `?` match as in file names."""
    widths: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    """Group -> the only widths that it is offered beside the whole one, of those that these options leave; none: it
    stays whole. A study whose only limit is one on latency names those that are faster than any greater one."""

    def __post_init__(self) -> None:
        if wrong := {name: widths for name, widths in self.widths.items() if min(widths, default=1) < 1}:
            raise SpaceError(f"widths gives groups numbers of channels, at least 1, got {wrong}")
        if not 0 < self.min_keep <= 1:
            raise SpaceError(f"min_keep is a fraction in (0, 1], got {self.min_keep}")
        if self.round_to < 1:
            raise SpaceError(f"round_to is a number of channels, at least 1, got {self.round_to}")
        if self.steps is not None and self.steps < 2:
            raise SpaceError(f"steps is a number of widths, at least 2, got {self.steps}")


@dataclass(frozen=True)
class RankOptions(Options):
    """Which layers become several in a row, and how many channels there are between them."""

    lowers: ClassVar[frozenset[str]] = frozenset({"macs", "params", "size_bytes", "bops"})

    scheme: str = "auto"
    """"svd": any layer as one of its geometry with few outputs and a 1x1 one. "auto": kernels of several rows and
    columns as a column and a row (spatially separable) instead, which lost less on every network tried. "tucker":
    kernels as a 1x1 to fewer channels, one of their geometry among these, and a 1x1. "cp": kernels of several rows and
    columns as a 1x1, a column and a row within each channel, and a 1x1."""
    min_keep: float = 0.1
    """The smallest share of the rank at which a factorised layer costs as much as a whole one."""
    steps: int = 16
    """So many shares of that rank, evenly spaced; the last is the whole layer."""
    exclude: tuple[str, ...] = ()
    """Layers that stay whole; `*` and `?` match as in file names."""
    at_most: Mapping[str, float] = field(default_factory=dict)
    """Layer -> the largest of those shares that it is offered; one below `min_keep` leaves it whole. A study whose only
    limit is one on latency adds the layers of which larger shares are no faster than the whole on its backend."""

    def __post_init__(self) -> None:
        if wrong := {name: share for name, share in self.at_most.items() if not 0 <= share < 1}:
            raise SpaceError(f"at_most gives layers shares in [0, 1), got {wrong}")
        if self.scheme not in ("auto", "svd", "tucker", "cp"):
            raise SpaceError(f"scheme is auto, svd, tucker or cp, got {self.scheme!r}")
        if not 0 < self.min_keep <= 1:
            raise SpaceError(f"min_keep is a fraction in (0, 1], got {self.min_keep}")
        if self.steps < 2:
            raise SpaceError(f"steps is a number of shares, at least 2, got {self.steps}")


@dataclass(frozen=True)
class SparsityOptions(Options):
    """How many single weights of each layer are not zero."""

    lowers: ClassVar[frozenset[str]] = frozenset({"params", "size_bytes"})

    pattern: str = "unstructured"
    """Where weights may remain: `unstructured`, anywhere; `2:4` or another N:M, N of every M consecutive inputs of an
    output, or the whole layer; `1x4`, `4x4` or others, whole blocks of so many outputs and inputs."""
    min_keep: float = 0.1
    """The smallest fraction of a layer's weights that may remain, where the pattern does not say how many do."""
    exclude: tuple[str, ...] = ()
    """Layers whose weights all stay; `*` and `?` match as in file names."""

    def __post_init__(self) -> None:
        pattern_of(self.pattern)  # an unknown one is refused
        if not 0 < self.min_keep <= 1:
            raise SpaceError(f"min_keep is a fraction in (0, 1], got {self.min_keep}")


@dataclass(frozen=True)
class CodeOptions(Options):
    """Which number format the weights of each layer have, and its inputs."""

    lowers: ClassVar[frozenset[str]] = frozenset({"size_bytes", "bops"})

    formats: tuple[str, ...] = ()
    """The formats of weights, beside the floating point that they have: some of binary, ternary, int2 to int8; or of
    coded1, coded1.25, coded1.5, coded1.75, coded2, coded2.5, coded3, coded4 and coded5, which take so many bits a
    weight in the file, where they are entropy coded, and lose less for it; or of shared1 to shared8, numbers of a
    codebook of 2 to 256 a layer, which saves bytes and no bit operations."""
    bits: tuple[int, ...] = (4, 8)
    """Where no formats are named: [4, 8] is int4 and int8."""
    inputs: str = "float32"
    """What layers whose weights have one of these formats read: "float32", or "int8", 8 bits with a scale and a zero
    point a layer, found on the calibration data, so that bit operations are those of weight times input."""
    exclude: tuple[str, ...] = ()
    """Layers that keep their format; `*` and `?` match as in file names."""

    def __post_init__(self) -> None:
        if not self.bits or not set(self.bits) <= {4, 8}:
            raise SpaceError(f"bits are some of 4 and 8, got {list(self.bits)}. Name others in formats, such as int3")
        if self.formats and self.bits != CodeOptions.bits:
            raise SpaceError(f"expected formats or bits, got formats {list(self.formats)} too: leave bits out")
        if not any(set(self.formats) <= set(family) for family in (FORMATS, CODED, SHARED)):
            families = (", ".join(family) for family in (FORMATS, CODED, SHARED))
            raise SpaceError(f"formats are some of {' or of '.join(families)}, got {list(self.formats)}")
        if self.inputs not in INPUT_BITS:
            raise SpaceError(f"inputs are one of {', '.join(INPUT_BITS)}, got {self.inputs!r}")
        if self.inputs != FLOAT_INPUTS and set(self.formats) & set(SHARED):
            raise SpaceError(f"numbers that weights share are floats, got inputs {self.inputs!r} too: leave inputs out")

    @property
    def chosen(self) -> tuple[NumberFormat, ...]:
        """The formats, whichever way they were asked for, in the order of what they take."""
        names = set(self.formats) or {f"int{bits}" for bits in self.bits}
        return tuple(form for name, form in ALL_FORMATS.items() if name in names)


OPTIONS: dict[str, type[Options]] = {
    "depth": DepthOptions,
    "channels": ChannelsOptions,
    "rank": RankOptions,
    "sparsity": SparsityOptions,
    "code": CodeOptions,
}
"""Operator -> its options, in the order of the steps: a step speaks in the names of the network before it."""

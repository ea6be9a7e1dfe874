"""What a study may say of a space of whole architectures. Nothing here loads torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from search_spaces.cells.block_kinds import ACTIVATIONS, KINDS, REDUCTIONS
from search_spaces.errors import SpaceError
from search_spaces.operators.options import OPTIONS, Options

_WORDS = {"kinds": tuple(KINDS), "first_reduce": REDUCTIONS}
_NUMBERS = ("widths", "depths", "kernels", "expand")


@dataclass(frozen=True)
class CellsOptions(Options):
    """Whole networks for images, built from nothing: of each stage the kind of block, its width, depth and kernel.

    There is no original. The reference, a hand-made network, takes its place: blocks of the first kind, widths that
    double where the map halves (He et al. 2016, arXiv 1512.03385, section 3.3), scaled to the budget.
    """

    lowers: ClassVar[frozenset[str]] = frozenset({"macs", "params", "size_bytes"})
    structural: ClassVar[bool] = True
    excludes: ClassVar[Mapping[str, str]] = dict.fromkeys(
        OPTIONS,
        "cells makes networks from nothing, and there is none yet to change. Search cells first, export the winner, "
        "then compress that",
    )

    kinds: tuple[str, ...] = ("residual", "separable", "mobile")
    """Kinds of block to choose from, the reference's first: plain, residual, separable, mobile (inverted residual),
    fire, shuffle, nin."""
    stages: int | None = None
    """Rows of equal blocks; each but the first halves the map and doubles the widths. None: 3 for images of up to 64
    pixels, else 4."""
    widths: tuple[int, ...] = (4, 8, 12, 16, 24, 32, 48, 64)
    """Channels of the stem and of the first stage to choose from; shuffle needs multiples of 8."""
    depths: tuple[int, ...] = (1, 2, 3)
    """Blocks of a stage to choose from."""
    kernels: tuple[int, ...] = (3, 5)
    """Sizes of a block's kernel to choose from, the reference's first."""
    expand: tuple[int, ...] = (3, 6)
    """Of mobile blocks: hidden channels to choose from, as multiples of those they read."""
    first_reduce: tuple[str, ...] = ("none", "stride")
    """How the first stage makes the map smaller: some of none, stride, max, average (a pool before it), the reference's
    first."""
    excite: bool = False
    """Whether blocks may have squeeze and excitation (Hu et al. 2018, arXiv 1709.01507)."""
    activation: str = "relu"
    """Of all blocks: relu, relu6, hardswish or silu."""

    def __post_init__(self) -> None:
        for name, known in _WORDS.items():
            strange = [value for value in getattr(self, name) if value not in known]
            if strange:
                raise SpaceError(f"{name} are some of {', '.join(known)}, got {strange[0]!r}")
        for name in (*_WORDS, *_NUMBERS):
            values = getattr(self, name)
            if not values or len(set(values)) < len(values):
                raise SpaceError(f"{name} are one or more values to choose from, each once, got {list(values)}")
        for name in _NUMBERS:
            if min(getattr(self, name)) < 1:
                raise SpaceError(f"{name} are whole numbers of at least 1, got {min(getattr(self, name))}")
        if not all(kernel % 2 for kernel in self.kernels):
            raise SpaceError(f"kernels are odd numbers, got {list(self.kernels)}")
        if self.stages is not None and self.stages < 1:
            raise SpaceError(f"stages is a number of at least 1, got {self.stages}")
        if self.activation not in ACTIVATIONS:
            raise SpaceError(f"activation is one of {', '.join(ACTIVATIONS)}, got {self.activation!r}")

"""What a study may say of a space of whole architectures. Nothing here loads torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from search_spaces.cells.block_kinds import ACTIVATIONS, KINDS, NORMS, REDUCTIONS
from search_spaces.errors import SpaceError
from search_spaces.operators.options import OPTIONS, Options

_WORDS = {
    "kinds": tuple(KINDS),
    "first_reduce": REDUCTIONS,
    "activations": ACTIVATIONS,
    "norms": NORMS,
}
_NUMBERS = ("widths", "depths", "kernels", "expand")
_CHANNELS = (4, 8, 12, 16, 24, 32, 48, 64)
_USUAL: Mapping[int, Mapping[str, Any]] = {
    2: {"kinds": ("residual", "separable", "mobile"), "widths": _CHANNELS, "kernels": (3, 5)},
    1: {"kinds": ("residual", "plain", "separable"), "widths": _CHANNELS, "kernels": (5, 9, 15)},
    0: {
        "kinds": ("residual", "plain"),
        "widths": (4, 8, 16, 32, 64, 128, 256),
        "kernels": (1,),
        "activations": ("relu", "silu"),
        "norms": NORMS,
        "dropouts": (0.0, 0.1, 0.3),
    },
}
"""Dimensions of the map -> what there is to choose from where a study says nothing: images, signals, rows of a table.
"""
_ELSE: Mapping[str, Any] = {"norms": ("batch",), "dropouts": (0.0,)}
"""The same of any map."""


@dataclass(frozen=True)
class CellsOptions(Options):
    """Whole networks for images, signals or rows of a table, built from nothing: of each stage the kind of block, its
    width, depth and kernel.

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

    kinds: tuple[str, ...] | None = None
    """Kinds of block to choose from, the reference's first: plain, residual, separable, mobile (inverted residual),
    fire, shuffle, nin; of tables plain and residual. None: residual, separable, mobile; of signals residual, plain,
    separable; of tables residual, plain."""
    stages: int | None = None
    """Rows of equal blocks; each but the first halves the map and doubles the widths, which those of tables do not.
    None: 3 for images of up to 64 pixels and signals as long, else 4; 2 for tables."""
    widths: tuple[int, ...] | None = None
    """Channels of the stem and of the first stage to choose from; shuffle needs multiples of 8. None: 4 to 64; of
    tables 4 to 256."""
    depths: tuple[int, ...] = (1, 2, 3)
    """Blocks of a stage to choose from."""
    kernels: tuple[int, ...] | None = None
    """Sizes of a block's kernel to choose from, the reference has the smallest. None: 3, 5; of signals 5, 9, 15."""
    expand: tuple[int, ...] = (3, 6)
    """Of mobile blocks: hidden channels to choose from, as multiples of those they read."""
    first_reduce: tuple[str, ...] = ("none", "stride")
    """How the first stage makes the map smaller: some of none, stride, max, average (a pool before it), the reference's
    first."""
    excite: bool = False
    """Whether blocks may have squeeze and excitation (Hu et al. 2018, arXiv 1709.01507)."""
    activation: str = "relu"
    """Of all blocks: relu, relu6, hardswish or silu."""
    activations: tuple[str, ...] | None = None
    """Those to choose from for each stage, the reference's first. None: `activation`; of tables relu, silu."""
    norms: tuple[str, ...] | None = None
    """What stages have after their layers, the reference's first: batch (norms), none (biases in place of them). None:
    batch; of tables both."""
    dropouts: tuple[float, ...] | None = None
    """Which part of the values inside plain, residual and separable blocks may be dropped in training, the reference's
    first. None: 0; of tables 0, 0.1, 0.3."""

    def __post_init__(self) -> None:
        for name, known in _WORDS.items():
            strange = [value for value in getattr(self, name) or () if value not in known]
            if strange:
                raise SpaceError(f"{name} are some of {', '.join(known)}, got {strange[0]!r}")
        for name in (*_WORDS, *_NUMBERS, "dropouts"):
            values = getattr(self, name)
            if values is not None and (not values or len(set(values)) < len(values)):
                raise SpaceError(f"{name} are one or more values to choose from, each once, got {list(values)}")
        for name in _NUMBERS:
            values = getattr(self, name)
            if values is not None and min(values) < 1:
                raise SpaceError(f"{name} are whole numbers of at least 1, got {min(values)}")
        if not all(kernel % 2 for kernel in self.kernels or ()):
            raise SpaceError(f"kernels are odd numbers, got {list(self.kernels or ())}")
        if not all(0 <= part < 1 for part in self.dropouts or ()):
            raise SpaceError(f"dropouts are parts of at least 0 and below 1, got {list(self.dropouts or ())}")
        if self.stages is not None and self.stages < 1:
            raise SpaceError(f"stages is a number of at least 1, got {self.stages}")
        if self.activation not in ACTIVATIONS:
            raise SpaceError(f"activation is one of {', '.join(ACTIVATIONS)}, got {self.activation!r}")

    def for_maps_of(self, dims: int) -> CellsOptions:
        """The same with what is usual for maps of so many dimensions in the place of every None but of `stages`."""
        usual = {"activations": (self.activation,), **_ELSE, **_USUAL[dims]}
        return replace(self, **{name: value for name, value in usual.items() if getattr(self, name) is None})

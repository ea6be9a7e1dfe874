"""The layers of a block as data: one description from which the module is built and its price computed.

Sizes are those of a map: (height, width) of an image, (length,) of a signal, () of a row of a table, of which each
column is a channel. There a convolution is a linear layer: a kernel over no dimension has one place. A convolution has
its norm and activation with it, as it has in every block.
"""

from __future__ import annotations

from dataclasses import dataclass, field

Size = tuple[int, ...]


@dataclass(frozen=True)
class Conv:
    """A convolution, its batch norm (or a bias where the network has none) and its activation."""

    read: int
    """Channels in."""
    made: int
    """Channels out."""
    kernel: int = 1
    stride: int = 1
    groups: int = 1
    activated: bool = True
    padded: bool = True
    """Whether a map keeps its size at stride 1."""

    def after(self, size: Size) -> Size:
        """The map that it makes of one of `size`."""
        padding = self.kernel // 2 if self.padded else 0
        return tuple((side + 2 * padding - self.kernel) // self.stride + 1 for side in size)


@dataclass(frozen=True)
class Excite:
    """Squeeze and excitation: channels scaled by what their means say (Hu et al. 2018, arXiv 1709.01507)."""

    channels: int
    squeezed: int

    def after(self, size: Size) -> Size:
        """The same size."""
        return size


@dataclass(frozen=True)
class Pool:
    """A pool over three places, of every other one, in each dimension."""

    average: bool = False
    padded: bool = True
    """Whether the border counts as the middle of a window; if not, a window may hang over the far end."""

    def after(self, size: Size) -> Size:
        """The map that it makes of one of `size`."""
        return tuple((side - 1) // 2 + 1 if self.padded else -(-(side - 3) // 2) + 1 for side in size)


@dataclass(frozen=True)
class Shuffle:
    """Channels of all groups mixed (Zhang et al. 2018, arXiv 1707.01083)."""

    groups: int

    def after(self, size: Size) -> Size:
        """The same size."""
        return size


@dataclass(frozen=True)
class Pad:
    """A shortcut without parameters: every `stride`-th place, channels padded with zeros or cut (He et al. 2016)."""

    read: int
    made: int
    stride: int = 1

    def after(self, size: Size) -> Size:
        """The map that it makes of one of `size`."""
        return tuple((side - 1) // self.stride + 1 for side in size)


@dataclass(frozen=True)
class Drop:
    """Dropout: in training this part of all values is zero (Srivastava et al. 2014)."""

    part: float

    def after(self, size: Size) -> Size:
        """The same size."""
        return size


Layer = Conv | Excite | Pool | Shuffle | Pad | Drop


@dataclass(frozen=True)
class Block:
    """Layers in a row, then branches side by side, joined with what the shortcut makes of the input."""

    body: tuple[Layer, ...]
    branches: tuple[Conv, ...] = ()
    """What each makes of the body's output is concatenated."""
    join: str = "none"
    """How the input takes part: "none", "add" or "concat"."""
    shortcut: tuple[Layer, ...] = ()
    """What the input goes through before it is joined."""
    activated: bool = False
    """Whether an activation follows the join."""
    made: int = field(default=0)
    """Channels out."""

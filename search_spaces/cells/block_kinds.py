"""The kinds of block, each a function from what is asked of it to its layers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from search_spaces.cells.block_layers import Block, Conv, Drop, Excite, Layer, Pad, Pool, Shuffle

REDUCTIONS = ("none", "stride", "max", "average")
"""How a stage makes the map smaller: not, by the stride of its first block, or by a pool before that."""

ACTIVATIONS = ("relu", "relu6", "hardswish", "silu")

NORMS = ("batch", "none")
"""What follows a layer."""


@dataclass(frozen=True)
class Asked:
    """What a block is asked to be."""

    read: int
    """Channels in."""
    width: int
    """Channels out."""
    stride: int = 1
    kernel: int = 3
    expand: int = 1
    """Of an inverted residual: hidden channels, as a multiple of those it reads."""
    squeeze: int = 1
    """Of a fire block: squeezed channels, in eighths of the width."""
    groups: int = 1
    """Of a shuffle unit: the groups of its 1 x 1 convolutions."""
    excite: bool = False
    """Whether there is squeeze and excitation."""
    bypass: bool = False
    """Of a fire block: whether its input is added where it has the shape of the output."""
    projected: bool = True
    """Of a residual block: whether a strided shortcut is a 1 x 1 convolution; if not, channels are padded."""
    after_stem: bool = False
    """Whether the stem is what it reads."""
    dropout: float = 0.0
    """Which part of the values inside it is zero in training."""


def plain(asked: Asked) -> Block:
    """One convolution; dropout follows it."""
    conv = Conv(asked.read, asked.width, asked.kernel, asked.stride)
    return Block((conv, *_excited(asked, asked.width), *_dropped(asked)), made=asked.width)


def residual(asked: Asked) -> Block:
    """Two convolutions and a shortcut (He et al. 2016, arXiv 1512.03385).

    Where the map stays and the channels do not, the shortcut pads or cuts them, so that more channels never cost less.
    Dropout is between the two (Zagoruyko & Komodakis 2016, arXiv 1605.07146, section 2.4). With linear layers it is the
    residual network for tables of Gorishniy et al. 2021 (arXiv 2106.11959, section 3.2), the norm after each layer.
    """
    first = Conv(asked.read, asked.width, asked.kernel, asked.stride)
    second = Conv(asked.width, asked.width, asked.kernel, activated=False)
    shortcut: tuple[Layer, ...] = ()
    if asked.stride > 1 and asked.projected:
        shortcut = (Conv(asked.read, asked.width, 1, asked.stride, activated=False),)
    elif asked.stride > 1 or asked.read != asked.width:
        shortcut = (Pad(asked.read, asked.width, asked.stride),)
    body = (first, *_dropped(asked), second, *_excited(asked, asked.width))
    return Block(body, (), "add", shortcut, activated=True, made=asked.width)


def separable(asked: Asked) -> Block:
    """A depthwise convolution and a 1 x 1 one (MobileNet, Howard et al. 2017, arXiv 1704.04861)."""
    depthwise = Conv(asked.read, asked.read, asked.kernel, asked.stride, asked.read)
    body = (depthwise, *_excited(asked, asked.read), *_dropped(asked), Conv(asked.read, asked.width))
    return Block(body, made=asked.width)


def mobile(asked: Asked) -> Block:
    """An inverted residual with a linear bottleneck (MobileNetV2, Sandler et al. 2018, arXiv 1801.04381)."""
    hidden = asked.read * asked.expand
    body: list[Layer] = [Conv(asked.read, hidden)] if asked.expand > 1 else []
    body += [Conv(hidden, hidden, asked.kernel, asked.stride, hidden), *_excited(asked, hidden)]
    body += [Conv(hidden, asked.width, activated=False)]
    join = "add" if asked.stride == 1 and asked.read == asked.width else "none"
    return Block(tuple(body), (), join, made=asked.width)


def fire(asked: Asked) -> Block:
    """Channels squeezed, then expanded half by 1 x 1 and half by larger kernels (Iandola et al. 2016, 1602.07360)."""
    squeezed, half = max(asked.width * asked.squeeze // 8, 1), asked.width // 2
    branches = (
        Conv(squeezed, half, 1, asked.stride),
        Conv(squeezed, asked.width - half, asked.kernel, asked.stride),
    )
    join = "add" if asked.bypass and asked.stride == 1 and asked.read == asked.width else "none"
    return Block((Conv(asked.read, squeezed),), branches, join, made=asked.width)


def shuffle(asked: Asked) -> Block:
    """A ShuffleNet unit: grouped 1 x 1, shuffle, depthwise, grouped 1 x 1 (Zhang et al. 2018, arXiv 1707.01083).

    A strided one is concatenated with its averaged input, where that leaves it channels to make. What reads the stem
    begins ungrouped, since the stem makes few channels (section 3.2).
    """
    hidden = asked.width // 4
    concat = asked.stride > 1 and asked.width > asked.read
    made = asked.width - asked.read if concat else asked.width
    body = (
        Conv(asked.read, hidden, groups=1 if asked.after_stem else asked.groups),
        Shuffle(asked.groups),
        Conv(hidden, hidden, asked.kernel, asked.stride, hidden, activated=False),
        Conv(hidden, made, groups=asked.groups, activated=False),
    )
    join = "concat" if concat else "add" if asked.stride == 1 and asked.read == asked.width else "none"
    return Block(body, (), join, (Pool(average=True),) if concat else (), activated=True, made=asked.width)


def nin(asked: Asked) -> Block:
    """A convolution and two 1 x 1 ones (Network in network, Lin et al. 2014, arXiv 1312.4400)."""
    first = Conv(asked.read, asked.width, asked.kernel, asked.stride)
    return Block((first, Conv(asked.width, asked.width), Conv(asked.width, asked.width)), made=asked.width)


def _excited(asked: Asked, channels: int) -> tuple[Layer, ...]:
    return (Excite(channels, max(channels // 4, 1)),) if asked.excite else ()


def _dropped(asked: Asked) -> tuple[Layer, ...]:
    return (Drop(asked.dropout),) if asked.dropout else ()


KINDS: dict[str, Callable[[Asked], Block]] = {
    "plain": plain,
    "residual": residual,
    "separable": separable,
    "mobile": mobile,
    "fire": fire,
    "shuffle": shuffle,
    "nin": nin,
}

USES: dict[str, frozenset[str]] = {
    "plain": frozenset({"excite", "dropout"}),
    "residual": frozenset({"excite", "dropout"}),
    "separable": frozenset({"excite", "dropout"}),
    "mobile": frozenset({"excite", "expand"}),
    "fire": frozenset({"squeeze", "bypass"}),
    "shuffle": frozenset({"groups"}),
    "nin": frozenset(),
}
"""What of `Asked` each kind heeds, beside what all do."""

OF_ROWS = ("plain", "residual")
"""The kinds that can be made of linear layers, for rows of a table: others have a depthwise convolution, or one after
the other layers that without a map do the same."""

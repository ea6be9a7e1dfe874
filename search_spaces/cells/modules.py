"""A block as a module, built from the same description that its price is computed from.

Maps are tensors [n, channels, *size], of two dimensions in an image, one in a signal, none in a row of a table.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from search_spaces.cells.block_layers import Block, Conv, Drop, Excite, Layer, Pad, Pool, Shuffle, Size

ACTIVATION_MODULES: dict[str, type[nn.Module]] = {
    "relu": nn.ReLU,
    "relu6": nn.ReLU6,
    "hardswish": nn.Hardswish,
    "silu": nn.SiLU,
}


NORMS = (nn.BatchNorm1d, nn.BatchNorm1d, nn.BatchNorm2d)
"""Of maps of no dimension, of one, of two; so below."""
MAX_POOLS = (nn.Identity, nn.MaxPool1d, nn.MaxPool2d)
AVERAGE_POOLS = (nn.Identity, nn.AvgPool1d, nn.AvgPool2d)
MEANS = (nn.Identity, nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d)


class Standardize(nn.Module):
    """What is measured in any unit, in standard deviations from its mean."""

    def __init__(self, channels: int, size: Size) -> None:
        super().__init__()
        shape = (channels, *(1 for _ in size))
        self.offset: Tensor
        self.spread: Tensor
        self.register_buffer("offset", torch.zeros(shape))
        self.register_buffer("spread", torch.ones(shape))

    def forward(self, x: Tensor) -> Tensor:
        """[n, channels, *size] -> the same."""
        return (x - self.offset) / self.spread


class Unstandardize(nn.Module):
    """Standard deviations from a mean, in the unit that the numbers had."""

    def __init__(self, numbers: int) -> None:
        super().__init__()
        self.offset: Tensor
        self.spread: Tensor
        self.register_buffer("offset", torch.zeros(numbers))
        self.register_buffer("spread", torch.ones(numbers))

    def forward(self, x: Tensor) -> Tensor:
        """[n, numbers] -> the same."""
        return x * self.spread + self.offset


class ConvNorm(nn.Module):
    """A convolution, or a linear layer where there is no map, its norm, its activation."""

    def __init__(self, conv: Conv, dims: int, norm: bool, activation: str) -> None:
        super().__init__()
        self.conv = convolution(conv, dims, bias=not norm)
        nn.init.kaiming_normal_(self.conv.weight, mode="fan_out", nonlinearity="relu")
        if self.conv.bias is not None:
            nn.init.zeros_(self.conv.bias)
        self.norm = NORMS[dims](conv.made) if norm else nn.Identity()
        self.activation = ACTIVATION_MODULES[activation]() if conv.activated else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """[n, read, *size] -> [n, made, *size']."""
        out: Tensor = self.activation(self.norm(self.conv(x)))
        return out


class SqueezeExcite(nn.Module):
    """Channels scaled by what their means say."""

    def __init__(self, excite: Excite, dims: int, activation: str) -> None:
        super().__init__()
        self.pool = MEANS[dims](1)
        self.down = convolution(Conv(excite.channels, excite.squeezed), dims, bias=True)
        self.activation = ACTIVATION_MODULES[activation]()
        self.up = convolution(Conv(excite.squeezed, excite.channels), dims, bias=True)
        self.gate = nn.Hardsigmoid()

    def forward(self, x: Tensor) -> Tensor:
        """[n, channels, *size] -> the same."""
        scaled: Tensor = x * self.gate(self.up(self.activation(self.down(self.pool(x)))))
        return scaled


class ChannelShuffle(nn.Module):
    """Channels of all groups mixed."""

    def __init__(self, groups: int) -> None:
        super().__init__()
        self.groups = groups

    def forward(self, x: Tensor) -> Tensor:
        """[n, channels, *size] -> the same: channel g * m + i of m in each group goes to i * groups + g."""
        n, channels, *size = x.shape
        x = x.reshape(n, self.groups, channels // self.groups, *size)
        return x.transpose(1, 2).reshape(n, channels, *size)


class PaddedShortcut(nn.Module):
    """Every `stride`-th place; new channels are zeros, half of them before the old ones; too many are cut."""

    def __init__(self, pad: Pad, dims: int) -> None:
        super().__init__()
        self.made = pad.made
        self.places = (slice(None), slice(None), *(slice(None, None, pad.stride) for _ in range(dims)))
        self.strided = pad.stride > 1
        before = max(pad.made - pad.read, 0) // 2
        self.padding = (*(0 for _ in range(2 * dims)), before, max(pad.made - pad.read, 0) - before)

    def forward(self, x: Tensor) -> Tensor:
        """[n, read, *size] -> [n, made, *size']."""
        if self.strided:
            x = x[self.places]
        if any(self.padding):
            return F.pad(x, self.padding)
        return x[:, : self.made]


class Cell(nn.Module):
    """One block."""

    def __init__(self, block: Block, dims: int, norm: bool, activation: str) -> None:
        """`dims`: of the map; `norm`: whether convolutions have norms, or biases."""
        super().__init__()
        self.body = nn.Sequential(*(module_of(layer, dims, norm, activation) for layer in block.body))
        self.branches = nn.ModuleList(module_of(layer, dims, norm, activation) for layer in block.branches)
        self.shortcut = nn.Sequential(*(module_of(layer, dims, norm, activation) for layer in block.shortcut))
        self.activation = ACTIVATION_MODULES[activation]() if block.activated else nn.Identity()
        self.join = block.join

    def forward(self, x: Tensor) -> Tensor:
        """[n, read, *size] -> [n, made, *size']."""
        out = self.body(x)
        if len(self.branches):
            out = torch.cat([branch(out) for branch in self.branches], dim=1)
        if self.join == "add":
            out = out + self.shortcut(x)
        elif self.join == "concat":
            out = torch.cat([self.shortcut(x), out], dim=1)
        joined: Tensor = self.activation(out)
        return joined


def convolution(conv: Conv, dims: int, bias: bool) -> nn.Linear | nn.Conv1d | nn.Conv2d:
    """The convolution over so many dimensions; over none it is a linear layer."""
    if dims == 0:
        return nn.Linear(conv.read, conv.made, bias)
    padding = conv.kernel // 2 if conv.padded else 0
    make = nn.Conv1d if dims == 1 else nn.Conv2d
    return make(conv.read, conv.made, conv.kernel, conv.stride, padding, groups=conv.groups, bias=bias)


def module_of(layer: Layer, dims: int, norm: bool, activation: str) -> nn.Module:
    """The module of one layer on a map of so many dimensions."""
    match layer:
        case Conv():
            return ConvNorm(layer, dims, norm, activation)
        case Excite():
            return SqueezeExcite(layer, dims, activation)
        case Pool():
            padding, ceil = (1, False) if layer.padded else (0, True)
            pools = AVERAGE_POOLS if layer.average else MAX_POOLS
            return pools[dims](3, 2, padding, ceil_mode=ceil)
        case Shuffle():
            return ChannelShuffle(layer.groups)
        case Pad():
            return PaddedShortcut(layer, dims)
        case Drop():
            return nn.Dropout(layer.part)

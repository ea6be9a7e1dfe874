"""A block as a module, built from the same description that its price is computed from."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from search_spaces.cells.block_layers import Block, Conv, Excite, Layer, Pad, Pool, Shuffle

ACTIVATION_MODULES: dict[str, type[nn.Module]] = {
    "relu": nn.ReLU,
    "relu6": nn.ReLU6,
    "hardswish": nn.Hardswish,
    "silu": nn.SiLU,
}


class ConvNorm(nn.Module):
    """A convolution, its norm, its activation."""

    def __init__(self, conv: Conv, norm: bool, activation: str) -> None:
        super().__init__()
        padding = conv.kernel // 2 if conv.padded else 0
        self.conv = nn.Conv2d(
            conv.read, conv.made, conv.kernel, conv.stride, padding, groups=conv.groups, bias=not norm
        )
        nn.init.kaiming_normal_(self.conv.weight, mode="fan_out", nonlinearity="relu")
        if self.conv.bias is not None:
            nn.init.zeros_(self.conv.bias)
        self.norm = nn.BatchNorm2d(conv.made) if norm else nn.Identity()
        self.activation = ACTIVATION_MODULES[activation]() if conv.activated else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """[n, read, h, w] -> [n, made, h', w']."""
        out: Tensor = self.activation(self.norm(self.conv(x)))
        return out


class SqueezeExcite(nn.Module):
    """Channels scaled by what their means say."""

    def __init__(self, excite: Excite, activation: str) -> None:
        super().__init__()
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.down = nn.Conv2d(excite.channels, excite.squeezed, 1)
        self.activation = ACTIVATION_MODULES[activation]()
        self.up = nn.Conv2d(excite.squeezed, excite.channels, 1)
        self.gate = nn.Hardsigmoid()

    def forward(self, x: Tensor) -> Tensor:
        """[n, channels, h, w] -> the same."""
        scaled: Tensor = x * self.gate(self.up(self.activation(self.down(self.pool(x)))))
        return scaled


class ChannelShuffle(nn.Module):
    """Channels of all groups mixed."""

    def __init__(self, groups: int) -> None:
        super().__init__()
        self.groups = groups

    def forward(self, x: Tensor) -> Tensor:
        """[n, channels, h, w] -> the same: channel g * m + i of m in each group goes to i * groups + g."""
        n, channels, height, width = x.shape
        x = x.reshape(n, self.groups, channels // self.groups, height, width)
        return x.transpose(1, 2).reshape(n, channels, height, width)


class PaddedShortcut(nn.Module):
    """Every `stride`-th place; new channels are zeros, half of them before the old ones; too many are cut."""

    def __init__(self, pad: Pad) -> None:
        super().__init__()
        self.stride, self.made = pad.stride, pad.made
        before = max(pad.made - pad.read, 0) // 2
        self.padding = (0, 0, 0, 0, before, max(pad.made - pad.read, 0) - before)

    def forward(self, x: Tensor) -> Tensor:
        """[n, read, h, w] -> [n, made, h', w']."""
        if self.stride > 1:
            x = x[:, :, :: self.stride, :: self.stride]
        if any(self.padding):
            return F.pad(x, self.padding)
        return x[:, : self.made]


class Cell(nn.Module):
    """One block."""

    def __init__(self, block: Block, norm: bool, activation: str) -> None:
        super().__init__()
        self.body = nn.Sequential(*(module_of(layer, norm, activation) for layer in block.body))
        self.branches = nn.ModuleList(module_of(layer, norm, activation) for layer in block.branches)
        self.shortcut = nn.Sequential(*(module_of(layer, norm, activation) for layer in block.shortcut))
        self.activation = ACTIVATION_MODULES[activation]() if block.activated else nn.Identity()
        self.join = block.join

    def forward(self, x: Tensor) -> Tensor:
        """[n, read, h, w] -> [n, made, h', w']."""
        out = self.body(x)
        if len(self.branches):
            out = torch.cat([branch(out) for branch in self.branches], dim=1)
        if self.join == "add":
            out = out + self.shortcut(x)
        elif self.join == "concat":
            out = torch.cat([self.shortcut(x), out], dim=1)
        joined: Tensor = self.activation(out)
        return joined


def module_of(layer: Layer, norm: bool, activation: str) -> nn.Module:
    """The module of one layer."""
    match layer:
        case Conv():
            return ConvNorm(layer, norm, activation)
        case Excite():
            return SqueezeExcite(layer, activation)
        case Pool():
            padding, ceil = (1, False) if layer.padded else (0, True)
            return nn.AvgPool2d(3, 2, padding, ceil) if layer.average else nn.MaxPool2d(3, 2, padding, ceil_mode=ceil)
        case Shuffle():
            return ChannelShuffle(layer.groups)
        case Pad():
            return PaddedShortcut(layer)

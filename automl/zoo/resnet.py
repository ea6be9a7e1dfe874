"""ResNets for 32x32 images and their plain counterparts (He et al. 2016, section 4.2)."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a parameter-free shortcut (option A), or none.

    Where the shape changes the shortcut takes every other pixel and pads the new channels with zeros, half of
    them before and half of them behind the old ones.
    """

    def __init__(self, in_planes: int, planes: int, stride: int, shortcut: bool) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_planes, planes, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(planes)
        self.conv2 = nn.Conv2d(planes, planes, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(planes)
        self.stride = stride
        self.padding = (planes - in_planes) // 2
        self.shortcut = shortcut

    def forward(self, x: Tensor) -> Tensor:
        """[n, in_planes, h, w] -> [n, planes, h / stride, w / stride]."""
        out = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        if not self.shortcut:
            return F.relu(out)
        if self.stride != 1 or self.padding:
            x = F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, self.padding, self.padding))
        return F.relu(out + x)


class ResNet(nn.Module):
    """A 3x3 stem, three stages of `blocks` basic blocks with 16, 32 and 64 channels, pooling, one linear layer.

    Depth is 6 * blocks + 2. With `shortcuts=False` it is the plain network of the same depth and size.
    """

    def __init__(self, blocks: int, classes: int, in_channels: int, shortcuts: bool = True) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, 16, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        self.layer1 = self._stage(16, 16, 1, blocks, shortcuts)
        self.layer2 = self._stage(16, 32, 2, blocks, shortcuts)
        self.layer3 = self._stage(32, 64, 2, blocks, shortcuts)
        self.linear = nn.Linear(64, classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                nn.init.kaiming_normal_(module.weight)

    @staticmethod
    def _stage(in_planes: int, planes: int, stride: int, blocks: int, shortcuts: bool) -> nn.Sequential:
        first = BasicBlock(in_planes, planes, stride, shortcuts)
        return nn.Sequential(first, *(BasicBlock(planes, planes, 1, shortcuts) for _ in range(blocks - 1)))

    def forward(self, x: Tensor) -> Tensor:
        """[n, in_channels, 32, 32] -> [n, classes]."""
        out = F.relu(self.bn1(self.conv1(x)))
        out = self.layer3(self.layer2(self.layer1(out)))
        logits: Tensor = self.linear(out.mean(dim=(2, 3)))
        return logits


def resnet20(classes: int = 10, in_channels: int = 3) -> ResNet:
    """ResNet-20 for 32x32: 0.27 M parameters, 40.6 M MACs (He et al. 2016, table 6)."""
    return ResNet(3, classes, in_channels)


def resnet32(classes: int = 10, in_channels: int = 3) -> ResNet:
    """ResNet-32 for 32x32: 0.46 M parameters (He et al. 2016, table 6)."""
    return ResNet(5, classes, in_channels)


def resnet44(classes: int = 10, in_channels: int = 3) -> ResNet:
    """ResNet-44 for 32x32: 0.66 M parameters (He et al. 2016, table 6)."""
    return ResNet(7, classes, in_channels)


def resnet56(classes: int = 10, in_channels: int = 3) -> ResNet:
    """ResNet-56 for 32x32: 0.85 M parameters, 125.5 M MACs (He et al. 2016, table 6)."""
    return ResNet(9, classes, in_channels)


def resnet110(classes: int = 10, in_channels: int = 3) -> ResNet:
    """ResNet-110 for 32x32: 1.7 M parameters (He et al. 2016, table 6)."""
    return ResNet(18, classes, in_channels)


def plain20(classes: int = 10, in_channels: int = 3) -> ResNet:
    """Plain-20: ResNet-20 without its shortcuts (He et al. 2016, section 4.2; searched by AMC, He et al. 2018)."""
    return ResNet(3, classes, in_channels, shortcuts=False)

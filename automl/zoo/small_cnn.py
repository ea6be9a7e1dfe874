"""A convnet that trains in seconds, for the demo and the tests."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn


class SmallCNN(nn.Module):
    """A stem, a residual block, two convolutions at half the resolution and twice the width, and a linear layer."""

    def __init__(self, classes: int, in_channels: int, width: int) -> None:
        super().__init__()
        self.stem = _conv_bn(in_channels, width)
        self.conv1 = _conv_bn(width, width)
        self.conv2 = _conv_bn(width, width)
        self.conv3 = _conv_bn(width, 2 * width, stride=2)
        self.conv4 = _conv_bn(2 * width, 2 * width)
        self.linear = nn.Linear(2 * width, classes)

    def forward(self, x: Tensor) -> Tensor:
        """[n, in_channels, h, w] -> [n, classes], for h and w of at least 2."""
        out = F.relu(self.stem(x))
        out = F.relu(out + self.conv2(F.relu(self.conv1(out))))
        out = F.relu(self.conv4(F.relu(self.conv3(out))))
        logits: Tensor = self.linear(out.mean(dim=(2, 3)))
        return logits


def _conv_bn(inputs: int, outputs: int, stride: int = 1) -> nn.Sequential:
    conv = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
    nn.init.kaiming_normal_(conv.weight)
    return nn.Sequential(conv, nn.BatchNorm2d(outputs))


def small_cnn(classes: int = 10, in_channels: int = 1, width: int = 24) -> SmallCNN:
    """A small residual convnet for small images: 42 k parameters, 1.2 M MACs on 8x8 digits with `width` 24."""
    return SmallCNN(classes, in_channels, width)

"""MobileNetV1 (Howard et al. 2017, table 1) and V2 (Sandler et al. 2018, table 2) for 32x32 images.

Widths and depths are the papers'; the first strides are 1 instead of 2, so that 32x32 input ends as 2x2 (V1) or
4x4 (V2) before global pooling.
"""

from __future__ import annotations

from torch import Tensor, nn

from automl.zoo.scaled import scaled

V1_BLOCKS = ((64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), *((512, 1),) * 5, (1024, 2), (1024, 1))
"""Output channels and stride of each depthwise-separable block."""

V2_STAGES = (
    (1, 16, 1, 1),
    (6, 24, 2, 1),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)
"""Expansion, output channels, blocks and first stride of each stage."""


def _conv_bn(
    inputs: int,
    outputs: int,
    kernel: int,
    stride: int = 1,
    groups: int = 1,
    relu: type[nn.Module] | None = None,
) -> list[nn.Module]:
    conv = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False)
    nn.init.kaiming_normal_(conv.weight, mode="fan_out")
    return [conv, nn.BatchNorm2d(outputs), *([relu()] if relu else [])]


class MobileNetV1(nn.Module):
    """A chain of depthwise-separable convolutions."""

    def __init__(self, classes: int, in_channels: int) -> None:
        super().__init__()
        layers = _conv_bn(in_channels, 32, 3, relu=nn.ReLU)
        channels = 32
        for width, stride in V1_BLOCKS:
            layers += _conv_bn(channels, channels, 3, stride, groups=channels, relu=nn.ReLU)
            layers += _conv_bn(channels, width, 1, relu=nn.ReLU)
            channels = width
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Linear(channels, classes)

    def forward(self, x: Tensor) -> Tensor:
        """[n, in_channels, 32, 32] -> [n, classes]."""
        logits: Tensor = self.classifier(self.features(x).mean(dim=(2, 3)))
        return logits


class InvertedResidual(nn.Module):
    """Expand by a 1x1, filter depthwise, project by a linear 1x1; a shortcut where the shape stays (figure 4)."""

    def __init__(self, inputs: int, outputs: int, stride: int, expansion: int) -> None:
        super().__init__()
        hidden = inputs * expansion
        layers = _conv_bn(inputs, hidden, 1, relu=nn.ReLU6) if expansion != 1 else []
        layers += _conv_bn(hidden, hidden, 3, stride, groups=hidden, relu=nn.ReLU6)
        layers += _conv_bn(hidden, outputs, 1)
        self.conv = nn.Sequential(*layers)
        self.shortcut = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        """[n, inputs, h, w] -> [n, outputs, h / stride, w / stride]."""
        out: Tensor = self.conv(x)
        return x + out if self.shortcut else out


class MobileNetV2(nn.Module):
    """A chain of inverted residuals with linear bottlenecks."""

    def __init__(self, classes: int, in_channels: int, width: float) -> None:
        super().__init__()
        channels = scaled(32, width)
        layers = _conv_bn(in_channels, channels, 3, relu=nn.ReLU6)
        for expansion, full, blocks, stride in V2_STAGES:
            made = scaled(full, width)
            for block in range(blocks):
                layers.append(InvertedResidual(channels, made, stride if block == 0 else 1, expansion))
                channels = made
        last = scaled(1280, max(width, 1.0))  # the paper's narrow networks keep their last convolution (section 6.1)
        layers += _conv_bn(channels, last, 1, relu=nn.ReLU6)
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Linear(last, classes)

    def forward(self, x: Tensor) -> Tensor:
        """[n, in_channels, 32, 32] -> [n, classes]."""
        logits: Tensor = self.classifier(self.features(x).mean(dim=(2, 3)))
        return logits


def mobilenet_v1(classes: int = 10, in_channels: int = 3) -> MobileNetV1:
    """MobileNetV1 for 32x32: 3.2 M parameters with 10 classes, 4.2 M with 1,000 (Howard et al. 2017)."""
    return MobileNetV1(classes, in_channels)


def mobilenet_v2(classes: int = 10, in_channels: int = 3, width: float = 1.0) -> MobileNetV2:
    """MobileNetV2 for 32x32: 2.2 M parameters with 10 classes, 3.5 M with 1,000 (Sandler et al. 2018).

    `width` multiplies the channels; below 1 the last convolution keeps its 1,280.
    """
    return MobileNetV2(classes, in_channels, width)

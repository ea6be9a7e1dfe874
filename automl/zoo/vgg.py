"""VGG for 32x32 images (Simonyan and Zisserman 2015, configuration D), with batch norm."""

from __future__ import annotations

from torch import Tensor, nn

from automl.zoo.scaled import scaled

STAGES = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))


class VGG(nn.Module):
    """Stages of 3x3 convolutions, each followed by 2x2 max pooling, and one linear layer.

    On 32x32 input the five poolings leave one pixel, so a single linear layer takes the place of the original's
    three (Li et al. 2017, "Pruning filters for efficient ConvNets", section 4.1, keep two).
    """

    def __init__(self, classes: int, in_channels: int, width: float) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        channels = in_channels
        for stage in STAGES:
            for made in (scaled(full, width) for full in stage):
                layers += [nn.Conv2d(channels, made, 3, padding=1), nn.BatchNorm2d(made), nn.ReLU()]
                channels = made
            layers.append(nn.MaxPool2d(2))
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Linear(channels, classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        """[n, in_channels, 32, 32] -> [n, classes]."""
        logits: Tensor = self.classifier(self.features(x).flatten(1))
        return logits


def vgg16_bn(classes: int = 10, in_channels: int = 3, width: float = 1.0) -> VGG:
    """VGG-16 with batch norm for 32x32: 14.7 M parameters, 313 M MACs (Simonyan and Zisserman 2015).

    `width` multiplies the channels of all convolutions.
    """
    return VGG(classes, in_channels, width)

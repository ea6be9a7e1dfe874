"""A U-Net that tells discs, squares and crosses from a cluttered ground, and the images that it is trained on.

    python -m experiments.shapes.unet          # trains it, and writes unet.safetensors beside this file

An image is [3, 64, 64] of smooth noise with up to five shapes of any colour, some over others; a pixel's label is 0 for
the ground or 1 to 3 for the shape, and 255, which does not count, along the edge of each shape.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional as F

from automl.training.loss import SupervisedLoss
from automl.training.trainer import TrainingOptions, train

SIDE, VOID, CLASSES, BATCH = 64, 255, 4, 16
WEIGHTS = Path(__file__).with_name("unet.safetensors")


class Twice(nn.Sequential):
    """Two convolutions of 3 x 3, each with batch norm and ReLU."""

    def __init__(self, read: int, made: int) -> None:
        layers: list[nn.Module] = []
        for width in (read, made):
            layers += [nn.Conv2d(width, made, 3, padding=1, bias=False), nn.BatchNorm2d(made), nn.ReLU()]
        super().__init__(*layers)


class UNet(nn.Module):
    """The network of Ronneberger et al. 2015 (arXiv 1505.04597), padded, narrower, three levels deep."""

    def __init__(self, widths: Sequence[int] = (16, 32, 64, 128), classes: int = CLASSES) -> None:
        super().__init__()
        self.down = nn.ModuleList(Twice(*pair) for pair in zip((3, *widths[:-2]), widths[:-1], strict=True))
        self.bottom = Twice(*widths[-2:])
        pairs = list(zip(widths[:0:-1], widths[-2::-1], strict=True))
        self.widen = nn.ModuleList(nn.ConvTranspose2d(below, here, 2, stride=2) for below, here in pairs)
        self.up = nn.ModuleList(Twice(2 * here, here) for _, here in pairs)
        self.head = nn.Conv2d(widths[0], classes, 1)

    def forward(self, x: Tensor) -> Tensor:
        """[n, 3, h, w] to class scores [n, classes, h, w]; h and w are multiples of 8."""
        skips = []
        for block in self.down:
            x = block(x)
            skips.append(x)
            x = F.max_pool2d(x, 2)
        x = self.bottom(x)
        for widen, block, skip in zip(self.widen, self.up, reversed(skips), strict=True):
            x = block(torch.cat([skip, widen(x)], 1))
        return self.head(x)


def unet() -> nn.Module:
    """The trained network."""
    network = UNet()
    network.load_state_dict(load_file(WEIGHTS))
    return network.eval()


def shapes(train: int = 2048, validation: int = 512, test: int = 1024) -> dict[str, Any]:
    """Batches of images [n, 3, 64, 64] and labels [n, 64, 64]; those of the three parts differ."""
    parts = {"train": train, "validation": validation, "test": test}
    return {name: batches(count, seed) for seed, (name, count) in enumerate(parts.items())}


def batches(count: int, seed: int) -> list[tuple[Tensor, Tensor]]:
    """`count` images drawn by `seed`, with their labels."""
    generator = torch.Generator().manual_seed(seed)
    drawn = [_drawn(generator) for _ in range(count)]
    images, labels = (torch.stack(part) for part in zip(*drawn, strict=True))
    return list(zip(images.split(BATCH), labels.split(BATCH), strict=True))


def _drawn(generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """One image and its labels."""

    def uniform(low: float, high: float, *size: int) -> Tensor:
        return low + (high - low) * torch.rand(size or (1,), generator=generator)

    coarse = torch.randn(1, 3, 8, 8, generator=generator)
    image = F.interpolate(coarse, (SIDE, SIDE), mode="bilinear")[0] + 0.3 * torch.randn(
        3, SIDE, SIDE, generator=generator
    )
    label = torch.zeros(SIDE, SIDE, dtype=torch.long)
    rows, columns = torch.meshgrid(torch.arange(SIDE), torch.arange(SIDE), indexing="ij")
    for _ in range(int(torch.randint(1, 6, (), generator=generator))):
        kind = int(torch.randint(1, CLASSES, (), generator=generator))
        radius, y, x, angle = (float(uniform(*bounds)) for bounds in ((5, 13), (8, 56), (8, 56), (0, 1.57)))
        turn = torch.tensor(angle)
        across = (rows - y) * turn.cos() + (columns - x) * turn.sin()
        along = (columns - x) * turn.cos() - (rows - y) * turn.sin()
        distance = _distance(kind, across.abs(), along.abs()) - radius
        image = torch.where(distance < 0, uniform(-1.5, 1.5, 3, 1, 1) + 0.3 * image, image)
        label[distance < 0] = kind
        label[distance.abs() < 0.7] = VOID
    return image, label


def _distance(kind: int, across: Tensor, along: Tensor) -> Tensor:
    """How far each pixel is from the middle of a disc, a square or a cross, in units of its size."""
    if kind == 1:
        return (across.square() + along.square()).sqrt()
    if kind == 2:
        return torch.maximum(across, along) / 0.9
    return torch.minimum(torch.maximum(across, 3 * along), torch.maximum(3 * across, along))


def main() -> None:
    """Train the network and write its weights."""
    torch.manual_seed(0)
    network, images = UNet(), [((x,), y) for x, y in batches(2048, seed=9)]
    loss = SupervisedLoss(nn.CrossEntropyLoss(ignore_index=VOID))
    options = TrainingOptions(epochs=6, optimizer="adamw", learning_rate=3e-3, weight_decay=1e-2)
    train(network, lambda seed: images, loss, options, say=print)
    save_file(network.state_dict(), WEIGHTS)


if __name__ == "__main__":
    main()

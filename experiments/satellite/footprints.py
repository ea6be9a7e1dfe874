"""A U-Net that finds the footprints of buildings, and the tiles of made-up ground that it is trained on.

    python -m experiments.satellite.footprints          # trains it, and writes footprints.safetensors beside this file

A tile is [3, 128, 128], cut from a block of 0.5, 0.75 or 1 m a pixel; a pixel's label is 1 in a building and else 0.
Labels that are trained on are as people's are: each building lies up to a pixel or two off, and one in twenty-five is
missing. Those that networks are judged by are exact.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from automl.config.training import TrainingOptions
from automl.training.loss import SupervisedLoss
from automl.training.trainer import train
from experiments.satellite.ground import KINDS, Ground, block
from experiments.shapes.unet import UNet

SIDE, BATCH, TILES = 128, 8, 4
"""Pixels along a tile, tiles a batch, and tiles cut from a block."""
METRES = (0.5, 0.75, 1.0)
SHARES = (0.2, 0.3, 0.35, 0.15)
"""Of the kinds of block, richer in buildings than a scene."""
MISSING, OFF = 0.04, 0.7
"""Labels that are trained on: the part of the buildings that is missing, and the standard deviation in pixels of how
far others are off along each axis."""
WEIGHTS = Path(__file__).with_name("footprints.safetensors")
TRAINING = TrainingOptions(epochs=6, batch_size=BATCH, optimizer="adamw", learning_rate=3e-3, weight_decay=1e-2)


def new_unet() -> UNet:
    """[n, 3, h, w], from -1 to 1, to scores of ground and building [n, 2, h, w]; with random weights."""
    return UNet((24, 48, 96, 192), classes=2)


def unet() -> nn.Module:
    """The trained network."""
    network = new_unet()
    network.load_state_dict(load_file(WEIGHTS))
    return network.eval()


def scaled(picture: np.ndarray) -> np.ndarray:
    """A picture [h, w, 3] uint8 as the network reads it: [3, h, w] float32 from -1 to 1."""
    return np.ascontiguousarray(picture.transpose(2, 0, 1), dtype=np.float32) / 127.5 - 1


def tiles(count: int, seed: int, noisy: bool = False) -> list[tuple[Tensor, Tensor]]:
    """Batches of `count` tiles [n, 3, 128, 128] with labels [n, 128, 128], noisy as those to be trained on or exact."""
    rng = np.random.default_rng([seed, 0])
    pictures, labels = [], []
    for number in range(-(-count // TILES)):
        drawn = block([seed, 1, number], METRES[number % 3], 2 * SIDE, str(rng.choice(KINDS, p=SHARES)))
        label = (mislabelled(drawn, rng) if noisy else drawn.buildings > 0).astype(np.int64)
        picture = scaled(drawn.picture)
        for part in np.ndindex(2, 2):
            at = tuple(slice(SIDE * i, SIDE * (i + 1)) for i in part)
            pictures.append(torch.from_numpy(picture[:, *at].copy()))
            labels.append(torch.from_numpy(label[at].copy()))
    order = torch.from_numpy(rng.permutation(len(pictures))[:count])
    images, targets = (torch.stack(part)[order] for part in (pictures, labels))
    return list(zip(images.split(BATCH), targets.split(BATCH), strict=True))


def mislabelled(drawn: Ground, rng: np.random.Generator) -> np.ndarray:
    """Where somebody in a hurry says that buildings are: [side, side] bool."""
    label = np.zeros(drawn.buildings.shape, dtype=bool)
    for number in range(1, drawn.buildings.max() + 1):
        off = np.rint(rng.normal(0, OFF, 2)).astype(int)
        if rng.random() >= MISSING:
            label |= np.roll(drawn.buildings == number, tuple(off), (0, 1))
    return label


def training_tiles() -> list[tuple[Tensor, Tensor]]:
    """What the network is trained on."""
    return tiles(640, seed=1, noisy=True)


def main() -> None:
    """Train the network and write its weights."""
    torch.manual_seed(0)
    network, data = new_unet(), [((x,), y) for x, y in training_tiles()]
    train(network, lambda seed: data, SupervisedLoss(nn.CrossEntropyLoss()), TRAINING, say=print)
    save_file(network.state_dict(), WEIGHTS)


if __name__ == "__main__":
    main()

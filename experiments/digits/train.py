"""Trains `small_cnn` on scikit-learn's digits and writes its weights. Half a minute on one CPU core.

    python experiments/digits/train.py

The study beside this file judges candidates on images this network has never seen: training leaves out the
validation images, which for one split seed contain those of every smaller validation subset. Nothing is
selected on the test images; their accuracy is printed once, at the end.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import nn

from automl import data, zoo
from automl.tasks.batches import Batch

VALIDATION_SIZE = 400
CALIBRATION_SIZE = 256
SPLIT_SEED = 0


def train(seed: int, epochs: int, width: int) -> tuple[nn.Module, data.Splits]:
    """SGD with Nesterov momentum, a one-cycle schedule and images shifted by up to a pixel."""
    torch.manual_seed(seed)
    splits = data.load(
        "digits", validation_size=VALIDATION_SIZE, calibration_size=CALIBRATION_SIZE, split_seed=SPLIT_SEED
    )
    model = zoo.create("small_cnn", width=width).train()
    steps = epochs * len(splits.train.batches(64))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, nesterov=True, weight_decay=5e-4)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=0.1, total_steps=steps)
    generator = torch.Generator().manual_seed(seed)
    for _ in range(epochs):
        order = torch.randperm(len(splits.train), generator=generator)
        for (images,), labels in splits.train.augmented(64, order, generator):
            optimizer.zero_grad()
            F.cross_entropy(model(images), labels).backward()
            optimizer.step()
            schedule.step()
    return model.eval(), splits


@torch.no_grad()
def accuracy(model: nn.Module, batches: list[Batch]) -> float:
    right = sum(int((model(*inputs).argmax(1) == labels).sum()) for inputs, labels in batches)
    return right / sum(len(labels) for _, labels in batches)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--epochs", type=int, default=40)
    parser.add_argument("--width", type=int, default=24)
    parser.add_argument("--out", type=Path, default=Path(__file__).with_name("small_cnn.safetensors"))
    options = parser.parse_args()
    torch.set_num_threads(1)  # the sums, and so the weights, then do not depend on the machine's core count
    model, splits = train(options.seed, options.epochs, options.width)
    save_file(model.state_dict(), options.out)
    print(f"validation {accuracy(model, splits.validation):.2%}, test {accuracy(model, splits.test()):.2%}")


if __name__ == "__main__":
    main()

"""Images per second of the trainer against a plain PyTorch loop, on the same network and data, in one run.

    python experiments/recovery/speed.py --data-root DIR --weights resnet20-cifar10.safetensors --keep 0.7 --rounds 5

Both train a ResNet-20 for CIFAR-10 with the same SGD, schedule and augmentation, in rounds that take turns. The plain
loop is what one writes first: float32 tensors in the order PyTorch makes them, a Dataset of single images cropped and
flipped one at a time, a DataLoader without processes of its own, an optimizer and a scheduler. Between the two stand
both parts of the difference alone: the plain loop fed with the trainer's batches, and the trainer in float32. The time
to choose the trainer's form, and to compile the network, is told apart: it is paid once a training.
"""

from __future__ import annotations

import argparse
import copy
import json
import statistics
import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from itertools import islice
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset

from automl import data, zoo
from automl.config.training import TrainingOptions
from automl.data import ImageSet, Splits
from automl.measures import count_macs
from automl.measures.backends.device import cpu_name
from automl.tasks.batches import Batch
from automl.training.loss import SupervisedLoss
from automl.training.trainer import settle, train
from search_spaces import channel_space

BATCH = 128
RATE = TrainingOptions.learning_rate
LOSS = SupervisedLoss(F.cross_entropy)


class SingleImages(Dataset):
    """Images augmented one at a time, as transforms do it."""

    def __init__(self, images: ImageSet) -> None:
        self.images = images
        self.mean = torch.tensor(images.mean)[:, None, None]
        self.std = torch.tensor(images.std)[:, None, None]

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, i: int) -> tuple[Tensor, Tensor]:
        image = (self.images.images[i].float() / 255 - self.mean) / self.std
        shift, (_, height, width) = self.images.shift, image.shape
        top, left = torch.randint(2 * shift + 1, (2,)).tolist()
        image = F.pad(image, (shift,) * 4)[:, top : top + height, left : left + width]
        return image.flip(2) if torch.rand(()) < 0.5 else image, self.images.labels[i]


def plain_loop(network: nn.Module, batches: Iterable[tuple[Tensor, Tensor]], steps: int) -> None:
    """The loop of the tutorials."""
    optimizer = torch.optim.SGD(network.parameters(), lr=RATE, momentum=0.9, nesterov=True, weight_decay=5e-4)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    network.train()
    for images, labels in islice(batches, steps):
        optimizer.zero_grad()
        loss = F.cross_entropy(network(images), labels)
        loss.backward()
        optimizer.step()
        scheduler.step()
        loss.item()


def contenders(network: nn.Module, splits: Splits, steps: int) -> dict[str, Callable[[], float]]:
    """Name -> a round of `steps` steps on a fresh copy of the network, which gives their seconds."""
    loader = DataLoader(SingleImages(splits.train), BATCH, shuffle=True)
    options = TrainingOptions(epochs=1, batch_size=BATCH, device="cpu")
    start = time.perf_counter()
    chosen = settle(network, lambda seed: splits.training(seed, BATCH), options)
    print(f"the trainer chose {chosen.precision}, channels last {chosen.channels_last}, in "
          f"{time.perf_counter() - start:.1f} s", flush=True)  # fmt: skip
    exact = TrainingOptions(epochs=1, batch_size=BATCH, device="cpu", precision="float32", channels_last=True)

    def batches(seed: int) -> list[Batch]:
        return list(islice(splits.training(seed, BATCH), steps))

    def plain(batches: Iterable[tuple[Tensor, Tensor]]) -> float:
        start = time.perf_counter()
        plain_loop(copy.deepcopy(network), batches, steps)
        return time.perf_counter() - start

    def trained(options: TrainingOptions) -> float:
        history = train(copy.deepcopy(network), batches, LOSS, replace(options, epochs=1 + options.compile))
        if options.compile:  # in the first epoch
            print(f"  compiled in {history.epochs[0].wall_s - history.epochs[1].wall_s:.1f} s", flush=True)
        return history.epochs[-1].wall_s

    return {
        "plain loop": lambda: plain(loader),
        "plain loop, the trainer's batches": lambda: plain((x, labels) for (x,), labels in splits.training(0, BATCH)),
        "trainer, float32": lambda: trained(exact),
        "trainer": lambda: trained(chosen),
        "trainer, compiled": lambda: trained(replace(chosen, compile=True)),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data-root", help="folder with the published files of CIFAR-10")
    parser.add_argument("--weights", help="safetensors file of a ResNet-20")
    parser.add_argument("--keep", type=float, default=1.0, help="fraction of every group's channels that stays")
    parser.add_argument("--steps", type=int, default=20, help="steps of a round")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, help="JSON file for the rounds")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    splits = data.load("cifar10", root=options.data_root, validation_size=2000, calibration_size=256)
    network = zoo.load_model("resnet20", {}, options.weights)
    inputs = (torch.zeros(2, 3, 32, 32),)
    space = channel_space(network, inputs)
    wanted = [min(knob.levels, key=lambda level: abs(level / knob.size - options.keep)) for knob in space.knobs]
    small = space.build(space.plan(space.point(wanted)))
    share = count_macs(small, inputs) / count_macs(network, inputs)
    print(f"ResNet-20 at {share:.0%} of its MACs, batches of {BATCH}, {options.threads} threads, {cpu_name()}")
    rounds: dict[str, list[float]] = {}
    runs = contenders(small, splits, options.steps)
    for turn in range(options.rounds + 1):
        for name, run in runs.items():
            seconds = run()
            if turn:  # the first round allocates
                rounds.setdefault(name, []).append(options.steps * BATCH / seconds)
    base = rounds["plain loop"]
    for name, speeds in rounds.items():
        ratios = [speed / other for speed, other in zip(speeds, base, strict=True)]
        spread = f"{min(ratios):.2f} to {max(ratios):.2f} over {len(ratios)} rounds"
        speed, ratio = statistics.median(speeds), statistics.median(ratios)
        print(f"{name:36} {speed:7.0f} images/s, {ratio:.2f} times the plain loop ({spread})")
    if options.out:
        options.out.write_text(json.dumps({"images_per_s": rounds, "macs_share": share, "cpu": cpu_name()}, indent=1))


if __name__ == "__main__":
    main()

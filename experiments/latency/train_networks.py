"""Train the networks of the latency experiments for which nobody publishes weights, on CIFAR-10.

python -m experiments.latency.train_networks DATA OUT
    [--only vgg16_bn mobilenet_v2] [--width 0.5] [--epochs N] [--until EPOCH]

Both at half width or another, with the program's own trainer: SGD under one cycle, images shifted and mirrored.
OUT/NAME.safetensors are the weights after the last epoch, never the best by test images; a killed training goes on from
OUT/NAME.checkpoint.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
from safetensors.torch import save_file

from automl.config.training import TrainingOptions
from automl.data import load
from automl.training.loss import SupervisedLoss
from automl.training.trainer import train
from automl.zoo import create
from experiments.training.run import accuracy

OPTIONS = {
    "vgg16_bn": TrainingOptions(epochs=4, learning_rate=0.05, schedule="one_cycle", warmup=0.25),
    "mobilenet_v2": TrainingOptions(epochs=2, learning_rate=0.1, schedule="one_cycle", warmup=0.25),
}


def main() -> None:
    """Train what has no weights yet, and print the test accuracy of each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data")
    parser.add_argument("out", type=Path)
    parser.add_argument("--only", nargs="*", choices=OPTIONS, default=list(OPTIONS))
    parser.add_argument("--width", type=float, default=0.5, help="of the published one")
    parser.add_argument("--epochs", type=int, help="in the place of the usual number")
    parser.add_argument("--until", type=int, help="stop after this epoch, to go on later")
    args = parser.parse_args()
    torch.set_num_threads(1)
    args.out.mkdir(parents=True, exist_ok=True)
    splits = load("cifar10", root=args.data, validation_size=1000, calibration_size=512)
    for name in args.only:
        torch.manual_seed(0)
        network = create(name, width=args.width)
        options = replace(OPTIONS[name], epochs=args.epochs or OPTIONS[name].epochs)
        history = train(
            network,
            partial(splits.training, batch_size=options.batch_size),
            SupervisedLoss(torch.nn.functional.cross_entropy),
            options,
            validate=lambda trained: {"accuracy": accuracy(trained, splits.validation)},
            checkpoint=args.out / f"{name}.checkpoint",
            until=args.until,
            say=lambda line: print(line, flush=True),
        )
        if len(history.epochs) == options.epochs:
            save_file(network.state_dict(), args.out / f"{name}.safetensors")
            minutes = history.wall_s / 60
            print(f"{name}: test accuracy {accuracy(network, splits.test()):.2%} after {minutes:.0f} min", flush=True)


if __name__ == "__main__":
    main()

"""How losses are joined, on digits in seconds: `python -m experiments.dynamic.toy`.

A ResNet-8 from new weights for 3 epochs of 1,200 images, four seeds; accuracy on the other 597. It is a toy, and says
which way of joining the losses is worth trying on more.
"""

from __future__ import annotations

from statistics import mean, stdev
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from automl.config.training import TrainingOptions
from automl.dynamic.multi_exit import ExitsLoss, multi_exit
from automl.dynamic.slimmable import slimmable
from automl.dynamic.thresholds import answers
from automl.dynamic.width_loss import WidthLoss
from automl.tasks.classification import Classification
from automl.training.loss import SupervisedLoss
from automl.training.trainer import train
from automl.zoo.resnet import ResNet
from tests.kits.digits import accuracy, held_out, train_batches

X = (torch.zeros(2, 1, 8, 8),)
SLIM: dict[str, dict[str, Any]] = {
    "slimmable, mean, distilled late": {"distil_from": 0.5},
    "slimmable, even, distilled late": {"distil_from": 0.5, "even": True},
    "slimmable, mean, labels": {},
    "slimmable, even, labels": {"even": True},
}
EXITS = {"exits, mean of losses": (1 / 3, 1 / 3, 1 / 3), "exits, sum of losses": (1.0, 1.0, 1.0)}


def main() -> None:
    """Print a row an arm: mean and standard deviation of each size."""
    torch.set_num_threads(1)
    for arm in ("alone", *EXITS, *SLIM):
        sizes = zip(*(trained(arm, seed) for seed in range(4)), strict=True)
        print(f"| {arm} | {' | '.join(f'{mean(one):.1f} ± {stdev(one):.1f}' for one in sizes)} |", flush=True)


def trained(arm: str, seed: int) -> list[float]:
    """The accuracy of each size of a network, in percent."""
    torch.manual_seed(seed)
    options = TrainingOptions(
        epochs=3,
        learning_rate=0.1,
        schedule="one_cycle",
        warmup=0.3,
        precision="float32",
        channels_last=True,
        seed=seed,
    )
    network: nn.Module = ResNet(1, 10, 1)
    if arm == "alone":
        train(network, train_batches, SupervisedLoss(F.cross_entropy), options)
        return [100 * accuracy(network)]
    if arm in EXITS:
        early = multi_exit(network, X, 2, hidden=64)
        train(early, train_batches, ExitsLoss(F.cross_entropy, EXITS[arm]), options)
        return [100 * float(right.double().mean()) for right in answers(early, held_out()).right]
    slim = slimmable(network, X)
    loss = WidthLoss(F.cross_entropy, Classification.softened, **SLIM[arm])
    train(slim, train_batches, loss, options, methods=[loss.method])
    return [100 * accuracy(slim.plain(width)) for width in slim.widths]


if __name__ == "__main__":
    main()

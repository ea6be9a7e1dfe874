"""What a cut costs after training with penalties on channels: `python -m experiments.training.group_penalties`.

A perceptron of two hidden layers on scikit-learn's digits, trained with each penalty; then the channels of least energy
of the whole network go (global greedy, OICSR) until so many multiply-accumulates are left, and nothing is trained. The
strength of each penalty is that with the best validation accuracy, the mean over all cuts and none, of a seed of its
own. A minute or two of one core.
"""

from __future__ import annotations

import argparse
import copy
from collections.abc import Callable
from functools import partial
from statistics import mean, stdev

import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn import functional as F

from automl.config.training import TrainingOptions
from automl.study.greedy import energies, global_greedy
from automl.tasks.batches import Batch
from automl.training.loss import SupervisedLoss
from automl.training.methods.base import Method
from automl.training.methods.coupled import CoupledChannels
from automl.training.methods.group_lasso import OutInGroupLasso
from automl.training.methods.growl import OrderedGroupLasso, norms_of
from automl.training.trainer import train
from search_spaces import NetworkSpace, channel_space

LEFT = (1.0, 0.5, 0.3, 0.1)
"""Of the multiply-accumulates."""
SEEDS, CHOOSING = (0, 1, 2), 9
OPTIONS = TrainingOptions(
    epochs=30, learning_rate=0.05, warmup=0.0, weight_decay=0.0, precision="float32", channels_last=False, device="cpu"
)
Data = tuple[Tensor, Tensor]


class ProducerLasso(OutInGroupLasso):
    """The group lasso of the weights that make a channel, without those that read it."""

    def __init__(self, space: NetworkSpace, strength: float) -> None:
        super().__init__(space, strength)
        self.channels = CoupledChannels(space, roles=("out",))


PENALTIES: dict[str, tuple[Callable[[NetworkSpace, float], Method] | None, tuple[float, ...]]] = {
    "none": (None, (0.0,)),
    "group lasso, makers alone": (ProducerLasso, (1e-3, 3e-3, 1e-2, 3e-2)),
    "OICSR, makers and readers": (OutInGroupLasso, (1e-3, 3e-3, 1e-2, 3e-2)),
    "GrOWL, tying 0": (partial(OrderedGroupLasso, tying=0.0), (1e-3, 3e-3, 1e-2, 3e-2)),
    "GrOWL, tying 1": (OrderedGroupLasso, (1e-3, 3e-3, 1e-2, 3e-2)),
    "GrOWL, tying 10": (partial(OrderedGroupLasso, tying=10.0), (3e-4, 1e-3, 3e-3, 1e-2)),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=PENALTIES, default=list(PENALTIES), metavar="PENALTY")
    args = parser.parse_args()
    torch.set_num_threads(1)
    seen, validation, test = parts()
    print(
        "| penalty | strength | "
        + " | ".join(f"{1 - left:.0%} gone" for left in LEFT)
        + " | channels of zeros | of a norm that others have |\n| --- |"
        + " --- |" * (len(LEFT) + 3)
    )
    for name in args.only:
        make, strengths = PENALTIES[name]
        worths = {s: mean(accuracies(*trained(make, s, CHOOSING, seen), validation)) for s in strengths}
        best = max(worths, key=worths.__getitem__)
        found = [trained(make, best, seed, seen) for seed in SEEDS]
        rows = zip(*(accuracies(*one, test) for one in found), strict=True)
        cells = [f"{100 * mean(row):.1f} ± {100 * stdev(row):.1f}" for row in rows]
        zeros, tied = (mean(counts) for counts in zip(*(alike(*one) for one in found), strict=True))
        print(f"| {name} | {best:g} | {' | '.join(cells)} | {zeros:.0f} | {tied:.0f} |", flush=True)


def parts() -> tuple[Data, Data, Data]:
    """Digits in [0, 1], [n, 64], and labels: 1,000 to learn from, 300 to choose by, 497 to test."""
    data = load_digits()
    order = torch.randperm(len(data.target), generator=torch.Generator().manual_seed(0))
    x, y = torch.as_tensor(data.images, dtype=torch.float32).flatten(1)[order] / 16, torch.as_tensor(data.target)[order]
    return (x[:1000], y[:1000]), (x[1000:1300], y[1000:1300]), (x[1300:], y[1300:])


def trained(
    make: Callable[[NetworkSpace, float], Method] | None, strength: float, seed: int, seen: Data
) -> tuple[NetworkSpace, nn.Module]:
    """A network trained from new weights, and its space of channels."""
    torch.manual_seed(seed)
    first = nn.Sequential(nn.Linear(64, 100), nn.ReLU(), nn.Linear(100, 100), nn.ReLU(), nn.Linear(100, 10))
    space = channel_space(first, (seen[0][:2],), min_keep=0.01)
    network = copy.deepcopy(space.original)
    methods = [make(space, strength)] if make is not None else []
    train(network, batches_of(seen, seed), SupervisedLoss(F.cross_entropy), OPTIONS, methods=methods)
    return space, network


def batches_of(seen: Data, seed: int) -> Callable[[int], list[Batch]]:
    """Epoch -> its batches of 50."""

    def batches(epoch: int) -> list[Batch]:
        order = torch.randperm(len(seen[0]), generator=torch.Generator().manual_seed(100 * seed + epoch))
        return [((seen[0][part],), seen[1][part]) for part in order.split(50)]

    return batches


def accuracies(space: NetworkSpace, network: nn.Module, data: Data) -> list[float]:
    """Of the network cut to each of `LEFT`."""
    whole = space.narrowed(network, space.plan(space.point(space.highest.tolist())))
    scores, macs = energies(whole), space.cost_of_levels(space.highest, "macs")
    plans = [whole.plan(global_greedy(whole, scores, {"macs": left * macs}), scores) for left in LEFT]
    return [accuracy(whole.build(plan), data) for plan in plans]


@torch.no_grad()
def accuracy(network: nn.Module, data: Data) -> float:
    return float((network.eval()(data[0]).argmax(1) == data[1]).float().mean())


def alike(space: NetworkSpace, network: nn.Module) -> tuple[int, int]:
    """How many channels nothing reads, and how many others have a norm that another of their layer has too."""
    zeros, tied = 0, 0
    for norms in norms_of(space, network).values():
        zeros += int((norms == 0).sum())
        left = np.sort(norms[norms > 0])
        close = np.diff(left) < 1e-4 * left[-1] if len(left) else np.zeros(0, dtype=bool)
        tied += int((np.append(close, False) | np.append(False, close)).sum())
    return zeros, tied


if __name__ == "__main__":
    main()

"""One network of many sizes beside separate networks: `python -m experiments.dynamic.run --data-root DIR`.

ResNet-20 on CIFAR-10, every network trained from new weights along one schedule: slimmable with four widths and its
widths trained separately; with exits, and smaller networks of fixed depth. Thresholds are chosen on 5,000 images held
out of training; test images are looked at once a network, after its last epoch. Each network is a line in `rows.jsonl`;
what stands there is skipped, and a training that was killed goes on from its last epoch. `--table` prints the tables.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from automl.config.training import TrainingOptions
from automl.data import Splits, load
from automl.dynamic.multi_exit import ExitsLoss, MultiExit, multi_exit
from automl.dynamic.slimmable import Slimmable, slimmable
from automl.dynamic.thresholds import answers, curve, dominated, fixed, leaving, outcome, thresholds_for
from automl.dynamic.width_loss import WidthLoss
from automl.measures import count_macs
from automl.tasks.batches import Batch
from automl.tasks.classification import Classification
from automl.training.loss import Loss, SupervisedLoss
from automl.training.methods.base import Method
from automl.training.trainer import train
from automl.zoo.resnet import ResNet
from experiments.row_file import add_row, rows_of

HERE = Path(__file__).parent
WIDTHS = (0.25, 0.5, 0.75, 1.0)
X = (torch.zeros(2, 3, 32, 32),)
Row = dict[str, Any]


def main() -> None:
    """Train what is not there yet, and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data-root")
    parser.add_argument("--arms", nargs="+", choices=ARMS, default=list(ARMS))
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--samples", type=int)
    parser.add_argument("--precision", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--rows", type=Path, default=HERE / "rows.jsonl")
    parser.add_argument("--checkpoints", type=Path, default=HERE / "checkpoints")
    parser.add_argument("--table", action="store_true")
    args = parser.parse_args()
    torch.set_num_threads(1)
    rows: list[Row] = rows_of(args.rows)
    known = {(row["arm"], row["seed"]) for row in rows}
    left = [(arm, seed) for seed in args.seeds for arm in args.arms if (arm, seed) not in known]
    if left and not args.table:
        splits = load("cifar10", root=args.data_root, validation_size=5000, calibration_size=2000)
        test = splits.test()
        for arm, seed in left:
            options = TrainingOptions(
                epochs=args.epochs,
                samples=args.samples,
                learning_rate=0.1,
                schedule="one_cycle",
                warmup=0.3,
                precision=args.precision,
                channels_last=True,
                device="cpu",
                seed=seed,
            )
            rows.append(trained(arm, seed, splits, test, options, args.checkpoints))
            add_row(args.rows, rows[-1])
            print(arm, seed, f"{rows[-1]['seconds']:.0f} s", flush=True)
    print(tables(rows))


def trained(arm: str, seed: int, splits: Splits, test: list[Batch], options: TrainingOptions, folder: Path) -> Row:
    """One training, and what came of it."""
    torch.manual_seed(seed)
    network, loss, methods = ARMS[arm]()
    start = time.process_time()
    history = train(
        network,
        lambda epoch: splits.training(epoch, options.batch_size),
        loss,
        options,
        methods=methods,
        checkpoint=folder / f"{arm}-{seed}.pt",
        say=lambda line: print(f"{arm}: {line}", flush=True),
    )
    row = {"arm": arm, "seed": seed, "epochs": options.epochs, "seconds": time.process_time() - start}
    torch.save(network.state_dict(), folder / f"{arm}-{seed}.weights.pt")
    if isinstance(network, MultiExit):
        return row | {"loss": history.epochs[-1].loss} | of_exits(network, splits, test)
    if isinstance(network, Slimmable):
        if network.norms == "shared":
            network.recalibrate(splits.recalibration(seed))
        return row | {"widths": {str(width): of_plain(network.plain(width), test) for width in network.widths}}
    return row | of_plain(network, test)


@torch.no_grad()
def of_plain(network: nn.Module, test: list[Batch]) -> Row:
    """Multiply-accumulates of a network and the part of the test images that it classifies right."""
    right = sum(int((network.eval()(*inputs).argmax(1) == targets).sum()) for inputs, targets in test)
    return {"macs": count_macs(network, X), "right": right / sum(len(targets) for _, targets in test)}


def of_exits(network: MultiExit, splits: Splits, test: list[Batch]) -> Row:
    """The curve of a network with exits, each exit alone, and which images leave early at two thirds of the cost."""
    costs = network.costs(*X)
    alone = [count_macs(network.until(k), X) for k in range(network.exits)]
    held, said = answers(network, splits.validation), answers(network, test)
    by_rule = {rule: curve(held, said, costs, points=13, rule=rule) for rule in ("geometric", "searched")}
    course = [one for found in by_rule.values() for one in found]
    middle = outcome(said, costs, thresholds_for(held.confidence, costs, 2 / 3 * costs[-1]))
    exits = leaving(said.confidence, middle.thresholds)
    labels = torch.cat([targets for _, targets in test])
    return {
        "costs": list(costs),
        "curves": {rule: [asdict(one) for one in found] for rule, found in by_rule.items()},
        "fixed": [asdict(one) | {"dominated": dominated(one, course)} for one in fixed(said, alone)],
        "middle": asdict(middle),
        "early_by_class": [float((exits[labels == c] == 0).double().mean()) for c in range(10)],
        "easy": said.confidence[0].masked_fill(exits != 0, 0).topk(10).indices.tolist(),
        "hard": said.confidence[-1].masked_fill(exits != network.exits - 1, 2).topk(10, largest=False).indices.tolist(),
    }


Made = tuple[nn.Module, Loss, list[Method]]


def new(width: float, blocks: int = 3) -> nn.Module:
    """A plain network of a width with weights of its own."""
    network = slimmable(ResNet(blocks, 10, 3), X, (width,)).plain(width)
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            nn.init.kaiming_normal_(module.weight)
    return network


def plain(width: float, blocks: int = 3) -> Made:
    """A network by itself, learning from labels."""
    return new(width, blocks), SupervisedLoss(F.cross_entropy), []


def slim(norms: str = "private", **options: Any) -> Made:
    """A slimmable network."""
    loss: Any = WidthLoss(F.cross_entropy, Classification.softened, **options)
    return slimmable(ResNet(3, 10, 3), X, WIDTHS, norms=norms), loss, [loss.method]


def with_exits(hidden: int, weights: tuple[float, ...] | None = None) -> Made:
    """A network with exits at about 36 % and 68 % of its cost."""
    return multi_exit(ResNet(3, 10, 3), X, 2, hidden=hidden), ExitsLoss(F.cross_entropy, weights), []


ARMS: dict[str, Callable[[], Made]] = {
    **{f"separate {width:g}": (lambda width=width: plain(width)) for width in reversed(WIDTHS)},
    "slimmable, distilled late": lambda: slim(distil_from=0.5),
    "slimmable, even": lambda: slim(distil_from=0.5, even=True),
    "exits": lambda: with_exits(64),
    "exits, mean of losses": lambda: with_exits(64, (1 / 3, 1 / 3, 1 / 3)),
    "resnet14": lambda: plain(1.0, 2),
    "resnet8": lambda: plain(1.0, 1),
    "slimmable, labels": slim,
    "slimmable, one norm": lambda: slim("shared", distil_from=0.5),
    "exits, linear": lambda: with_exits(0),
}
"""Network -> how it is made: the network, what it is trained with, methods."""


def tables(rows: list[Row]) -> str:
    """What is there, for people."""
    lines = []
    alone = {row["arm"]: row for row in rows if "right" in row}
    slims = [row for row in rows if "widths" in row]
    lines += ["| width | MACs | separate | " + " | ".join(row["arm"] for row in slims) + " |"]
    lines += ["| --- " * (3 + len(slims)) + "|"]
    for width in WIDTHS:
        own = alone.get(f"separate {width:g}")
        cells = [row["widths"][str(width)] for row in slims]
        macs = next((one["macs"] for one in (own, *cells) if one), 0)
        shown = [f"{one['right']:.2%}" if one else "-" for one in (own, *cells)]
        lines.append(f"| {width:g} | {macs / 1e6:.2f} M | {' | '.join(shown)} |")
    for row in (row for row in rows if "curves" in row):
        for rule, course in row["curves"].items():
            heading = "| mean MACs | worst | test | leave at each exit |"
            lines += ["", f"{row['arm']}: thresholds, {rule}", "", heading, "| --- " * 4 + "|"]
            for one in course:
                shares = " / ".join(f"{share:.0%}" for share in one["shares"])
                macs = " | ".join(f"{one[cost] / 1e6:.2f} M" for cost in ("mean_cost", "worst_cost"))
                lines.append(f"| {macs} | {one['right']:.2%} | {shares} |")
        lines += ["", "| fixed exit | MACs | test | dominated by the curve |", "| --- " * 4 + "|"]
        for k, one in enumerate(row["fixed"]):
            lines.append(f"| {k + 1} | {one['mean_cost'] / 1e6:.2f} M | {one['right']:.2%} | {one['dominated']} |")
    lines += ["", "| network | MACs | test | seconds |", "| --- " * 4 + "|"]
    for name, row in sorted(alone.items(), key=lambda item: item[1]["macs"]):
        lines.append(f"| {name} | {row['macs'] / 1e6:.2f} M | {row['right']:.2%} | {row['seconds']:.0f} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()

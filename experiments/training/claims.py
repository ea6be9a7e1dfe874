"""What papers on sparse training claim, on a LeNet-300-100: `python -m experiments.training.claims --data-root DIR`.

Fashion-MNIST, 20,000 of 55,000 images an epoch, every arm of a claim for as many epochs; a line a network in
`claims.jsonl`, and what stands there is not trained again. `--table` prints the tables and draws `claims.png`. The
claims are numbered as in the list of methods that the project keeps; 16 and 13 are in `claims_learnt.py`:

1 prune and tune in rounds beats one cut; 2 thresholds of q standard deviations, retrained, remove 11 of 12 weights
without loss (Han et al. 2015); 3 with its weights back where they began a ticket learns what its mask with new weights
does not (Frankle & Carbin 2019); 4 the signs are enough, and a mask alone learns (Zhou et al. 2019; Ramanujan et al.
2020); 5 the structure trained from nothing is as good as what was left of the network (Liu et al. 2019); 6 after a cut
the learning rate begins anew (Renda et al. 2020; Le & Hua 2021; Zimmer et al. 2023); 13 learnt units are the same
however wide the network is at first (Guenter & Sideris 2022); 16 a mask that is learnt beside the weights is better
than pruning (Tang et al. 2022); 20 CrAM+ prepares one network for many cuts (Peste et al. 2023); 41 a class that a
student never saw is learnt from the teacher; 42 an ensemble teaches more than one network (Hinton et al. 2015).
"""

from __future__ import annotations

import argparse
import copy
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from automl.config.training import DistillationOptions
from automl.data import load
from automl.tasks.batches import Batch
from automl.tasks.classification import Classification
from automl.training.distillation import Distillation
from automl.training.methods.cram import CompressionAware
from automl.training.methods.keep_zeros import KeepZeros
from automl.training.own_teachers import Ensemble
from automl.training.teacher import Teacher
from experiments.row_file import add_row, rows_of
from experiments.training.claims_bench import WEIGHTS, Bench, Row, lenet, made_by, masked, target
from experiments.training.claims_learnt import connectivity, units
from experiments.training.claims_shown import drawn, tables
from experiments.training.run import PLAIN, accuracy

ROWS = Path(__file__).with_name("claims.jsonl")


def rounds(bench: Bench, seed: int) -> Iterator[Row]:
    """1: twelve epochs after one cut, and in six rounds of two, by the same schedules."""
    for density in (0.05, 0.02):
        for arm, n in (("one cut", 1), ("six rounds", 6)):
            network = copy.deepcopy(bench.trained(seed))
            yield arm, density, bench.fit(network, seed, 12, [made_by("iterative", target(density), rounds=n)])


def thresholds(bench: Bench, seed: int) -> Iterator[Row]:
    """2: weights below q standard deviations of those that are left go, half of that in the last layer; three epochs
    each; and the dense network for as many."""
    sparse, dense = (copy.deepcopy(bench.trained(seed)) for _ in range(2))
    size = sum(dense.get_parameter(name).numel() for name in WEIGHTS)
    for q in (0.6, 0.8, 0.95, 1.05):
        with torch.no_grad():
            for name in WEIGHTS:
                weight = sparse.get_parameter(name)
                least = (q / 2 if name == WEIGHTS[-1] else q) * weight[weight != 0].std()
                weight.masked_fill_(weight.abs() < least, 0)
        times = size / sum(int(sparse.get_parameter(name).count_nonzero()) for name in WEIGHTS)
        yield "pruned", times, bench.fit(sparse, seed, 3, [KeepZeros(WEIGHTS)], learning_rate=0.005)
        yield "dense, as long", times, bench.fit(dense, seed, 3, learning_rate=0.005)


def tickets(bench: Bench, seed: int) -> Iterator[Row]:
    """3 and 4: rounds of two epochs, after each of which a fifth goes and weights go back; then what else the mask can
    be filled with, for two epochs too."""
    start, other = lenet(seed), lenet(1000 + seed)

    def signs(weight: Tensor) -> Tensor:
        return weight.sign() * weight.std()

    def shuffled(weight: Tensor) -> Tensor:
        drawn = torch.rand(weight.shape, generator=torch.Generator().manual_seed(seed))
        return torch.where(drawn < 0.5, -1.0, 1.0) * weight.std()

    for pruned, density in ((4, 0.41), (8, 0.17), (12, 0.07)):
        wanted, ticket = target(density), copy.deepcopy(start)
        method = made_by("iterative", wanted, rounds=pruned + 1, rewind="weights", first="train")
        yield "ticket", density, bench.fit(ticket, seed, 2 * (pruned + 1), [method])
        fillings = {
            "new weights": masked(other, ticket),
            "its signs alone": masked(start, ticket, signs),
            "random signs": masked(start, ticket, shuffled),
        }
        for arm, network in fillings.items():
            yield arm, density, bench.fit(network, seed, 2, [KeepZeros(WEIGHTS)])
        yield "ticket, not trained", density, accuracy(masked(start, ticket), bench.test)


def supermasks(bench: Bench, seed: int) -> Iterator[Row]:
    """4: no weight of a new network is trained, and which pass is learnt for eight epochs; from the signs alone too."""
    for density in (0.5, 0.3, 0.1):
        for arm, of in (("random weights", None), ("their signs alone", lambda w: w.sign() * w.std())):
            network = lenet(seed)
            with torch.no_grad():
                for name in WEIGHTS:
                    weight = nn.init.kaiming_normal_(network.get_parameter(name))
                    weight.copy_(weight if of is None else of(weight))
            for bias in (p for p in network.parameters() if p.ndim == 1):
                bias.requires_grad_(False)
            yield arm, density, bench.fit(network, seed, 8, [made_by("supermask", target(density), scores="random")])


def scratch(bench: Bench, seed: int) -> Iterator[Row]:
    """5: a half and a quarter of the channels by their norms, tuned for four epochs; and the same widths from nothing,
    for the eight that the dense network had (E) and for as many multiply-accumulates (B)."""
    dense = bench.trained(seed)
    whole = sum(dense.get_parameter(name).numel() for name in WEIGHTS)
    for part in (0.5, 0.25):
        widths = round(300 * part), round(100 * part)
        small = narrowed(dense, *widths)
        macs = sum(small.get_parameter(name).numel() for name in WEIGHTS)
        yield "pruned and tuned", part, bench.fit(small, seed, 4)
        yield "scratch E", part, bench.fit(lenet(seed, *widths), seed, 8)
        yield "scratch B", part, bench.fit(lenet(seed, *widths), seed, round(8 * whole / macs))


def narrowed(network: nn.Module, wide: int, narrow: int) -> nn.Module:
    """The units of the largest norms of a network's two hidden layers."""
    small, kept = lenet(0, wide, narrow), torch.arange(784)
    with torch.no_grad():
        for place, n in ((1, wide), (3, narrow), (5, 10)):
            layer = network[place]
            units = layer.weight[:, kept].norm(dim=1).topk(n).indices.sort().values if n != 10 else torch.arange(10)
            small[place].weight.copy_(layer.weight[units][:, kept])
            small[place].bias.copy_(layer.bias[units])
            kept = units
    return small


def schedules(bench: Bench, seed: int) -> Iterator[Row]:
    """6: one cut, and as many epochs by different rates; the dense network was trained for eight along a line."""
    most = PLAIN.learning_rate
    kinds: dict[str, dict[str, Any]] = {
        "fine-tuning, the last rate": {"schedule": "constant", "learning_rate": most / 16},
        "rewound rate": {"schedule": "linear", "learning_rate": most / 2},
        "SLR": {"schedule": "linear", "warmup": 0.1},
        "LLR": {"schedule": "linear"},
    }
    for epochs in (1, 4):
        for arm, changes in kinds.items():
            network = copy.deepcopy(bench.trained(seed))
            cut = made_by("iterative", target(0.05), rounds=1)
            yield arm, epochs, bench.fit(network, seed, epochs, [cut], **changes)


class Ready(CompressionAware):
    """CrAM+ that hands the network over as it is, to be cut later."""

    def end(self, network: nn.Module) -> None:
        """Nothing goes yet."""


def cuts(bench: Bench, seed: int) -> Iterator[Row]:
    """20: one training for all cuts, of as many passes; the weights that are largest in their layers stay, untuned."""
    ready = lenet(seed)
    bench.fit(ready, seed, 4, [Ready(target(0.05), ends=1.0, radius=0.05, plus=True, shares=(0.6, 0.8, 1.0))])
    for arm, network in (("SGD", bench.trained(seed)), ("CrAM+", ready)):
        for density in (1.0, 0.5, 0.3, 0.2, 0.1, 0.05):
            pruned = copy.deepcopy(network)
            target(density).largest(pruned).hold_weights(pruned)
            yield arm, density, accuracy(pruned, bench.test)


NEVER_SEEN = 3


def missing_class(bench: Bench, seed: int) -> Iterator[Row]:
    """41: the student sees no dress; a bias is then shifted so that dresses are as frequent among the validation
    images' classes as they are."""
    teacher = bench.trained(seed)
    for arm, loss in (("from labels", None), ("from the teacher", taught(teacher, weight=1.0, temperature=8.0))):
        student = lenet(100 + seed)
        bench.fit(student, seed, 8, loss=loss, without=NEVER_SEEN)
        yield arm, 0, of_class(student, bench.test, NEVER_SEEN)
        with torch.no_grad():
            scores = torch.cat([student(*inputs) for inputs, _ in bench.splits.validation])
            lead = scores[:, [c for c in range(10) if c != NEVER_SEEN]].amax(1) - scores[:, NEVER_SEEN]
            student[-1].bias[NEVER_SEEN] += lead.quantile(0.1)
        yield f"{arm}, bias shifted", 0, of_class(student, bench.test, NEVER_SEEN)
        yield f"{arm}, bias shifted, all classes", 0, accuracy(student, bench.test)


@torch.inference_mode()
def of_class(network: nn.Module, batches: Sequence[Batch], wanted: int) -> float:
    """The part of the images of a class that is classified right."""
    pairs = [(network(*inputs).argmax(1) == labels, labels == wanted) for inputs, labels in batches]
    return sum(int((right & ours).sum()) for right, ours in pairs) / sum(int(ours.sum()) for _, ours in pairs)


def taught(teacher: nn.Module, weight: float, temperature: float) -> Distillation:
    """The loss of a student."""
    options = DistillationOptions(weight=weight, temperature=temperature)

    def soft(outputs: Tensor, reference: Tensor) -> Tensor:
        return Classification.softened(outputs, reference, temperature)

    return Distillation(Teacher(teacher), F.cross_entropy, soft, options)


def ensembles(bench: Bench, seed: int) -> Iterator[Row]:
    """42: five networks, and a student of a fifth of the size that learns from labels, from one, and from all."""
    five = [bench.trained(10 * seed + i) for i in range(5)]
    together = Ensemble(five, 4.0)
    yield "one teacher itself", 0, accuracy(five[0], bench.test)
    yield "five together", 0, accuracy(together, bench.test)
    losses = {"labels": None, "one teacher": taught(five[0], 0.9, 4.0), "five teachers": taught(together, 0.9, 4.0)}
    for arm, loss in losses.items():
        yield f"student of {arm}", 0, bench.fit(lenet(100 + seed, 60, 30), seed, 8, loss=loss)


CLAIMS: dict[str, Callable[[Bench, int], Iterator[Row]]] = {
    "1": rounds,
    "2": thresholds,
    "3": tickets,
    "4": supermasks,
    "5": scratch,
    "6": schedules,
    "13": units,
    "16": connectivity,
    "20": cuts,
    "41": missing_class,
    "42": ensembles,
}


def main() -> None:
    """Train what is not there yet, print the tables and draw the picture."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data-root")
    parser.add_argument("--claims", nargs="+", choices=CLAIMS, default=list(CLAIMS))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--rows", type=Path, default=ROWS)
    parser.add_argument("--table", action="store_true")
    args = parser.parse_args()
    torch.set_num_threads(1)
    rows = rows_of(args.rows)
    left = [(c, s) for s in args.seeds for c in args.claims if (c, s) not in {(r["claim"], r["seed"]) for r in rows}]
    if left and not args.table:
        sizes = {"validation_size": 5000, "calibration_size": 100}
        bench = Bench(load("fashion_mnist", root=args.data_root, augment=False, **sizes))
        for claim, seed in left:
            found = [
                {"claim": claim, "seed": seed, "arm": arm, "at": at, "value": value}
                for arm, at, value in CLAIMS[claim](bench, seed)
            ]
            for row in found:  # a claim is there with all its arms, or not at all
                add_row(args.rows, row)
                print(row, flush=True)
            rows += found
    print(tables(rows))
    drawn(rows, args.rows.with_suffix(".png"))


if __name__ == "__main__":
    main()

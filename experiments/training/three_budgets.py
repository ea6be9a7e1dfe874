"""Three budgets at once, as a microcontroller sets them: peak memory, bytes and multiply-accumulates, met by training.

python -m experiments.training.three_budgets --data-root DATA [--table]

A residual network of six layers on Fashion-MNIST at 14 x 14 pixels; budgets as parts of what it costs. Both learners of
the agent `gates` train a copy for 600 steps, with the same rates for all budgets. What they come to is projected,
built, counted and tuned beside the uniform network and the allocated one of the same budgets. `uniform, longer` is
tuned for the steps of the learners too. A row a network in `three_budgets.jsonl`; what is there is not made again.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cache
from itertools import islice
from pathlib import Path
from statistics import mean

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import agents
from agents import Goal
from agents.gates import GatesOptions
from automl.config.training import TrainingOptions
from automl.data import Splits, load
from automl.evaluation import Evaluator
from automl.study.learnt_widths import gates_of
from automl.tasks.batches import Batch
from automl.tasks.problem import Problem
from automl.training.loss import SupervisedLoss
from automl.training.methods.base import Method
from automl.training.methods.expected_cost import ExpectedCost
from automl.training.trainer import train
from experiments.row_file import Row, mean_of, run_grid
from experiments.training.run import accuracy
from search_spaces import NetworkSpace, OfSheet, Point, channel_space
from search_spaces.pricing.metrics import PEAK
from search_spaces.pricing.peak import peak_memory

ROWS = Path(__file__).with_name("three_budgets.jsonl")
BUDGETS = {
    "memory": {PEAK: 0.5, "size_bytes": 0.5, "macs": 0.5},
    "all": {PEAK: 0.55, "size_bytes": 0.25, "macs": 0.2},
}
"""Of what the original costs; the names say what is scarce."""
LEARNERS = ("ranked", "hard_concrete")
RULES = (*LEARNERS, "uniform", "allocation", "uniform, longer")
STEPS = 100
"""Of an epoch."""
PLAIN = TrainingOptions(epochs=3, batch_size=64, learning_rate=0.02, precision="float32", device="cpu")


class Small(nn.Module):
    """A stem at half the resolution, a residual block, and two convolutions at a quarter: 0.4 M MACs."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.one, self.two = conv(1, 16, 2), conv(16, 16), conv(16, 16)
        self.three, self.four, self.linear = conv(16, 32, 2), conv(32, 32), nn.Linear(32, 10)

    def forward(self, x: Tensor) -> Tensor:
        """[n, 1, 14, 14] -> [n, 10]."""
        out = self.stem(x).relu()
        out = (out + self.two(self.one(out).relu())).relu()
        logits: Tensor = self.linear(self.four(self.three(out).relu()).relu().mean(dim=(2, 3)))
        return logits


def conv(inputs: int, outputs: int, stride: int = 1) -> nn.Sequential:
    """3 x 3, with a norm."""
    return nn.Sequential(nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False), nn.BatchNorm2d(outputs))


def halved(batch: Batch) -> Batch:
    """Images at half the resolution."""
    (images,), labels = batch
    return (F.avg_pool2d(images, 2),), labels


class Bench:
    """The data, and a trained network with its space for each seed."""

    def __init__(self, splits: Splits) -> None:
        self._splits = splits
        self.validation, self.test = list(map(halved, splits.validation)), list(map(halved, splits.test()))

    def training(self, epoch: int) -> Iterator[Batch]:
        """The batches of an epoch."""
        return map(halved, islice(self._splits.training(epoch, PLAIN.batch_size), STEPS))

    def fit(
        self, network: nn.Module, seed: int, epochs: int, rate: float = 0.02, methods: Sequence[Method] = ()
    ) -> None:
        """Train in place, `STEPS` steps an epoch."""
        options = replace(PLAIN, epochs=epochs, learning_rate=rate, seed=seed)
        train(network, self.training, SupervisedLoss(F.cross_entropy), options, methods=list(methods))

    @cache  # noqa: B019  # there is one bench
    def space(self, seed: int) -> tuple[Problem, NetworkSpace]:
        """A network trained for 15 epochs, and its widths, with the price of peak memory."""
        torch.manual_seed(seed)
        network = Small()
        self.fit(network, seed, 15, 0.1)
        calibration = list(islice(self.training(0), 16))
        problem = Problem(network, calibration, self.validation, name="fashion_mnist")
        space = channel_space(problem.model, problem.example_inputs)
        space.add_cost(PEAK, OfSheet(peak_memory(space.basis.analysis, space.basis.terms, problem.example_inputs)))
        return problem, space

    def row(self, seed: int, budget: str, rule: str) -> Row:
        """What one rule's network costs, of each limit, and is worth on the test images before tuning and after."""
        problem, space = self.space(seed)
        limits = {metric: share * space.original_cost(metric) for metric, share in BUDGETS[budget].items()}
        evaluator = Evaluator(problem, space, limits=limits, threads=1)
        start = time.process_time()
        point, more = self.chosen(rule, seed, space, evaluator)
        seconds = time.process_time() - start
        network = evaluator.network(point)
        counted = {m.metric: m.value for m in evaluator.certify(network)}
        row = {"seed": seed, "budget": budget, "rule": rule, "s": round(seconds, 1), **more}
        row |= {f"used_{metric}": counted[metric] / limit for metric, limit in limits.items()}
        row |= {"widths": list(point.values()), "refitted": accuracy(network, self.test)}
        self.fit(network, seed, 3 + (GatesOptions().steps // STEPS if rule == "uniform, longer" else 0))
        return row | {"tuned": accuracy(network, self.test), "original": accuracy(problem.model, self.test)}

    def chosen(self, rule: str, seed: int, space: NetworkSpace, evaluator: Evaluator) -> tuple[Point, Row]:
        """The Point of a rule, and of a learner how far each cost was over its limit before projection."""
        more: Row = {}
        learnt = None
        if rule in LEARNERS:
            options, cost = GatesOptions(learner=rule), ExpectedCost(space, evaluator.limits)
            method = gates_of(space, cost, options, PLAIN.weight_decay)
            self.fit(copy.deepcopy(space.original), seed, options.steps // STEPS, methods=[method])
            widths = method.widths()
            learnt = {knob.name: widths[knob.name] / knob.size for knob in space.knobs}
            opened = np.array([max(widths[knob.name], knob.levels[0]) for knob in space.knobs])
            more["over"] = dict(zip(cost.metrics, cost.over(opened).tolist(), strict=True))
        name = "gates" if rule in LEARNERS else rule.partition(",")[0]
        agent = agents.create(
            name,
            space=space,
            goal=Goal("accuracy", "maximize"),
            limits=evaluator.limits,
            seed=seed,
            trials=1,
            sensitivity=evaluator.sensitivity() if agents.uses_sensitivity(name) else None,
            learnt=learnt,
        )
        return agent.ask(1, [])[0], more


def fashion(data_root: str | None) -> Bench:
    """What rows are made on."""
    return Bench(load("fashion_mnist", root=data_root, validation_size=2000, calibration_size=100, augment=False))


def main() -> None:
    """Make what is not there yet, and print the tables."""
    run_grid(
        __doc__,
        ROWS,
        ("seed", "budget", "rule"),
        lambda seeds: [(seed, budget, rule) for seed in seeds for budget in BUDGETS for rule in RULES],
        lambda data_root: fashion(data_root).row,
        tables,
    )


def tables(rows: Sequence[Row]) -> str:
    """Test accuracy in percent, refitted and tuned, and how near the learners came to the limits by themselves."""
    lines = ["| | " + " | ".join(f"{b}, refitted | {b}, tuned" for b in BUDGETS) + " | s |"]
    lines.append("| --- |" + " --- |" * (2 * len(BUDGETS) + 1))
    for rule in RULES:
        own = [row for row in rows if row["rule"] == rule]
        columns = [(budget, kind) for budget in BUDGETS for kind in ("refitted", "tuned")]
        cells = [mean_of([100 * row[kind] for row in own if row["budget"] == b]) for b, kind in columns]
        lines.append(f"| {rule} | " + " | ".join(cells) + f" | {mean(row['s'] for row in own):.0f} |")
    used = [row[key] for row in rows for key in row if key.startswith("used_")]
    lines += ["", f"the most of a limit that a network takes: {max(used):.2%}", ""]
    for rule in LEARNERS:
        tightest = [max(row["over"].values()) for row in rows if row["rule"] == rule]
        apart = mean(map(abs, tightest))
        lines.append(f"{rule}: {apart:.2%} of the original from the tightest limit, {max(tightest):+.2%} at most")
    return "\n".join(lines)


if __name__ == "__main__":
    main()

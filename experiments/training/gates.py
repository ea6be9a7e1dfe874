"""How near gates come to budgets that nobody has tuned them for, and what the widths that they find are worth.

python -m experiments.training.gates --out experiments/training/gates.jsonl [--budgets 20] [--steps 600]

A ResNet-8 on scikit-learn's digits; budgets drawn between 20 and 80 % of one of the costs that the space prices, with
the same rates for all. Each network is built, counted, and trained for some epochs beside the uniform and the allocated
one of the same budget. A row a budget.
"""

from __future__ import annotations

import argparse
import copy
import json
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.nn import functional as F

import agents
from agents import Goal
from agents.gates import GatesOptions
from automl.config.training import TrainingOptions
from automl.evaluation import Evaluator
from automl.study.learnt_widths import gates_of
from automl.tasks.batches import Batch
from automl.tasks.problem import Problem
from automl.training.loss import SupervisedLoss
from automl.training.methods.base import Method
from automl.training.methods.expected_cost import ExpectedCost
from automl.training.trainer import train
from automl.zoo.resnet import ResNet
from search_spaces import NetworkSpace, OfSheet, channel_space
from search_spaces.pricing.metrics import PEAK
from search_spaces.pricing.peak import peak_memory

COSTS = ("macs", "params", "size_bytes", PEAK)
RULES = ("gates", "uniform", "allocation")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--budgets", type=int, default=20)
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--epochs", type=int, default=5, help="of training the networks that were found")
    args = parser.parse_args()
    torch.set_num_threads(1)
    problem = trained_problem()
    space = channel_space(problem.model, problem.example_inputs)
    space.add_cost(PEAK, OfSheet(peak_memory(space.basis.analysis, space.basis.terms, problem.example_inputs)))
    rng = np.random.default_rng(0)
    drawn = [(COSTS[i % len(COSTS)], float(rng.uniform(0.2, 0.8))) for i in range(args.budgets)]
    done = len(args.out.read_text(encoding="utf-8").splitlines()) if args.out.exists() else 0
    for metric, share in drawn[done:]:
        limits = {metric: share * space.original_cost(metric)}
        row = {"metric": metric, "share": share, **one(problem, space, limits, args.steps, args.epochs)}
        with args.out.open("a", encoding="utf-8") as file:
            print(json.dumps(row), file=file)
        print(json.dumps(row), flush=True)
    print(summary([json.loads(line) for line in args.out.read_text(encoding="utf-8").splitlines()]))


def trained_problem() -> Problem:
    """A ResNet-8 that has learnt 1,200 of the digits, and the other 597."""
    torch.manual_seed(0)
    network = ResNet(1, 10, 1)
    fitted(network, epochs=10, rate=0.05)
    return Problem(network, batches(0)[:8], [digits(slice(1200, None))], name="digits")


def digits(part: slice) -> Batch:
    """Images about 0, [n, 1, 8, 8], and labels, of a fixed random order."""
    data = load_digits()
    order = torch.randperm(len(data.target), generator=torch.Generator().manual_seed(0))[part]
    return (torch.as_tensor(data.images, dtype=torch.float32)[order, None] / 8 - 1,), torch.as_tensor(data.target)[
        order
    ]


def batches(seed: int) -> list[Batch]:
    """The training images in batches of 32, shuffled."""
    (x,), y = digits(slice(1200))
    return [((x[i],), y[i]) for i in torch.randperm(1200, generator=torch.Generator().manual_seed(seed)).split(32)]


def fitted(network: nn.Module, epochs: int, rate: float, methods: Sequence[Method] = ()) -> None:
    """Train in place by cross-entropy."""
    options = TrainingOptions(epochs=epochs, learning_rate=rate, precision="float32", channels_last=False)
    train(network, batches, SupervisedLoss(F.cross_entropy, 0.0), options, methods=methods)


def one(problem: Problem, space: NetworkSpace, limits: dict[str, float], steps: int, epochs: int) -> dict[str, float]:
    """What gates come to under one limit, and what their network and its rivals are worth."""
    (metric,) = limits
    whole, defaults = space.original_cost(metric), GatesOptions()
    gates = gates_of(space, ExpectedCost(space, limits), defaults, TrainingOptions().weight_decay)
    fitted(copy.deepcopy(space.original), math.ceil(steps / len(batches(0))), 0.02, [gates])
    widths = gates.widths()
    opened = np.array([max(widths[knob.name], knob.levels[0]) for knob in space.knobs])
    row = {"open": space.cost_of_levels(opened, metric) / whole}
    evaluator = Evaluator(problem, space, limits=limits, threads=1)
    arguments = {"space": space, "goal": Goal("accuracy", "maximize"), "limits": limits, "seed": 0, "trials": 1}
    for rule in RULES:
        learnt = {knob.name: widths[knob.name] / knob.size for knob in space.knobs} if rule == "gates" else None
        curves = evaluator.sensitivity() if agents.uses_sensitivity(rule) else None
        agent = agents.create(rule, sensitivity=curves, learnt=learnt, **arguments)
        network = evaluator.network(agent.ask(1, [])[0])
        counted = {m.metric: m.value for m in evaluator.certify(network)}[metric]
        row |= {f"cost_{rule}": counted / whole, f"refitted_{rule}": accuracy(network)}
        fitted(network, epochs, 0.02)
        row[f"trained_{rule}"] = accuracy(network)
    return row


@torch.inference_mode()
def accuracy(network: nn.Module) -> float:
    """On the digits that were held out."""
    inputs, targets = digits(slice(1200, None))
    return float((network(*inputs).argmax(1) == targets).float().mean())


def summary(rows: list[dict[str, float]]) -> str:
    """How far the widths that gates chose were from the budgets, and what each rule's networks are worth."""
    apart = np.abs([row["open"] - row["share"] for row in rows])
    unused = np.array([row["share"] - row["cost_gates"] for row in rows])
    lines = [
        f"{len(rows)} budgets: what gates leave open costs {apart.mean():.2%} of the original more or less than asked, "
        f"{apart.max():.2%} at most; within 2 % of it in {np.mean(apart <= 0.02):.0%}",
        f"the networks as built and counted: {unused.mean():.2%} of the original unused, {unused.min():.2%} at least",
    ]
    for kind in ("refitted", "trained"):
        values = {rule: np.mean([row[f"{kind}_{rule}"] for row in rows]) for rule in RULES}
        lines.append(f"{kind}: " + ", ".join(f"{rule} {value:.2%}" for rule, value in values.items()))
    return "\n".join(lines)


if __name__ == "__main__":
    main()

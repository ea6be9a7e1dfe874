"""Batch norms while a network is tuned that is nearly as good as its original: statistics of batches, or those it has.

    python -m experiments.training.norms STUDY.yaml --data-root DATA --rows ROWS.jsonl [--set KEY=VALUE ...]
        [--norms batch fixed] [--rates 0.001 0.01] [--optimizer sgd adamw] [--clip NORM] [--epochs 1] [--samples N]

The network is the allocation of the study, fitted layer by layer. A row for it as it is, one for it with statistics of
20 augmented batches in the place of its own, no weight changed, and one for each training by distillation: on the
validation images, whose labels the original has seen in its own training, and on all 10,000 test images.
"""

from __future__ import annotations

import argparse
import copy
import json
import time
from itertools import islice, product
from pathlib import Path
from typing import Any

import torch
from torch import nn

from agents.allocation import Allocator
from automl.config.training import DistillationOptions, TrainingOptions
from automl.errors import NotFiniteError
from automl.evaluation import Evaluator
from automl.study.setup import Setup
from experiments.joint.draws import changed
from search_spaces import Point

BATCHES = 20
ARM = ("optimizer", "clip", "epochs", "samples")
"""The settings that all arms of a run have, besides."""


def main() -> None:
    """Fit the network, train a copy of it for each arm, and write a row for each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("study", type=Path)
    parser.add_argument("--data-root", required=True)
    parser.add_argument("--rows", type=Path, required=True)
    parser.add_argument("--set", nargs="*", default=[], metavar="KEY=VALUE")
    parser.add_argument("--norms", nargs="+", default=["batch", "fixed"], choices=["batch", "fixed"])
    parser.add_argument("--rates", type=float, nargs="+", default=[0.0003, 0.001, 0.003, 0.01])
    parser.add_argument("--optimizer", choices=["sgd", "adamw"], default="sgd")
    parser.add_argument("--clip", type=float)
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--samples", type=int)
    args = parser.parse_args()
    torch.set_num_threads(1)
    config = changed(args.study, [*args.set, f"data.root={args.data_root}"])
    setup = Setup(config)
    space, evaluator = setup.space, setup.evaluator
    evaluator.prepare()
    point = Allocator(space, setup.limits, evaluator.sensitivity()).plain()
    finisher = evaluator.reporting("sequential")
    start, test = finisher.network(point), setup.problem.read_test()

    def write(arm: dict[str, Any], network: nn.Module | None) -> None:
        judged = (("", setup.problem.validation), ("test ", test)) if network is not None else ()
        told = [(name, finisher.measure(network, of)) for name, of in judged]
        worth = {name + m.metric: m.value for name, all_of in told for m in all_of}
        row = {"study": args.study.name, "set": args.set, **arm, **worth}
        with args.rows.open("a") as file:
            print(json.dumps(row), file=file)
        print(row, flush=True)

    write({"arm": "as fitted"}, start)
    passed = copy.deepcopy(start).train()
    assert setup.problem.training is not None
    with torch.no_grad():
        for inputs, _ in islice(setup.problem.training(0, 128), BATCHES):
            passed(*inputs)
    write({"arm": f"statistics of {BATCHES} batches"}, passed.eval())
    for norms, rate in product(args.norms, args.rates):
        arm = {"arm": norms, "learning_rate": rate, **{name: getattr(args, name) for name in ARM}}
        began = time.process_time()
        try:
            network = trained(finisher, start, point, norms, rate, args)
        except NotFiniteError as error:
            write({**arm, "diverged": str(error)}, None)
        else:
            write({**arm, "seconds": round(time.process_time() - began)}, network)


def trained(
    finisher: Evaluator, start: nn.Module, point: Point, norms: Any, rate: float, args: argparse.Namespace
) -> nn.Module:
    """A copy of the network after its training."""
    options = TrainingOptions(
        epochs=args.epochs,
        samples=args.samples,
        optimizer=args.optimizer,
        weight_decay=5e-4 if args.optimizer == "sgd" else 0.0,
        clip=args.clip,
        norms=norms,
        learning_rate=rate,
        distillation=DistillationOptions(),
        precision="bfloat16",
        channels_last=True,
    )
    network = copy.deepcopy(start)
    finisher.train(network, point, options)
    return network


if __name__ == "__main__":
    main()

"""Codebooks beside integers that are entropy coded, and beside the recipe of Deep Compression, nothing trained.

    python -m experiments.joint.codebooks --data-root DATA --weights WEIGHTS.safetensors [--network resnet20]
        --budgets 110 90 [--lines shared coded pruned alike recipe] [--formats shared3 coded2.5] [--out FILE.jsonl]

`shared` and `coded`: the formats of each layer allocated by the error curves within a budget in KB, foretold, fitted
layer after layer. `pruned`: single weights and codebooks, the same. `alike`: every layer in one format. `recipe`: of
every layer the share of largest weights, clustered by k-means from centroids evenly between the least and the
largest, entropy coded (Han et al. 2016, "Deep Compression", without its training between and after); batch norms re-
estimated in a second line. Bytes are those of the packed file.
"""

from __future__ import annotations

import argparse
import copy
import time
from pathlib import Path

from agents.allocation import Allocator
from automl.fit.recalibration import recalibrate
from experiments.joint.one_network import Lines, setup_of
from search_spaces import OPERATORS, Code, CodeStep, Plan, Sparsity, SparsityStep
from search_spaces.settled import settle_coded

SPACES = {
    "shared": {"code": {"formats": ["shared1", "shared2", "shared3", "shared4", "shared5"]}},
    "coded": {"code": {"formats": ["coded1.25", "coded1.5", "coded1.75", "coded2", "coded2.5", "coded4"]}},
    "pruned": {"sparsity": {"min_keep": 0.2}, "code": {"formats": ["shared2", "shared3", "shared4", "shared5"]}},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data-root", required=True)
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--network", default="resnet20")
    parser.add_argument("--budgets", nargs="*", type=float, default=[])
    parser.add_argument("--lines", nargs="+", default=["shared", "coded", "pruned", "alike", "recipe"])
    parser.add_argument("--formats", nargs="+", default=["shared3", "coded2.5"])
    parser.add_argument("--densities", nargs="+", type=float, default=[1.0, 0.6, 0.4])
    parser.add_argument("--recipe-bits", nargs="+", type=int, default=[3, 4, 5])
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    lines = Lines(arguments.out)
    for line in arguments.lines:
        if line in ("alike", "recipe"):
            (alike if line == "alike" else recipe)(arguments, lines)
            continue
        for budget in arguments.budgets:
            started = time.process_time()
            setup = setup_of(
                arguments.network,
                arguments.weights,
                arguments.data_root,
                SPACES[line],
                f"size <= {budget} KB",
                calibration=512,
            )
            point = Allocator(setup.space, setup.limits, setup.evaluator.sensitivity()).plain()
            finisher = setup.evaluator.reporting("sequential")
            network = finisher.network(point)
            seconds = round(time.process_time() - started, 1)
            lines.add(f"{line}, {budget:g} KB foretold", network, finisher, setup.problem.test(), seconds=seconds)


def alike(arguments: argparse.Namespace, lines: Lines) -> None:
    """The lines of one format for all layers."""
    for name in arguments.formats:
        started = time.process_time()
        space = {"code": {"formats": [name]}}
        setup = setup_of(
            arguments.network, arguments.weights, arguments.data_root, space, "size <= 99%", calibration=512
        )
        finisher = setup.evaluator.reporting("sequential")
        network = finisher.network(setup.space.point(setup.space.lowest.tolist()))
        seconds = round(time.process_time() - started, 1)
        lines.add(f"{name} for all layers", network, finisher, setup.problem.test(), seconds=seconds)


def recipe(arguments: argparse.Namespace, lines: Lines) -> None:
    """The lines of Deep Compression."""
    setup = setup_of(
        arguments.network, arguments.weights, arguments.data_root, SPACES["pruned"], "size <= 99%", calibration=512
    )
    space, test = setup.space, setup.problem.test()
    assert setup.problem.recalibration is not None
    batches = setup.problem.recalibration(0)
    for density in arguments.densities:
        for bits in arguments.recipe_bits:
            started = time.process_time()
            tensors = space.operator(Sparsity).tensors
            counts = {tensor.name: int(density * tensor.size) for tensor in tensors}
            formats = {tensor.layers[0]: f"shared{bits}" for tensor in space.operator(Code).tensors}
            steps = (*([SparsityStep(counts)] if density < 1 else []), CodeStep(formats))
            plan = Plan(steps)
            network = copy.deepcopy(space.original).eval()
            for step in steps:
                network = OPERATORS[step.operator].rebuild(network, step)
            seconds = round(time.process_time() - started, 1)
            name = f"recipe, {density:.0%} of weights, {1 << bits} centroids"
            for suffix, samples in (("", []), (", norms re-estimated", batches)):
                written = copy.deepcopy(network)
                recalibrate(written, samples)
                settle_coded(written, plan)  # which norms are not estimated anew after
                lines.add(f"{name}{suffix}", written, setup.evaluator, test, seconds=seconds)


if __name__ == "__main__":
    main()

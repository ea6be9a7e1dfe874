"""Every scheme of factors on one network, nothing trained: allocated by the error curves, uniform, and ranks by EVBMF.

    python -m experiments.joint.schemes --data-root DATA --weights WEIGHTS.safetensors [--network resnet20] [--keep 50]
        [--schemes separable svd tucker cp vbmf] [--fills allocated uniform] [--out FILE.jsonl]

No label is looked at but those of the test images, all 10,000 of them, once for each line. `vbmf`: Tucker-2 with both
ranks of each kernel of several taps by EVBMF on its two unfoldings, without a budget, as Kim et al. 2016 choose them,
and beside it an allocation of Tucker-2 at as many multiply-accumulates. All are fitted layer after layer.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

from torch import nn

from agents.allocation import Allocator
from agents.uniform import uniform_point
from automl.fit.layerwise import LayerByLayer
from automl.fit.registry import fitter_of
from automl.fit.sequential import SequentialReconstruction
from automl.fit.statistics import Statistics
from automl.study.setup import Setup
from experiments.joint.evbmf import evbmf_rank
from experiments.joint.one_network import Lines, setup_of
from search_spaces import Plan, Rank, RankStep


def vbmf_network(setup: Setup) -> nn.Module:
    """The network whose kernels have ranks by EVBMF, fitted layer after layer."""
    space, problem = setup.space, setup.problem
    operator = space.operator(Rank)
    ranks: dict[str, int] = {}
    read_ranks: dict[str, int] = {}
    for tensor, site in zip(operator.tensors, operator.sites.tolist(), strict=True):
        if operator.scheme(site) != "tucker":
            continue
        weight = space.original.get_parameter(tensor.name).detach().double()
        made = evbmf_rank(weight.flatten(1).numpy())
        read = evbmf_rank(weight.transpose(0, 1).flatten(1).numpy())
        ranks[tensor.layers[0]], read_ranks[tensor.layers[0]] = max(made, 1), max(read, 1)
    step = RankStep(ranks, dict.fromkeys(ranks, "tucker"), read_ranks)
    network, slices = space.surgery(Plan(())).eval(), space.slices(Plan(()))
    fitter = fitter_of(operator, setup.config.evaluation)
    statistics = Statistics(space.original, problem, fitter.layers())
    careful = LayerByLayer(SequentialReconstruction(space.original, problem.calibration), {"rank": fitter}, statistics)
    careful.apply(network, slices, [step])
    return network


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data-root", required=True)
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--network", default="resnet20")
    parser.add_argument("--keep", type=float, default=50.0)
    parser.add_argument("--schemes", nargs="+", default=["separable", "svd", "tucker", "cp", "vbmf"])
    parser.add_argument("--fills", nargs="+", default=["allocated", "uniform"])
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    lines = Lines(arguments.out)

    def prepared(scheme: str, keep: float) -> Setup:
        space = {"rank": {"scheme": {"separable": "auto"}.get(scheme, scheme)}}
        return setup_of(arguments.network, arguments.weights, arguments.data_root, space, f"macs <= {keep:.4f}%")

    for scheme in arguments.schemes:
        kind, keep, more = scheme, arguments.keep, ""
        if scheme == "vbmf":
            kind, more = "tucker", ", as many MACs as by EVBMF"
            setup, started = prepared(kind, 60.0), time.process_time()
            network, seconds = vbmf_network(setup), round(time.process_time() - started, 1)
            found = lines.add("tucker, EVBMF", network, setup.evaluator, setup.problem.test(), seconds=seconds)
            keep = 100 * found["macs"] / setup.space.original_cost("macs")
        setup, started = prepared(kind, keep), time.process_time()
        finisher, test = setup.evaluator.reporting("sequential"), setup.problem.test()
        if "allocated" in arguments.fills:
            network = finisher.network(Allocator(setup.space, setup.limits, setup.evaluator.sensitivity()).plain())
            seconds = round(time.process_time() - started, 1)
            lines.add(f"{kind}, allocated{more}", network, finisher, test, seconds=seconds)
        if scheme != "vbmf" and "uniform" in arguments.fills:
            lines.add(f"{kind}, uniform", finisher.network(uniform_point(setup.space, setup.limits)), finisher, test)


if __name__ == "__main__":
    main()

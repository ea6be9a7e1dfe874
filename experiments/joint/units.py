"""How well the sum of error curves ranks networks of a joint space: predicted loss beside measured divergence.

    python -m experiments.joint.units STUDY.yaml --data-root DATA [--points 30] [--careful]

Points are random wishes brought onto random shares of the budget's cost, 45 to 90 %. `raw`: the curves of each operator
as it gives them; `one unit`: multiplied by what whole networks of each operator alone lost (`automl.fit.one_unit`).
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from agents import ErrorCurves, Sensitivity
from agents.summed_losses import Losses
from automl.config.runner import RunnerConfig
from automl.config.study import StudyConfig
from automl.fit.distance import Distance
from automl.fit.registry import fitter_of
from automl.fit.statistics import Statistics
from automl.study.setup import Setup
from search_spaces import NetworkSpace, Point


def ranks(values: list[float]) -> np.ndarray:
    return np.argsort(np.argsort(values)).astype(float)


def spearman(a: list[float], b: list[float]) -> float:
    return float(np.corrcoef(ranks(a), ranks(b))[0, 1])


def predicted(space: NetworkSpace, curves: Sensitivity, point: Point) -> float:
    knobs = [knob for knob in space.knobs if knob.name in curves]
    told = curves if isinstance(curves, ErrorCurves) else ErrorCurves(curves)
    return Losses.of(knobs, told).total(np.array([knob.levels.index(point[knob.name]) for knob in knobs]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("study", type=Path)
    parser.add_argument("--data-root", required=True)
    parser.add_argument("--points", type=int, default=30)
    parser.add_argument("--careful", action="store_true", help="measure networks that are fitted layer after layer")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    config = StudyConfig.from_file(arguments.study)
    config = replace(config, data=replace(config.data, root=arguments.data_root), runner=RunnerConfig(1, 1))
    setup = Setup(config)
    space, problem, evaluator = setup.space, setup.problem, setup.evaluator
    evaluator.prepare()
    fitters = [fitter_of(operator, config.evaluation) for operator in space.operators]
    statistics = Statistics(space.original, problem, list(dict.fromkeys(x for f in fitters for x in f.layers())))
    for fitter in fitters:
        fitter.scores(statistics, problem)
    raw = {name: curve for fitter in fitters for name, curve in fitter.curves(statistics, problem).items()}
    curves = evaluator.sensitivity()
    divergence = problem.kind.divergence
    assert divergence is not None
    distance = Distance(space.original, problem.validation, divergence)
    build = (evaluator.reporting("sequential") if arguments.careful else evaluator).network
    (metric,) = setup.limits
    rng = np.random.default_rng(0)
    rows: list[tuple[float, float, float]] = []
    for number in range(arguments.points):
        share = rng.uniform(0.45, 0.9)
        limit = {metric: max(share * space.original_cost(metric), space.cost_of_levels(space.lowest, metric))}
        point = space.project(rng.uniform(0.3, 1.0, len(space.knobs)), limit)
        measured = distance.to(build(point))
        rows.append((predicted(space, raw, point), predicted(space, curves, point), measured))
        print(
            f"{number:2d} {metric} {share:.0%}: raw {rows[-1][0]:.4f}, one unit {rows[-1][1]:.4f}, {measured:.4f}",
            flush=True,
        )
    columns = [[row[i] for row in rows] for i in range(3)]
    print(f"rank correlation with the divergence: raw {spearman(columns[0], columns[2]):.3f}, ", end="")
    print(f"one unit {spearman(columns[1], columns[2]):.3f}")


if __name__ == "__main__":
    main()

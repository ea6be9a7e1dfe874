"""How long the phases of a study take on images of 224 x 224, in passes over the same images; and their memory.

    python -m experiments.efficientnet.run [--trials 3] [--finish]

On one thread. A pass is the original run over the images in question, as it was recorded, in float32.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from automl.evaluation import Evaluator
from automl.report.foretelling import peak_bytes
from automl.runners import run_trial
from automl.tasks.problem import Problem
from experiments.efficientnet.network import efficientnet, photographs
from search_spaces import channel_space


def seconds(what: Callable[[], Any]) -> float:
    started = time.perf_counter()
    what()
    return time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=3)
    parser.add_argument("--finish", action="store_true", help="tune the uniform network block by block, too")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    model, data = efficientnet(), photographs()
    problem = Problem.from_iterables(model, data["train"], data["validation"], calibration_size=256)
    began = time.perf_counter()
    space = channel_space(model, problem.example_inputs)
    print(f"recording and analysis: {time.perf_counter() - began:.1f} s; {len(space.knobs)} groups", flush=True)

    def one_pass(batches: Any) -> None:
        with torch.inference_mode():
            for inputs, _ in batches:
                space.original(*inputs)

    one_pass(problem.validation)
    calibration, validation = (seconds(lambda b=b: one_pass(b)) for b in (problem.calibration, problem.validation))
    print(f"a pass: {calibration:.1f} s over 256 calibration images, {validation:.1f} s over 200", flush=True)
    limits = {"macs": space.original_cost("macs") / 2}
    evaluator = Evaluator(problem, space, limits=limits, threads=1)
    prepared = seconds(evaluator.prepare)
    print(
        f"preparation: {prepared:.1f} s, {prepared / calibration:.1f} passes; peak {peak_bytes() / 1e9:.2f} GB",
        flush=True,
    )
    point = space.project(np.ones(len(space.knobs)), limits)
    for _ in range(arguments.trials):
        took = run_trial(evaluator, point).wall_s
        print(f"a trial: {took:.1f} s, {took / validation:.1f} passes", flush=True)
    for blockwise in (False, True) if arguments.finish else ():
        finisher = evaluator.finishing(blockwise=blockwise, say=lambda text: print(f"  {text}", flush=True))
        found: list[Any] = []
        took = seconds(lambda f=finisher, found=found: found.append(f.network(point)))
        values = {m.metric: m.value for m in finisher.measure_validation(found[0])}
        name = "blockwise" if blockwise else "sequential"
        shown = f"divergence {values['divergence']:.4f}"
        print(f"{name}: {took:.0f} s, {shown}; peak {peak_bytes() / 1e9:.2f} GB", flush=True)
        del finisher, found  # a study has one of them


if __name__ == "__main__":
    main()

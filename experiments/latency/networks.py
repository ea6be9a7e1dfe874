"""Export networks in all formats that backends load, beside themselves as originals, and test the 8-bit files.

python -m experiments.latency.networks CHECKPOINTS DATA OUT [--only resnet20 resnet56 mobilenet_v2] [--untested]

Weights are CHECKPOINTS/NAME-cifar10.safetensors; a network without has random ones, and of it only time is worth
measuring. Top-1 on all 10,000 test images of CIFAR-10, and how often it is that of the float network.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import torch

from automl.config.study import StudyConfig
from automl.export import export
from automl.measures.backends.onnx_runtime import running, session
from automl.study.certificates import calibration_inputs
from automl.study.loading import load_problem
from automl.tasks.batches import Batch
from automl.tasks.problem import Problem
from search_spaces import Plan

FORMATS = ("onnx", "onnx-int8", "pt2")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("checkpoints", type=Path)
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--only", nargs="*", default=["resnet20", "resnet56", "mobilenet_v2"])
    parser.add_argument("--untested", action="store_true", help="write the files alone")
    args = parser.parse_args()
    for name in args.only:
        torch.manual_seed(0)
        weights = args.checkpoints / f"{name}-cifar10.safetensors"
        model = {"name": name, **({"weights": str(weights)} if weights.exists() else {})}
        data = {"name": "cifar10", "root": str(args.data)}
        problem = load_problem(
            StudyConfig.from_dict({"name": name, "model": model, "data": data, "budget": "macs <= 50%"})
        )
        network, folder = problem.model.eval(), args.out / name
        told = {"study": name, "agent": "base", "seed": 0, "trial": 0}
        export(
            *(network, problem.example_inputs, Plan(), folder, FORMATS),
            manifest=told,
            calibration=calibration_inputs(problem),
            original=network,
        )
        if not args.untested:
            print(name, tested(problem, folder / "model-int8.onnx"), flush=True)


def right_in(path: Path, batches: Sequence[Batch]) -> float:
    """The part of the images that an ONNX file, run in ONNX Runtime, classifies right."""
    run, right = running(session(str(path), 1)), 0
    for inputs, targets in batches:
        right += int((torch.from_numpy(run([x.numpy() for x in inputs])[0]).argmax(1) == targets).sum())
    return right / sum(len(targets) for _, targets in batches)


def tested(problem: Problem, path: Path) -> str:
    """Top-1 of the float network and of the 8-bit file on the test images, and their agreement."""
    run = running(session(str(path), 1))
    right = right_in_file = same = n = 0
    for inputs, targets in problem.read_test():
        with torch.inference_mode():
            expected = problem.model(*inputs).argmax(1)
        got = torch.from_numpy(run([x.numpy() for x in inputs])[0]).argmax(1)
        right += int((expected == targets).sum())
        right_in_file += int((got == targets).sum())
        same += int((got == expected).sum())
        n += len(targets)
    return f"top-1 float {right / n:.2%}, int8 {right_in_file / n:.2%}, agreement {same / n:.2%} of {n}"


if __name__ == "__main__":
    main()

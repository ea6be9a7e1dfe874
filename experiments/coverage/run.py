"""Compress third-party networks to half their MACs, and say what happened to each.

    python experiments/coverage/run.py [--networks resnet18 ...] [--out experiments/coverage/results.md]

Needs the `pytorchcv` collection, which imports torchvision: installed without its dependencies beside a CPU build
of torch, that import works once two operators have been defined. Untrained weights; the question is surgery.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
import warnings
from pathlib import Path

import numpy as np
import torch

from search_spaces import Channels, channel_space

NETWORKS = """
resnet18 resnet20_cifar10 densenet40_k12_cifar10 mobilenet_w1 mobilenetv2_w1 mobilenetv3_large_w1 shufflenetv2_w1
shufflenet_g1_w1 squeezenet_v1_1 efficientnet_b0 sepreresnet18 vgg16 inceptionv3 regnetx002 ghostnet preresnet18
wrn16_10_cifar10 resnext29_32x4d_cifar10 mnasnet_b1 dla34 hrnet_w18_small_v1 xception nasnet_4a1056
bisenet_resnet18_celebamaskhq fastscnn_cityscapes peleenet igcv3_w1 condensenet74_c4_g4
""".split()


def load(name: str) -> torch.nn.Module:
    library = torch.library.Library("torchvision", "DEF")
    for operator in ("nms", "qnms"):
        library.define(f"{operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    from pytorchcv.model_provider import get_model

    torch.manual_seed(0)
    model = get_model(name, pretrained=False).eval()
    with torch.no_grad():  # norms that are the identity would hide mistakes
        for module in model.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.running_mean.normal_(0, 0.1)
                module.running_var.uniform_(0.5, 1.5)
    return model


def input_size(model: torch.nn.Module) -> tuple[int, int]:
    return tuple(getattr(model, "in_size", (224, 224)))


def compress(name: str) -> str:
    """One row of the table."""
    from torch.utils.flop_counter import FlopCounterMode

    model = load(name)
    x = torch.randn(2, 3, *input_size(model))
    start = time.perf_counter()
    space = channel_space(model, (x,))
    seconds = time.perf_counter() - start
    full = space.cost_of_levels(space.highest, "macs")
    reachable = space.cost_of_levels(space.lowest, "macs") / full
    point = space.project(np.ones(len(space.knobs)), {"macs": full / 2})
    small = space.build(space.plan(point))
    with torch.no_grad():
        before, after = shapes(model(x)), shapes(small(x))
        other = shapes(small(torch.cat([x, x])[:3]))
    if before != after or [s[1:] for s in other] != [s[1:] for s in before]:
        raise AssertionError(f"outputs {after}, expected {before}")
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        small(x)
    counted = counter.get_total_flops() / 2 / len(x)
    if counted != space.cost(point, "macs"):
        raise AssertionError(f"counted {counted} MACs, predicted {space.cost(point, 'macs')}")
    not_understood = ", ".join(sorted(set(space.operator(Channels).not_understood.values()))) or "-"
    return (
        f"| {name} | {full / 1e6:,.1f} | {counted / full:.2%} | {reachable:.1%} | {len(space.groups)} | "
        f"{len(space.operator(Channels).fixed)} | {not_understood} | {seconds:.1f} |"
    )


def shapes(out) -> list[tuple[int, ...]]:
    return [tuple(out.shape)] if isinstance(out, torch.Tensor) else [s for item in out for s in shapes(item)]


INTRO = """# Which networks of other people can be compressed?

    python experiments/coverage/run.py --out experiments/coverage/results.md

Commit {commit}, torch {torch}. Untrained networks of the `pytorchcv` collection, widths as equal
as half the MACs allow. A network counts if its outputs keep their shapes, for another batch size too, and its
MACs, counted while it runs, are those predicted.
"""

HEADER = """| network | MACs (M) | after | smallest | groups | partly fixed layers | not understood | analysis (s) |
| --- | --- | --- | --- | --- | --- | --- | --- |"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--networks", nargs="*", default=NETWORKS)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--one", help="compress this network in this process and print its row")
    arguments = parser.parse_args()
    warnings.filterwarnings("ignore")
    if arguments.one:
        print(compress(arguments.one))
        return
    rows, passed = [], 0
    for name in arguments.networks:  # a process each, so that one network cannot take the others along
        command = [sys.executable, __file__, "--one", name]
        result = subprocess.run(command, capture_output=True, text=True)
        ok = result.returncode == 0
        passed += ok
        rows.append(
            result.stdout.strip() if ok else f"| {name} | failed: {result.stderr.strip().splitlines()[-1][:300]} |"
        )
        print(rows[-1], flush=True)
    summary = f"{passed} of {len(arguments.networks)} compressed to half their MACs."
    print(summary)
    if arguments.out:
        commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True).stdout.strip()
        intro = INTRO.format(commit=commit, torch=torch.__version__)
        arguments.out.write_text("\n".join([intro, HEADER, *rows, "", summary, ""]))


if __name__ == "__main__":
    main()

"""Latency of depth against width: blocks removed, or channels everywhere, at the same multiply-accumulates.

    taskset -c 1 python experiments/depth/latency.py --out experiments/depth/latency.md

A network loses whole blocks, the last of the stage that has most, until it is within a part of the original's MACs. Its
rival keeps every block, and the same fraction of the channels inside each, at no more MACs than the first. Both are
measured beside the original, in turn, round by round, on one thread: PyTorch's modules, and ONNX Runtime on the files
that are exported. Weights make no difference to latency and are random.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import onnxruntime
import torch
from torch import Tensor, nn

from automl.export import FORMATS
from automl.export.subject import Subject
from automl.measures import LatencyComparison, compare_latency
from automl.zoo import create
from search_spaces import channel_space, depth_space

INSIDE = ("conv1", "layer2.0.conv2", "layer3.0.conv2")
"""The residual streams, which keep their width."""

INPUTS = (torch.zeros(2, 3, 32, 32),)


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=["resnet20", "resnet56"])
    parser.add_argument("--parts", type=float, nargs="+", default=[0.6, 0.4], help="of the original's MACs")
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 32])
    parser.add_argument("--rounds", type=int, default=31)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args(argv)
    lines = list(table(args))
    if args.out:
        args.out.write_text("\n".join(lines) + "\n")


def table(args: argparse.Namespace) -> Iterator[str]:
    """Markdown; each line is printed as it is known."""
    titles = ["run by", "network", "batch", "MACs kept", "layers", "original", "depth", "width", "depth / width"]
    for line in (f"| {' | '.join(titles)} |", "|" + " --- |" * len(titles)):
        print(line)
        yield line
    for name in args.models:
        for part in args.parts:
            networks, macs = shortened(name, part)
            layers = [
                str(sum(isinstance(m, nn.Conv2d | nn.Linear) for m in net.modules())) for net in networks.values()
            ]
            for runtime, runnable in (("PyTorch", networks), ("ONNX Runtime", exported(networks))):
                for batch in args.batches:
                    x = torch.randn(batch, 3, 32, 32, generator=torch.Generator().manual_seed(0))
                    comparison = compare_latency(runnable, (x,), rounds=args.rounds)
                    kept = " / ".join(f"{of:.1%}" for of in macs[1:])
                    cells = [runtime, name, str(batch), kept, " / ".join(layers), *measured(comparison)]
                    line = f"| {' | '.join(cells)} |"
                    print(line, flush=True)
                    yield line
    yield ""
    yield (
        f"MACs kept by depth / width; convolutions and linear layers of original / depth / width. Then the original's "
        f"time, and ratios to it and to each other: medians of {args.rounds} rounds and interquartile ranges. "
        f"torch {torch.__version__}, {comparison.device}."
    )


def shortened(name: str, part: float) -> tuple[dict[str, nn.Module], list[float]]:
    """The original, it without blocks, and with fewer channels, and their MACs as parts of the original's."""
    torch.manual_seed(0)
    model = create(name).eval()
    depth, width = depth_space(model, INPUTS, exclude=INSIDE), channel_space(model, INPUTS, exclude=INSIDE)
    whole = depth.cost_of_levels(depth.highest, "macs")
    levels, left = depth.highest, list(range(len(depth.blocks)))
    while not depth.within(levels, {"macs": part * whole}):
        stages = [depth.blocks[t].name.split(".")[0] for t in left]
        levels[left.pop(max(range(len(left)), key=lambda i: (stages.count(stages[i]), i)))] = 0
    short = depth.point(levels.tolist())
    limits = {"macs": depth.cost(short, "macs")}
    narrow = width.project(np.ones(len(width.knobs)), limits)
    networks = {
        "original": model,
        "depth": depth.build(depth.plan(short)),
        "width": width.build(width.plan(narrow)),
    }
    return networks, [1.0, limits["macs"] / whole, width.cost(narrow, "macs") / whole]


class Session(nn.Module):
    """An ONNX file with one input and one output, run by ONNX Runtime on one thread."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        self.input = self.session.get_inputs()[0].name

    def forward(self, x: Tensor) -> Tensor:
        """[batch, classes]."""
        return torch.from_numpy(self.session.run(None, {self.input: x.numpy()})[0])


def exported(networks: dict[str, nn.Module]) -> dict[str, nn.Module]:
    """The same as ONNX files, loaded again."""
    onnx, out = FORMATS["onnx"], {}
    with tempfile.TemporaryDirectory() as folder:
        for name, network in networks.items():
            subject, path = Subject(network, INPUTS), Path(folder) / f"{name}.onnx"
            onnx.write(subject, path)
            onnx.read(subject, path)  # as every export it is checked
            out[name] = Session(path)
    return out


def measured(comparison: LatencyComparison) -> Iterator[str]:
    """The original's time, and the ratios of depth and width to it and to each other, with their spread."""
    original = comparison.latency("original")
    yield f"{original.value:.3f} ± {original.spread:.3f} ms"
    for name in ("depth", "width"):
        ratio = comparison.ratio(name)
        yield f"{ratio.value:.3f} ± {ratio.spread:.3f}"
    low, middle, high = np.percentile(comparison.rounds_ms["depth"] / comparison.rounds_ms["width"], [25, 50, 75])
    yield f"{middle:.3f} ± {high - low:.3f}"


if __name__ == "__main__":
    main()

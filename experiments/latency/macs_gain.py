"""Does time fall as multiply-accumulates do? Channels pruned to half of them, in ONNX Runtime.

python -m experiments.latency.macs_gain --rows rows.jsonl [--network resnet56 vgg16_bn mobilenet_v2]
    [--round-to 1 8 16] [--size 32]

Networks of the zoo, or of a package as `timm:resnet50`, with random weights, since only time is asked; widths as the
agent `uniform` has them, in multiples of a step. Timed side by side in one process; the gain in time by that in
multiply-accumulates is 1 where both fall alike.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import torch

from agents.uniform import uniform_point
from automl.export.timing import ComparerOnBackend
from automl.measures.backends.side_by_side import Effort
from automl.zoo import load_model
from experiments.row_file import add_row, rows_of
from search_spaces import InfeasibleBudgetError, NetworkSpace, Plan

NETWORKS = ("resnet56", "vgg16_bn", "mobilenet_v2")


def main() -> None:
    """Measure what has no row yet, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--network", nargs="+", default=NETWORKS)
    parser.add_argument("--size", type=int, default=32, help="height and width of the images")
    parser.add_argument("--round-to", nargs="+", type=int, default=[1, 8, 16])
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--share", type=float, default=0.5)
    parser.add_argument("--backend", default="onnxruntime")
    parser.add_argument("--seconds", type=float, default=40.0, help="of a network's measurement")
    parser.add_argument("--rows", type=Path, required=True)
    args = parser.parse_args()
    torch.set_num_threads(1)
    rows = rows_of(args.rows)
    for name in args.network:
        if any((row["network"], row["batch"], row["backend"]) == (name, args.batch, args.backend) for row in rows):
            continue
        for row in measured(name, args):
            rows.append(row)
            add_row(args.rows, row)
    print(table(rows))


def measured(name: str, args: argparse.Namespace) -> list[dict[str, Any]]:
    """A row a step of widths."""
    torch.manual_seed(0)
    network, example = load_model(name), (torch.randn(2, 3, args.size, args.size),)
    networks, shares = {"original": NetworkSpace(network, example, {"channels": {}}).build(Plan()).eval()}, {}
    for step in args.round_to:
        space = NetworkSpace(network, example, {"channels": {"round_to": step, "min_keep": 0.05}})
        whole = space.cost(space.original_point, "macs")
        try:
            point = uniform_point(space, {"macs": args.share * whole})
        except InfeasibleBudgetError as error:
            print(f"{name}, multiples of {step}: {error}", flush=True)
            continue
        networks[str(step)] = space.build(space.plan(point)).eval()
        shares[str(step)] = space.cost(point, "macs") / whole
    inputs = (torch.randn(args.batch, 3, args.size, args.size),)
    effort = Effort(rounds=60, seconds=args.seconds, half_width=0.01)
    compared = ComparerOnBackend(args.backend, inputs, 1, effort)(networks)
    return [
        {
            **{"network": name, "batch": args.batch, "backend": args.backend, "step": int(step), "macs": share},
            "ms": compared.latency("original").value,
            "ratio": vars(compared.ratio(step)),
            "gain": share / compared.ratio(step).value,
            "noise": compared.times.unsteady,
        }
        for step, share in shares.items()
    ]


def table(rows: list[dict[str, Any]]) -> str:
    """Markdown: a row a network and step."""
    lines = ["| network | batch | multiples of | MACs | time | gain in time / gain in MACs |", "|" + " --- |" * 6]
    for row in rows:
        lines.append(
            f"| {row['network']} | {row['batch']} | {row['step']} | {row['macs']:.1%} | {row['ratio']['value']:.1%} | "
            f"{row['gain']:.2f} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    main()

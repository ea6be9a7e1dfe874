"""`automl exits FILE`: the network of a study file with exits, at which samples leave once it is sure of them."""

from __future__ import annotations

import argparse
from pathlib import Path

from automl.commands.slim import CHECKPOINT, add_sized, asked, numbers, written


def arguments(parser: argparse.ArgumentParser) -> None:
    """The study file, where the exits are, and the folder."""
    add_sized(parser)
    parser.add_argument(
        "--at", default="2", metavar="N|LIST", help="how many exits, or after which parts of the cost: 0.3,0.7"
    )
    parser.add_argument(
        "--hidden", type=int, default=0, metavar="N", help="channels of a layer in each exit's head (default: none)"
    )


def run(args: argparse.Namespace) -> int:
    """Train the network, show what thresholds come to, and write it."""
    from automl.dynamic.from_data import Exits, exits_of_problem

    problem, options = asked(args)
    at = int(args.at) if args.at.isdigit() else numbers(args.at, "--at")
    checkpoint = Path(args.out) / CHECKPOINT
    result = exits_of_problem(problem, Exits(at, args.hidden), options, checkpoint=checkpoint, say=print)
    print(f"\n{result.table()}\n")
    return written(result.export(args.out, onnx=not args.no_onnx), checkpoint)

"""`automl slim FILE`: the network of a study file, made to run at several widths with one set of weights."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from automl.commands.options import add_data_root, positive

if TYPE_CHECKING:
    from collections.abc import Sequence

    from automl.config.training import TrainingOptions
    from automl.export import Artifact
    from automl.tasks.problem import Problem

CHECKPOINT = "training.checkpoint"
"""The file in the folder from which a training that was killed goes on; it goes when the network is written."""


def arguments(parser: argparse.ArgumentParser) -> None:
    """The study file, the widths, and the folder."""
    add_sized(parser)
    parser.add_argument(
        "--widths", default="0.25,0.5,0.75,1", metavar="LIST", help="parts of the channels (default: %(default)s)"
    )
    parser.add_argument(
        "--norms",
        choices=("private", "shared"),
        default="private",
        help="a norm for each width, or one for all, whose statistics are estimated afterwards (default: %(default)s)",
    )
    parser.add_argument(
        "--drawn", type=int, metavar="N", help="a step trains the narrowest, the widest and N between (default: all)"
    )
    parser.add_argument(
        "--even", action="store_true", help="each weight's gradient is the mean over the widths that have it"
    )
    parser.add_argument("--round-to", type=positive, default=1, metavar="N", help="widths are multiples of N channels")


def add_sized(parser: argparse.ArgumentParser) -> None:
    """What commands that train a network of many sizes have in common."""
    parser.add_argument("file", metavar="FILE", help="study file: its model, data and finish.training are used")
    parser.add_argument("--out", metavar="DIR", required=True, help="folder for the network")
    parser.add_argument("--no-onnx", action="store_true", help="write weights and manifest only")
    add_data_root(parser)


def run(args: argparse.Namespace) -> int:
    """Train the network, show what each width is worth, and write it."""
    from automl.dynamic.from_data import Widths, slim_problem

    problem, options = asked(args)
    sizes = Widths(numbers(args.widths, "--widths"), args.norms, args.drawn, even=args.even, round_to=args.round_to)
    checkpoint = Path(args.out) / CHECKPOINT
    result = slim_problem(problem, sizes, options, checkpoint=checkpoint, say=print)
    print(f"\n{result.table()}\n")
    return written(result.export(args.out, onnx=not args.no_onnx), checkpoint)


def asked(args: argparse.Namespace) -> tuple[Problem, TrainingOptions]:
    """The network and data of the study file, and how it trains."""
    from automl.commands.search import overridden
    from automl.config.study import StudyConfig
    from automl.config.training import TrainingOptions
    from automl.study.loading import load_problem

    config = overridden(StudyConfig.from_file(args.file), args)
    return load_problem(config), config.training or TrainingOptions()


def written(artifacts: Sequence[Artifact], checkpoint: Path) -> int:
    """Say what was written; the checkpoint is of no more use."""
    checkpoint.unlink(missing_ok=True)
    for artifact in artifacts:
        print(f"  {artifact.path}  {artifact.bytes:,} bytes")
    return 0


def numbers(text: str, option: str) -> tuple[float, ...]:
    """A list of numbers. Errors: `ConfigError`."""
    from automl.errors import ConfigError

    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        raise ConfigError(f"{option} is a list of numbers such as 0.25,0.5, got {text!r}") from None

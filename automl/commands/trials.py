"""`automl trials NAME`: the trials of a study, those that are asked for, in the order that is asked for."""

from __future__ import annotations

import argparse

from automl.commands.options import add_storage, positive
from automl.util.garbage import uncollected


def arguments(parser: argparse.ArgumentParser) -> None:
    """The study, which of its trials, and how they are written."""
    add_storage(parser)
    parser.add_argument("name", metavar="NAME", help="name of the study")
    parser.add_argument(
        "--where",
        metavar="CONDITION",
        help='which trials: "macs <= 50%% and accuracy > 0.9"; columns with < <= > >= = !=, joined by and, or, not; a '
        "percentage of a cost is of the original's",
    )
    parser.add_argument("--sort", metavar="LIST", help="columns to sort by, `-` for the largest first: -accuracy,macs")
    parser.add_argument("--columns", metavar="LIST", help="the columns to show (default: all that hold something)")
    parser.add_argument("--limit", metavar="N", type=positive, help="only the first N")
    parser.add_argument(
        "--format", choices=("table", "csv", "json", "parquet"), default="table", help="default: %(default)s"
    )
    parser.add_argument("--out", metavar="FILE", help="write there instead of to standard output")


@uncollected()
def run(args: argparse.Namespace) -> int:
    """Show or write the trials of a study."""
    from automl.store import chosen, open_store, recorded_trials, write_trials

    with open_store(args.storage, create=False) as store:
        asked = f"{args.where} {args.sort} {args.columns}"
        choices = args.format != "table" or "keep:" in asked or "level:" in asked
        trials = chosen(recorded_trials(store, args.name, choices=choices), args.where, args.sort)
    if args.limit is not None:
        trials = trials.picked(range(min(args.limit, len(trials.rows))))
    columns = None if args.columns is None else [part.strip() for part in args.columns.split(",") if part.strip()]
    write_trials(trials, args.format, args.out, columns)
    return 0

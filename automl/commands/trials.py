"""`automl trials NAME`: the database, queried."""

from __future__ import annotations

import argparse

from automl.commands.options import add_storage


def arguments(parser: argparse.ArgumentParser) -> None:
    """The study, and how its trials are written."""
    add_storage(parser)
    parser.add_argument("name", metavar="NAME", help="name of the study")
    parser.add_argument(
        "--format", choices=("table", "csv", "json", "parquet"), default="table", help="default: %(default)s"
    )
    parser.add_argument("--out", metavar="FILE", help="write there instead of to standard output")


def run(args: argparse.Namespace) -> int:
    """Show or write the trials of a study."""
    from automl.store import frame, open_store, write_trials

    with open_store(args.storage, create=False) as store:
        write_trials(frame(store, args.name), args.format, args.out)
    return 0

"""`automl curves NAME`: a picture of what the search did."""

from __future__ import annotations

import argparse
from pathlib import Path

from automl.commands.options import add_storage


def arguments(parser: argparse.ArgumentParser) -> None:
    """The study, and where its picture goes."""
    add_storage(parser)
    parser.add_argument("name", metavar="NAME", help="name of the study")
    parser.add_argument("--out", metavar="FILE", help="picture to write (default: beside the database)")


def run(args: argparse.Namespace) -> int:
    """Draw a study, finished or not."""
    from automl.report.curves import draw_curves
    from automl.store import open_store

    with open_store(args.storage, create=False) as store:
        out = Path(args.out).resolve() if args.out is not None else None
        print(draw_curves(store, store.study(args.name), out))
    return 0

"""`automl report NAME`: a study as a page."""

from __future__ import annotations

import argparse
from pathlib import Path

from automl.commands.options import add_storage


def arguments(parser: argparse.ArgumentParser) -> None:
    """The study, and where its page goes."""
    add_storage(parser)
    parser.add_argument("name", metavar="NAME", help="name of the study")
    parser.add_argument("--out", metavar="FILE", default="report.html", help="page to write (default: %(default)s)")


def run(args: argparse.Namespace) -> int:
    """Write the page of a study, finished or not."""
    from automl.report.html.report_page import write_page
    from automl.store import open_store

    with open_store(args.storage, create=False) as store:
        storage = args.storage if store.database.is_sqlite else store.name
        print(write_page(store, args.name, Path(args.out), storage))
    return 0

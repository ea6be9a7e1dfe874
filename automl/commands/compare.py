"""`automl compare NAME...`: what several studies found, side by side, from the record."""

from __future__ import annotations

import argparse

from automl.commands.options import add_storage


def arguments(parser: argparse.ArgumentParser) -> None:
    """The studies."""
    add_storage(parser)
    parser.add_argument("names", metavar="NAME", nargs="+", help="names of studies, as `automl studies` lists them")


def run(args: argparse.Namespace) -> int:
    """Print a row a study."""
    from automl.report.comparison import comparison
    from automl.store import open_store
    from automl.util.columns import terminal_width

    with open_store(args.storage, create=False) as store:
        print(comparison(store, [store.study(name) for name in args.names], terminal_width()))
    return 0

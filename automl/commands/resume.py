"""`automl resume NAME`: go on with a recorded study, from the database alone."""

from __future__ import annotations

import argparse

from automl.commands.options import add_code, add_running, add_storage
from automl.commands.search import overridden, run_study


def arguments(parser: argparse.ArgumentParser) -> None:
    """The study, and how it runs."""
    add_storage(parser)
    parser.add_argument("name", metavar="NAME", help="name of the study")
    add_code(parser)
    add_running(parser)


def run(args: argparse.Namespace) -> int:
    """Run what is left of a study and show its results."""
    from automl.store import open_store
    from automl.study.trust import trusted_config

    with open_store(args.storage, create=False) as store:
        config = trusted_config(store, args.name, args.code, args.code_root)
        return run_study(store, overridden(config, args), args.storage, args.progress)

"""`automl resume NAME`: go on with a recorded study, from the database alone."""

from __future__ import annotations

import argparse

from automl.commands.options import add_running, add_storage
from automl.commands.search import overridden, run_study


def arguments(parser: argparse.ArgumentParser) -> None:
    """The study, and how it runs."""
    add_storage(parser)
    parser.add_argument("name", metavar="NAME", help="name of the study")
    add_running(parser)


def run(args: argparse.Namespace) -> int:
    """Run what is left of a study and show its results."""
    from automl.config.study import StudyConfig
    from automl.store import open_store

    with open_store(args.storage, create=False) as store:
        config = StudyConfig.from_record(store.study(args.name).config)
        return run_study(store, overridden(config, args), args.storage, args.progress)

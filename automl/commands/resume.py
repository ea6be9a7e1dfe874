"""`automl resume NAME`: go on with a recorded study, from the database alone."""

from __future__ import annotations

import argparse

from automl.commands.search import overridden, run_study
from automl.config.study import StudyConfig
from automl.store import open_store


def run(args: argparse.Namespace) -> int:
    """Run what is left of a study and show its results."""
    with open_store(args.storage, create=False) as store:
        config = StudyConfig.from_record(store.study(args.name).config)
        return run_study(store, overridden(config, args), args.storage, args.progress)

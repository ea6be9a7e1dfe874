"""`automl show NAME [TRIAL]`: what a study found, or one of its trials, from the record at once."""

from __future__ import annotations

import argparse

from automl.commands.options import add_storage


def arguments(parser: argparse.ArgumentParser) -> None:
    """The study, and a trial of it."""
    add_storage(parser)
    parser.add_argument("name", metavar="NAME", help="name of the study")
    what = "a trial, or `winner`: what it chose and what was measured of it (default: the table of results)"
    parser.add_argument("trial", metavar="AGENT/SEED/NUMBER", nargs="?", help=what)


def run(args: argparse.Namespace) -> int:
    """Print the table of results, or a trial."""
    from automl.report.one_trial import told
    from automl.report.table import summary, table
    from automl.store import open_store
    from automl.store.lookup import trial_named
    from automl.study.selection import Recorded
    from automl.util.columns import terminal_width

    with open_store(args.storage, create=False) as store:
        study = store.study(args.name)
        if args.trial is not None:
            print(told(store, study, trial_named(store, study, args.trial), terminal_width()))
            return 0
        found = Recorded.read(store, study)
        print(table(found, terminal_width()))
        print(summary(found))
    return 0

"""`automl trials NAME`: the database, queried."""

from __future__ import annotations

import argparse

from automl.store import frame, open_store, write_trials


def run(args: argparse.Namespace) -> int:
    """Show or write the trials of a study."""
    with open_store(args.storage, create=False) as store:
        write_trials(frame(store, args.name), args.format, args.out)
    return 0

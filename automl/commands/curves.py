"""`automl curves NAME`: a picture of what the search did."""

from __future__ import annotations

import argparse
from pathlib import Path

from automl.report.curves import draw_curves
from automl.store import open_store


def run(args: argparse.Namespace) -> int:
    """Draw a study, finished or not."""
    with open_store(args.storage, create=False) as store:
        out = Path(args.out).resolve() if args.out is not None else None
        print(draw_curves(store, store.study(args.name), out))
    return 0

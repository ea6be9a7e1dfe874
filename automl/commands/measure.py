"""`automl measure FOLDER`: exported files measured here; `--into STUDY RESULTS` records what was measured elsewhere."""

from __future__ import annotations

import argparse
from functools import partial
from pathlib import Path

from automl.commands.options import add_storage, positive


def arguments(parser: argparse.ArgumentParser) -> None:
    """What is measured, or what is recorded."""
    parser.add_argument("path", metavar="PATH", type=Path, help="an exported folder; with --into, results (JSON)")
    parser.add_argument("--backend", metavar="NAME", action="append", help="one an option (default: all installed)")
    parser.add_argument("--batch", metavar="N", type=positive, default=1, help="samples in a pass (default: 1)")
    parser.add_argument("--threads", metavar="N", type=positive, default=1, help="of a pass (default: 1)")
    parser.add_argument("--processes", metavar="N", type=positive, default=3, help="fresh ones (default: 3)")
    parser.add_argument("--out", metavar="FILE", type=Path, help="file for the results (JSON)")
    parser.add_argument("--into", metavar="STUDY", help="record the results in PATH with the trials of this study")
    add_storage(parser)


def run(args: argparse.Namespace) -> int:
    """Measure, or record."""
    return _record(args) if args.into else _measure(args)


def _measure(args: argparse.Namespace) -> int:
    from automl.export.timing import measure_folder
    from automl.measures.backends.program import measure_all

    measure_all(args, args.path, partial(measure_folder, args.path))
    return 0


def _record(args: argparse.Namespace) -> int:
    from automl.store import open_store
    from automl.study.measured_elsewhere import record_results

    with open_store(args.storage, create=False) as store:
        for line in record_results(store, args.into, args.path):
            print(line)
    return 0

"""The command line of `measure.pyz`: `python measure.pyz FOLDER --out results.json`."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from automl.errors import BackendError
from automl.measures.backends.measuring import Conditions, available, in_words, measure_once, measured


def parser() -> argparse.ArgumentParser:
    """What the program takes."""
    top = argparse.ArgumentParser(prog="measure.pyz", description="Measure exported networks on this machine.")
    top.add_argument("folder", metavar="FOLDER", nargs="?", type=Path, default=Path(), help="an exported folder")
    add_conditions(top)
    top.add_argument("--out", metavar="FILE", type=Path, help="file for the results (JSON)")
    top.add_argument("--once", metavar="CONDITIONS", help=argparse.SUPPRESS)  # in each of the processes
    return top


def add_conditions(top: argparse.ArgumentParser) -> None:
    """What is measured."""
    top.add_argument(
        "--backend",
        metavar="NAME",
        action="append",
        help="eager, compile, onnxruntime, onnxruntime-int8, openvino, openvino-bf16, openvino-int8; one an option "
        "(default: those installed whose files are there)",
    )
    top.add_argument("--batch", metavar="N", type=int, default=1, help="samples in a pass (default: %(default)s)")
    top.add_argument("--threads", metavar="N", type=int, default=1, help="of a pass (default: %(default)s)")
    top.add_argument("--processes", metavar="N", type=int, default=3, help="fresh ones (default: %(default)s)")


def main(argv: Sequence[str] | None = None) -> int:
    """Measure. Returns 0, or 1 for what cannot be measured."""
    args = parser().parse_args(argv)
    try:
        if args.once is not None:
            print(json.dumps(measure_once(args.folder, Conditions(**json.loads(args.once)))))
            return 0
        results = []
        for backend in args.backend or available(args.folder):
            conditions = Conditions(backend, args.batch, args.threads, args.processes)
            results.append(measured(Path(sys.argv[0]), args.folder, conditions))
            print(in_words(results[-1]))
            if results[-1]["noise"]:
                print(f"  {results[-1]['noise']}")
        if args.out is not None:
            args.out.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    except BackendError as error:
        if args.once is not None:
            print(json.dumps({"error": str(error)}))
        else:
            print(f"measure: {error}", file=sys.stderr)
        return 1
    return 0

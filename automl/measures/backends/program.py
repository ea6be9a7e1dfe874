"""The command line of `measure.pyz`: `python measure.pyz FOLDER --out results.json`."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

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
        help="eager, compile, onnxruntime, onnxruntime-int8, openvino, openvino-bf16, openvino-int8, executorch, "
        "litert, litert-int8, or one that a package brings; one an option (default: those installed whose files are "
        "there)",
    )
    top.add_argument("--batch", metavar="N", type=int, default=1, help="samples in a pass (default: %(default)s)")
    top.add_argument("--threads", metavar="N", type=int, default=1, help="of a pass (default: %(default)s)")
    top.add_argument("--processes", metavar="N", type=int, default=3, help="fresh ones (default: %(default)s)")


def measure_all(args: argparse.Namespace, folder: Path, measure: Callable[[Conditions], dict[str, Any]]) -> None:
    """Measure on each backend that is named, or all there are, tell a line of each, and write the results to a file.

    `args`: those of `add_conditions`, and `out`. Errors: `BackendError`.
    """
    results = []
    for backend in args.backend or available(folder):
        record = measure(Conditions(backend, args.batch, args.threads, args.processes))
        results.append(record)
        print(in_words(record))
        if record["noise"]:
            print(f"note: {record['noise']}")
    if args.out is not None:
        try:
            args.out.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
        except OSError as error:
            raise BackendError(f"cannot write {args.out}: {error}. Name another file") from error


def main(argv: Sequence[str] | None = None) -> int:
    """Measure. Returns 0, or 1 for what cannot be measured."""
    args = parser().parse_args(argv)
    try:
        if args.once is not None:
            print(json.dumps(measure_once(args.folder, Conditions(**json.loads(args.once)))))
            return 0
        measure_all(args, args.folder, partial(measured, Path(sys.argv[0]), args.folder))
    except BackendError as error:
        if args.once is not None:
            print(json.dumps({"error": str(error)}))
        else:
            print(f"measure: {error}", file=sys.stderr)
        return 1
    return 0

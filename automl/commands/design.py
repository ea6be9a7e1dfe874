"""`automl design`: data and a budget in, a trained network within it out, in a given time."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from automl.commands.export import FORMATS
from automl.commands.options import add_artifacts, add_progress, add_storage, positive
from automl.commands.search import run_study

if TYPE_CHECKING:
    from automl.study.conclude import Results
    from automl.study.study import Study


def arguments(parser: argparse.ArgumentParser) -> None:
    """The data, the budget, the time, and where everything goes."""
    add_storage(parser)
    parser.add_argument(
        "--data",
        metavar="DATA",
        required=True,
        help="folder of class folders, CSV file, .npz file (x_train, y_train), built-in name, or module:function",
    )
    parser.add_argument("--target", metavar="COLUMN", help="of a CSV file: the column to predict")
    parser.add_argument(
        "--task", choices=("classification", "regression"), help="what is predicted (default: as the targets look)"
    )
    parser.add_argument(
        "--budget", metavar="TEXT", required=True, action="append", help="such as 'params <= 60k'; one an option"
    )
    parser.add_argument(
        "--time", metavar="TIME", default="30m", help="for everything: 90s, 30m, 2h (default: %(default)s)"
    )
    parser.add_argument("--name", metavar="NAME", default="design", help="name of the study (default: %(default)s)")
    parser.add_argument("--out", metavar="DIR", help="folder for the network and its report (default: the name)")
    parser.add_argument("--kinds", metavar="LIST", help="comma-separated kinds of block, the reference's first")
    parser.add_argument(
        "--rival", metavar="AGENT", action="append", default=[], help="an agent beside it, with as much time"
    )
    parser.add_argument("--image-size", type=positive, metavar="N", help="side that images of a folder are brought to")
    parser.add_argument("--data-root", metavar="DIR", help="folder with a built-in data set's published files")
    parser.add_argument("--workers", type=positive, default=1, metavar="N", help="processes; above 1 a Ray Tune sweep")
    parser.add_argument("--seed", type=int, default=0, metavar="S", help="of the search")
    add_artifacts(parser)
    add_progress(parser)


def run(args: argparse.Namespace) -> int:
    """Design a network, show what was found, and write it to files."""
    from automl.designs.planned import design_config, design_study
    from automl.designs.time_plan import require_enough
    from automl.store import open_store
    from automl.util.duration import seconds_of

    seconds = seconds_of(args.time)
    require_enough(seconds)
    asked = design_config(_settings(args), seconds, folder=str(Path.cwd()))
    out = Path(args.out or args.name)
    with open_store(args.storage) as store:
        return run_study(
            store,
            asked,
            args.storage,
            args.progress,
            begin=lambda store, config, say: design_study(store, config, seconds, say=say),
            after=lambda study, results: _write(study, results, args.storage, out),
        )


def _settings(args: argparse.Namespace) -> dict[str, Any]:
    """What is asked for, as a study file has it."""
    from automl.designs.from_batches import CALIBRATION

    cells = {} if args.kinds is None else {"kinds": [kind.strip() for kind in args.kinds.split(",")]}
    return {
        "name": args.name,
        "data": {**_data(args), "calibration_size": CALIBRATION},
        "space": {"cells": cells},
        "budget": args.budget,
        "baselines": ["uniform", *args.rival],
        "seeds": [args.seed],
        "runner": {"workers": args.workers},
        "artifacts": args.artifacts,
        **({} if args.task is None else {"task": args.task}),
    }


def _data(args: argparse.Namespace) -> dict[str, Any]:
    """The section `data` of what `--data` names. Errors: `ConfigError`, `DataError`."""
    from automl.data.table_file import columns_of
    from automl.errors import ConfigError

    path = Path(args.data).expanduser()
    ending = "".join(path.suffixes[-2:])
    table = ending.endswith((".csv", ".tsv", ".csv.gz", ".tsv.gz"))
    own = "folder" if path.is_dir() else "table" if table else "arrays" if path.suffix == ".npz" else None
    if table and args.target is None:
        raise ConfigError(f"{args.data} needs --target, the column to predict: {columns_of(path)}")
    if own is not None and args.data_root is not None:
        raise ConfigError(f"--data-root is for built-in data, and {args.data} is where data lie: leave it out")
    root = path if own is not None else args.data_root and Path(args.data_root)
    found = {
        "name": own or args.data,
        "root": root and str(root.resolve()),
        "image_size": args.image_size,
        "target": args.target,
    }
    return {key: value for key, value in found.items() if value is not None}


def _write(study: Study, results: Results, storage: str, out: Path) -> None:
    """Export the winner to the folder `out`, with the study file that would search it again, and the report."""
    from automl.config.written import written
    from automl.report.architectures import drawn_up
    from automl.report.html.report_page import write_page
    from automl.study.certificates import write_export
    from automl.study.conclude import manifest
    from search_spaces import CellsStep

    record, store = results.winner, study.store
    artifacts = write_export(study, record, results.network, out, FORMATS.split(","), manifest(study, record))
    for artifact in artifacts:
        store.add_artifact(study.record.id, record.id, artifact.kind, artifact.path.resolve(), artifact.sha256)
    file, report = out / "study.yaml", out / "report.html"
    file.write_text(written(study.config, "The study that made the network beside it: `automl search` runs it again."))
    write_page(store, study.record.name, report, storage)
    architecture = results.plan.get(CellsStep).architecture
    assert architecture is not None
    print(f"\n{drawn_up(architecture)}\n")
    for path in (*(artifact.path for artifact in artifacts), file, report):
        print(f"  {path}  {path.stat().st_size:,} bytes")

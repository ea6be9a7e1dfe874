"""`automl export NAME`: the winner, rebuilt as the trial evaluated it, as files that deploy."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from automl.commands.certify import told
from automl.commands.options import add_artifacts, add_code, add_data_root, add_storage
from automl.commands.search import overridden
from automl.errors import ExportError, StudyError

if TYPE_CHECKING:
    from automl.store import TrialRecord
    from automl.study.study import Study

FORMATS = "safetensors,pt2,onnx"
ALL_FORMATS = ("safetensors", "pt2", "onnx", "onnx-int8", "openvino", "executorch", "tflite", "tflite-int8")
"""The names in `automl.export.formats`, which takes longer to load."""
UPDATE = "update.bin"


def arguments(parser: argparse.ArgumentParser) -> None:
    """The study, which of its trials, and the files to write."""
    add_storage(parser)
    parser.add_argument("name", metavar="NAME", help="name of the study")
    parser.add_argument("--out", metavar="DIR", required=True, help="folder for the files")
    parser.add_argument(
        "--format",
        default=FORMATS,
        metavar="LIST",
        help=f"comma-separated, of {', '.join(ALL_FORMATS)} and those that packages bring (default: %(default)s)",
    )
    parser.add_argument("--trial", metavar="AGENT/SEED/NUMBER", help="a trial to export instead of the winner")
    parser.add_argument(
        "--since",
        metavar="OLD",
        help=f"an earlier export or its file of weights: write {UPDATE}, what turns it into this",
    )
    add_code(parser)
    add_data_root(parser)
    add_artifacts(parser)


def run(args: argparse.Namespace) -> int:
    """Export the winner or the trial named, and record the files as artifacts. With a limit on latency the files are
    certified: 1 if they do not keep it here and now."""
    from automl.config.runner import RunnerConfig
    from automl.evaluation.certify import CERTIFICATE, certify
    from automl.export.update import make_update
    from automl.measures.backends.registry import backend_of
    from automl.store import open_store
    from automl.study.certificates import write_certificate, write_export
    from automl.study.conclude import certified_network, certified_winner, manifest
    from automl.study.study import Study
    from automl.study.trust import trusted_config

    formats = [part.strip() for part in args.format.split(",") if part.strip()]
    old = None if args.since is None else _old_weights(args.since)
    if old is not None and "safetensors" not in formats:
        raise ExportError("--since is about the file of weights: name safetensors among the formats")
    with open_store(args.storage, create=False) as store:
        config = trusted_config(store, args.name, args.code, args.code_root)
        study = Study(store, replace(overridden(config, args), runner=RunnerConfig()))
        record = study.winner() if args.trial is None else _trial(study, args.trial)
        if record is None:  # a study that was not finished
            record, network = certified_winner(study)
        else:
            network = certified_network(study, record)
        term, out = config.parsed_budget.latency, Path(args.out)
        if term is not None and backend_of(term.backend).format not in formats:
            formats.append(backend_of(term.backend).format)
        artifacts = write_export(study, record, network, out, formats, manifest(study, record))
        for artifact in artifacts:
            store.add_artifact(study.record.id, record.id, artifact.kind, artifact.path.resolve(), artifact.sha256)
    within = f", within {config.parsed_budget.text}" if config.budget else ""
    print(f"trial {record.number} of {record.agent}, seed {record.seed}{within}:")
    for artifact in artifacts:
        print(f"  {artifact.path}  {artifact.bytes:,} bytes")
    if old is not None:
        weights = next(artifact.path for artifact in artifacts if artifact.kind == "safetensors")
        update = make_update(old, weights)
        (out / UPDATE).write_bytes(update)
        print(f"  {out / UPDATE}  {len(update):,} bytes, which turn {old} into {weights.name}")
    if term is None:
        return 0
    certificate = certify(out)
    write_certificate(certificate, out / CERTIFICATE)
    return told(certificate)


def _old_weights(since: str) -> Path:
    """The file of weights that an update is to start from."""
    from automl.export.formats import FORMATS as KNOWN

    path = Path(since) / KNOWN["safetensors"].file if Path(since).is_dir() else Path(since)
    if not path.is_file():
        raise ExportError(f"--since expects the folder of an export or its file of weights, and there is no {path}")
    return path


def _trial(study: Study, text: str) -> TrialRecord:
    """The done trial that AGENT/SEED/NUMBER names."""
    from agents import TrialState
    from automl.store.lookup import trial_named

    record = trial_named(study.store, study.record, text)
    if record.state is not TrialState.DONE:
        raise StudyError(f"trial {text} of study {study.record.name!r} is {record.state}: export one that is done")
    return record

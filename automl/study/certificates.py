"""The certificate of a study's network for a limit on latency, recorded with its numbers and as a file."""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from automl.evaluation.certify import CERTIFICATE, certify, measurements_of
from automl.export import export
from automl.export.integer_onnx import SAMPLES
from automl.measures.backends.registry import backend_of
from automl.store import TrialRecord
from automl.study.artifacts import artifacts_folder
from automl.study.finishing import reported_network, reported_plan
from automl.study.study import Study
from automl.tasks.problem import Problem
from automl.types import Measurement, Phase
from automl.util.files import replacing

KIND = "certificate"
"""Of an artifact."""


def certificate_of(
    study: Study, record: TrialRecord, network: nn.Module, manifest: Mapping[str, Any]
) -> dict[str, Any]:
    """Export the trial's network beside the original, and certify it from the files."""
    term = study.config.parsed_budget.latency
    assert term is not None
    with tempfile.TemporaryDirectory() as folder:
        write_export(study, record, network, Path(folder), [backend_of(term.backend).format], manifest)
        return certify(Path(folder))


def record_certificate(study: Study, record: TrialRecord, certificate: Mapping[str, Any]) -> list[Measurement]:
    """Put a certificate of the trial's network on record, with its numbers and as a file; its numbers."""
    measured = measurements_of(certificate, Phase.CERTIFICATE)
    path = artifacts_folder(study.store, study.config) / f"{record.point.key}.{CERTIFICATE}"
    digest = write_certificate(certificate, path)
    study.store.add_measurements(record.id, measured)
    study.store.add_artifact(study.record.id, record.id, KIND, path.resolve(), digest)
    return measured


def write_export(
    study: Study,
    record: TrialRecord,
    network: nn.Module,
    out: Path,
    formats: list[str],
    manifest: Mapping[str, Any],
) -> list[Any]:
    """Export the trial's network with all that the study knows: what 8-bit ranges are found on, and the original where
    a limit on latency wants it beside. Errors: `ExportError`."""
    problem = study.setup.problem
    return export(
        network,
        problem.example_inputs,
        reported_plan(study, record.point),
        out,
        formats,
        manifest=manifest,
        calibration=calibration_inputs(problem),
        original=original_beside(study),
    )


def original_beside(study: Study) -> nn.Module | None:
    """The original, which an export is measured beside if latency is limited."""
    if study.config.parsed_budget.latency is None:
        return None
    return reported_network(study, study.setup.space.original_point)


def write_certificate(certificate: Mapping[str, Any], path: Path) -> str:
    """Write a certificate as JSON; the file's SHA-256. Errors: `StudyError`."""
    content = (json.dumps(certificate, indent=2) + "\n").encode()
    with replacing(path, "the certificate", make_folder=True) as partial:
        partial.write_bytes(content)
    return hashlib.sha256(content).hexdigest()


def calibration_inputs(problem: Problem) -> list[tuple[Tensor, ...]]:
    """The inputs of the first calibration batches, `SAMPLES` samples in all."""
    found: list[tuple[Tensor, ...]] = []
    left = SAMPLES
    for inputs, _ in problem.calibration:
        if left > 0:
            found.append(tuple(x[:left] for x in inputs))
            left -= len(inputs[0])
    return found

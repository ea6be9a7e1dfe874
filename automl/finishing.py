"""The best of each lane made ready to be reported: refitted, trained if the study says so, counted, measured.

A refitted network is rebuilt whenever it is needed. A trained one is kept in a file; while it is trained a checkpoint
lies beside that, from which a study that was killed goes on.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

from torch import nn

from automl.artifacts import artifacts_folder, read_weights, write_weights
from automl.errors import NotFiniteError
from automl.session import FINAL, REFITTED, TRAINING
from automl.store import ArtifactRecord, TrialRecord
from automl.study import BASE, Study
from automl.training.trainer import History
from automl.types import Measurement
from search_spaces import Point

WEIGHTS = "trained weights"
"""The kind of artifact that a trained network is."""


def finish(study: Study, say: Callable[[str], None] = lambda text: None) -> None:
    """Rebuild the finalists of every lane with care, train them, count them, and measure them on all validation data.

    Networks that are equal are finished once. A `BudgetError` if one is over the budget as counted.
    """
    lanes = [(BASE, 0), *((agent.name, seed) for agent, seed in study.config.lanes)]
    records = [record for agent, seed in lanes for record in study.finalists(agent, seed)]
    missing = [record for record in records if FINAL + study.config.objective not in record.values]
    if not missing:
        return
    measured = _known(study)
    left = {record.point.key: record for record in missing if record.point.key not in measured}
    if left:
        say(f"finishing {len(left)} networks")
    for record in missing:
        key = record.point.key
        if key not in measured:
            told = partial(_say, say, f"network {list(left).index(key) + 1} of {len(left)}")
            measured[key] = _finished(study, record, told)
        study.store.add_measurements(record.id, measured[key])
        _checkpoint(study, record.point).unlink(missing_ok=True)


def reported_network(study: Study, point: Point) -> nn.Module:
    """The network at `point` as it is reported: with its trained weights if it was trained, or rebuilt."""
    artifact = _artifact(study, point)
    if artifact is None:
        return study.finisher.network(point)
    network = study.setup.space.build(study.finisher.plan(point)).eval()
    recorded = Path(artifact.path)
    beside = artifacts_folder(study.store, study.config) / recorded.name  # the database may have moved, with its files
    read_weights(network, recorded if recorded.exists() else beside, artifact.sha256)
    return network


def was_trained(study: Study, point: Point) -> bool:
    """Whether the network that is reported at `point` has been trained."""
    return _artifact(study, point) is not None


def _finished(study: Study, record: TrialRecord, say: Callable[[str], None]) -> list[Measurement]:
    """What the trial's network is worth and costs in the end, and the course of its training if it had one."""
    finisher, point = study.finisher, record.point
    network = finisher.network(point)
    if record.agent == BASE:
        return finisher.measure_validation(network, prefix=FINAL)
    finisher.certify(network)
    if study.config.training is None or not finisher.changes(point):
        return finisher.measure_validation(network, prefix=FINAL)
    before = finisher.measure(network, study.setup.problem.validation, prefix=REFITTED)
    say(f"trial {record.number} of {record.agent}, seed {record.seed}, {_in_words(before)} before training")
    try:
        course = _train(study, record, network, say)
    except NotFiniteError as error:
        say(f"{error}. The network stays as it was before")
        return [*before, *finisher.measure_validation(finisher.network(point), prefix=FINAL)]
    network = reported_network(study, point)
    finisher.certify(network)
    return [*before, *course, *finisher.measure_validation(network, prefix=FINAL)]


def _train(study: Study, record: TrialRecord, network: nn.Module, say: Callable[[str], None]) -> list[Measurement]:
    """Train `network`, keep its weights in a file, and record that; the course of the training."""
    assert study.config.training is not None
    accuracy = [metric for metric in ("accuracy", "loss") if metric in study.setup.problem.metrics][:1]
    checkpoint = _checkpoint(study, record.point)
    history = study.finisher.train(
        network, record.point, study.config.training, validated=accuracy, checkpoint=checkpoint, say=say
    )
    path = checkpoint.with_suffix(".safetensors")
    digest = write_weights(network, path)
    known = _artifact(study, record.point)
    if known is None or known.sha256 != digest:
        study.store.add_artifact(study.record.id, record.id, WEIGHTS, path.resolve(), digest)
    return _course(history)


def _course(history: History) -> list[Measurement]:
    """Training loss, seconds so far and what was validated, after each epoch."""
    measured, seconds = [], 0.0
    for step, epoch in enumerate(history.epochs, start=1):
        seconds += epoch.wall_s
        measured += [
            Measurement(f"{TRAINING}loss", epoch.loss, n=epoch.samples, step=step),
            Measurement(f"{TRAINING}s", seconds, "s", step=step),
            *(Measurement(f"{TRAINING}validation_{k}", value, step=step) for k, value in epoch.validation.items()),
        ]
    return measured


def _known(study: Study) -> dict[str, list[Measurement]]:
    """Key of a Point -> what has been measured of its finished network already, in any lane."""
    parts = (FINAL, REFITTED, TRAINING)
    return {
        record.point.key: [m for m in record.measurements if m.metric.startswith(parts)]
        for record in study.store.trials(study.record.id)
        if FINAL + study.config.objective in record.values
    }


def _artifact(study: Study, point: Point) -> ArtifactRecord | None:
    """The file of the trained network at `point`, the last one recorded."""
    found = [a for a in study.store.artifacts(study.record.id) if a.kind == WEIGHTS and Path(a.path).stem == point.key]
    return found[-1] if found else None


def _checkpoint(study: Study, point: Point) -> Path:
    return artifacts_folder(study.store, study.config) / f"{point.key}.checkpoint"


def _say(say: Callable[[str], None], place: str, text: str) -> None:
    say(f"{place}: {text}")


def _in_words(measurements: list[Measurement]) -> str:
    return ", ".join(f"{m.metric.removeprefix(REFITTED)} {m.value:.4f}" for m in measurements)

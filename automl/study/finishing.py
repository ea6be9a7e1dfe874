"""The best of each lane made ready to be reported: refitted, trained if the study says so, counted, measured.

A refitted network is rebuilt whenever it is needed. One that was trained, or tuned block by block, is kept in a file,
which says what it was built from; while it is trained a checkpoint of each stage lies beside that, from which a study
that was killed goes on.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from torch import nn

from agents import Goal
from automl.errors import NotFiniteError
from automl.evaluation import Evaluator
from automl.store import ArtifactRecord, TrialRecord
from automl.study.artifacts import artifacts_folder, file_of, read_plan, read_weights, write_weights
from automl.study.stages import cut_towards, prune_in_stages, stages
from automl.study.study import BASE, Study
from automl.training.trainer import History
from automl.types import Measurement, Phase, in_phase
from search_spaces import ChannelSpace, Plan, Point

WEIGHTS = "trained weights"
"""The kind of artifact that a network is whose weights were learnt: trained, or tuned block by block."""


def finish(study: Study, say: Callable[[str], None] = lambda text: None) -> None:
    """Rebuild the finalists of every lane with care, train them, count them, and measure them on all validation data.

    Networks that are equal are finished once. A `BudgetError` if one is over the budget as counted.
    """
    lanes = [(BASE, 0), *((agent.name, seed) for agent, seed in study.config.lanes)]
    records = [record for agent, seed in lanes for record in study.finalists(agent, seed)]
    missing = [record for record in records if study.config.objective not in record.values_of(Phase.FINAL)]
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
        for checkpoint in _folder(study).glob(f"{key}.*checkpoint"):
            checkpoint.unlink()


def reported_network(study: Study, point: Point) -> nn.Module:
    """The network at `point` as it is reported: with the weights that are kept in a file, or rebuilt."""
    artifact = _artifact(study, point)
    if artifact is None:
        return study.finisher.network(point)
    network = study.setup.space.build(reported_plan(study, point)).eval()
    read_weights(network, file_of(artifact, _folder(study)), artifact.sha256)
    return network


def reported_plan(study: Study, point: Point) -> Plan:
    """What the network that is reported at `point` was built from: channels cut in stages are chosen on the way."""
    artifact = _artifact(study, point)
    kept = read_plan(file_of(artifact, _folder(study)), artifact.sha256) if artifact is not None else None
    return kept or study.finisher.plan(point)


def was_trained(study: Study, point: Point) -> bool:
    """Whether the network that is reported at `point` has been trained."""
    return study.config.training is not None and _artifact(study, point) is not None


def _finished(study: Study, record: TrialRecord, say: Callable[[str], None]) -> list[Measurement]:
    """What the trial's network is worth and costs in the end, and the course of its training if it had one."""
    finisher, point = study.finisher, record.point
    network = finisher.network(point)
    if record.agent == BASE:
        return _final(finisher, network)
    finisher.certify(network)
    if not finisher.changes(point):
        return _final(finisher, network)
    if study.config.training is None:
        if study.config.finish.reconstruction == "blockwise":  # to tune them takes minutes
            _keep(study, record, network, finisher.plan(point))
            network = reported_network(study, point)
        return _final(finisher, network)
    before = in_phase(Phase.REFITTED, finisher.measure(network, study.setup.problem.validation))
    say(f"trial {record.number} of {record.agent}, seed {record.seed}, {_in_words(before)} before training")
    try:
        course = _train(study, record, network, say)
    except NotFiniteError as error:
        say(f"{error}. The network stays as it was before")
        return [*before, *_final(finisher, finisher.network(point))]
    network = reported_network(study, point)
    finisher.certify(network)
    after = _final(finisher, network)
    _tell_if_worse(before, after, finisher.judged, say)
    return [*before, *course, *after]


def _final(finisher: Evaluator, network: nn.Module) -> list[Measurement]:
    """What a network is worth and costs as it is reported."""
    return in_phase(Phase.FINAL, finisher.measure_validation(network))


def _tell_if_worse(
    before: Sequence[Measurement], after: Sequence[Measurement], goal: Goal, say: Callable[[str], None]
) -> None:
    """Say so if training took more than it gave. The network counts as trained all the same: validation images that
    the original has been trained on flatter what is not trained."""
    was = next(m.value for m in before if m.metric == goal.metric)
    now = next(m.value for m in after if m.metric == goal.metric)
    if goal.utility(now) < goal.utility(was):
        say(
            f"validation {goal.metric} went from {was:.4f} to {now:.4f} in training: a lower learning_rate or more "
            f"epochs may help"
        )


def _train(study: Study, record: TrialRecord, network: nn.Module, say: Callable[[str], None]) -> list[Measurement]:
    """Train `network`, or what is cut in stages, keep the weights in a file, and record that; the course of it all."""
    point = record.point
    plan = study.finisher.plan(point)
    if study.config.finish.stages is None:
        histories = [_tune(study, point, network, plan, f"{point.key}.checkpoint", say)]
    else:
        network, plan, histories = _in_stages(study, point, study.config.finish.stages.count, say)
    _keep(study, record, network, plan)
    return _course(histories)


def _keep(study: Study, record: TrialRecord, network: nn.Module, plan: Plan) -> None:
    """Write the weights of `network`, which `plan` made, to a file, and record that."""
    path = _folder(study) / f"{record.point.key}.safetensors"
    digest = write_weights(network, plan, path)
    known = _artifact(study, record.point)
    if known is None or known.sha256 != digest:
        study.store.add_artifact(study.record.id, record.id, WEIGHTS, path.resolve(), digest)


def _in_stages(
    study: Study, point: Point, count: int, say: Callable[[str], None]
) -> tuple[nn.Module, Plan, list[History]]:
    """The network at `point`, cut and trained `count` times from the whole one on; its plan; how each training went.

    A stage that was done before a kill is cut again, which gives the same and is quick unless blocks are tuned; its
    checkpoint is at its end.
    """
    space = study.setup.space
    assert isinstance(space, ChannelSpace)  # the configuration refuses stages of any other
    whole, goal = ({"macs": space.cost(p, "macs")} for p in (study.setup.space.original_point, point))
    budgets = stages(whole, goal, count)
    histories: list[History] = []

    def tune(network: nn.Module, plan: Plan, stage: int) -> None:
        told = partial(_say, say, f"stage {stage + 1} of {count}, {budgets[stage]['macs'] / whole['macs']:.1%} of MACs")
        histories.append(_tune(study, point, network, plan, f"{point.key}.{stage + 1}.checkpoint", told))

    last = prune_in_stages(space, budgets, cut_towards(point, study.finisher_of), tune)[-1]
    return last.network, last.plan, histories


def _tune(
    study: Study, point: Point, network: nn.Module, plan: Plan, checkpoint: str, say: Callable[[str], None]
) -> History:
    """Train `network`, which `plan` made, in place."""
    assert study.config.training is not None
    return study.finisher.train(
        network,
        point,
        study.config.training,
        plan=plan,
        validated=True,
        checkpoint=_folder(study) / checkpoint,
        say=say,
    )


def _course(histories: Sequence[History]) -> list[Measurement]:
    """Training loss, seconds so far and what was validated, after each epoch, counted on from stage to stage."""
    measured: list[Measurement] = []
    seconds = 0.0
    for step, epoch in enumerate((epoch for history in histories for epoch in history.epochs), start=1):
        seconds += epoch.wall_s
        measured += [
            Measurement("loss", epoch.loss, n=epoch.samples, step=step),
            Measurement("s", seconds, "s", step=step),
            *(Measurement(f"validation_{k}", value, step=step) for k, value in epoch.validation.items()),
        ]
    return in_phase(Phase.TRAINING, measured)


def _known(study: Study) -> dict[str, list[Measurement]]:
    """Key of a Point -> what has been measured of its finished network already, in any lane."""
    phases = (Phase.REFITTED, Phase.TRAINING, Phase.FINAL)
    return {
        record.point.key: [m for m in record.measurements if m.phase in phases]
        for record in study.store.trials(study.record.id)
        if study.config.objective in record.values_of(Phase.FINAL)
    }


def _artifact(study: Study, point: Point) -> ArtifactRecord | None:
    """The file of the trained network at `point`, the last one recorded."""
    found = [a for a in study.store.artifacts(study.record.id) if a.kind == WEIGHTS and Path(a.path).stem == point.key]
    return found[-1] if found else None


def _folder(study: Study) -> Path:
    return artifacts_folder(study.store, study.config)


def _say(say: Callable[[str], None], place: str, text: str) -> None:
    say(f"{place}: {text}")


def _in_words(measurements: list[Measurement]) -> str:
    return ", ".join(f"{m.metric} {m.value:.4f}" for m in measurements)

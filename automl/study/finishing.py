"""The best of each lane made ready to be reported: refitted, trained if the study says so, counted, measured.

A refitted network is rebuilt when it is needed, and remembered while its study is concluded. One that was trained, or
tuned block by block, is kept in a file, which says what it was built from; while it is trained a checkpoint of each
stage lies beside that, from which a study that was killed goes on.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from torch import nn

from agents import Goal
from automl.config.training import StageOptions, TrainingOptions
from automl.errors import NotFiniteError
from automl.evaluation import Evaluator
from automl.measures.counts import COUNTED
from automl.store import ArtifactRecord, TrialRecord
from automl.study.artifacts import artifacts_folder, file_of, read_plan, read_weights, write_weights
from automl.study.selection import WEIGHTS
from automl.study.stages import Cut, cut_greedily, cut_towards, prune_in_stages, stages
from automl.study.study import Study
from automl.training.history import History
from automl.training.methods.base import Method
from automl.training.methods.growing_decay import GrowingDecay
from automl.types import BASE, Measurement, Phase, Say, in_phase, silent
from search_spaces import ChannelsStep, Plan, Point

COST_NAMES = {"macs": "MACs", "size_bytes": "bytes"}
"""Cost -> its name in a sentence, where that is another."""

REMEMBERED = 4
"""Networks that a study remembers, those asked for last: to fit one again takes as long as a trial, or longer."""


def finish(study: Study, say: Say = silent) -> None:
    """Rebuild the finalists with care, train them, count them, and measure them on all validation data.

    Networks that are equal are finished once. A `BudgetError` if one is over the budget as counted.
    """
    missing = unfinished(study)
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


def takes_minutes(study: Study) -> bool:
    """Whether finishing a network tunes or trains it, which its trial did not, and leaves its structure as it is."""
    options = study.config.finish
    trains = study.training is not None or options.reconstruction == "blockwise"
    tried_quickly = study.evaluator.original is not None and study.config.evaluation.training is None
    return trains and options.stages is None and tried_quickly


def unfinished(study: Study) -> list[TrialRecord]:
    """The finalists that have not been finished."""
    return [record for record in study.finalists() if study.config.objective not in record.values_of(Phase.FINAL)]


def reported_network(study: Study, point: Point) -> nn.Module:
    """The network at `point` as it is reported: with the weights that are kept in a file, or rebuilt.

    The next call gives the same one, which nobody may change therefore.
    """
    artifact = _artifact(study, point)
    key = (point.key, artifact.sha256 if artifact is not None else None)
    known = study.networks.get(key)
    return _remembered(study, key, _reported(study, point, artifact) if known is None else known)


def _reported(study: Study, point: Point, artifact: ArtifactRecord | None) -> nn.Module:
    """The network at `point`, made now."""
    if artifact is None:  # a new network has the weights that its trial gave it
        maker = study.judge_of(study.config.agent.name) if study.evaluator.original is None else study.finisher
        return maker.network(point)
    network = study.setup.space.build(reported_plan(study, point)).eval()
    read_weights(network, file_of(study.record, artifact, _folder(study)), artifact.sha256)
    return network


def _remembered(study: Study, key: tuple[str, str | None], network: nn.Module) -> nn.Module:
    """`network`, which the study remembers as the last that was asked for."""
    study.networks[key] = network
    study.networks.move_to_end(key)
    while len(study.networks) > REMEMBERED:
        study.networks.popitem(last=False)
    return network


def reported_plan(study: Study, point: Point) -> Plan:
    """What the network that is reported at `point` was built from: channels cut in stages are chosen on the way."""
    artifact = _artifact(study, point)
    kept = read_plan(file_of(study.record, artifact, _folder(study)), artifact.sha256) if artifact is not None else None
    return kept or study.finisher.plan(point)


def reported_point(study: Study, point: Point) -> Point:
    """The widths of the network that is reported at `point`: its own where those were found in stages."""
    options = study.config.finish.stages
    if options is None or options.cut == "point" or _artifact(study, point) is None:
        return point
    space, kept = study.setup.space, reported_plan(study, point).get(ChannelsStep).kept
    return space.point([len(kept[knob.name]) for knob in space.knobs])


def was_trained(study: Study, point: Point) -> bool:
    """Whether the network that is reported at `point` has been trained."""
    return study.training is not None and _artifact(study, point) is not None


def _finished(study: Study, record: TrialRecord, say: Say) -> list[Measurement]:
    """What the trial's network is worth and costs in the end, and the course of its training if it had one."""
    finisher, point = study.finisher, record.point
    network = finisher.network(point)
    if record.agent != BASE:
        finisher.certify(network)
    if not finisher.changes(point):
        return _final(finisher, network)
    if study.training is None:
        if study.inherits or study.config.finish.reconstruction == "blockwise":  # to tune them takes minutes
            _keep(study, record, network, finisher.plan(point))
            return _final(finisher, reported_network(study, point))
        return _final(finisher, _remembered(study, (point.key, None), network))
    before = _before_training(study, record, network, say)
    try:
        course = _train(study, record, network, say)
    except NotFiniteError as error:
        say(f"{error}. The network stays as it was before")
        return [*before, *_final(finisher, reported_network(study, point))]
    network = reported_network(study, point)
    finisher.certify(network)
    after = [*_final(finisher, network), *_predicted(study, point)]
    if before:
        _tell_if_worse(before, after, finisher.judged, say)
    return [*before, *course, *after]


def _before_training(study: Study, record: TrialRecord, network: nn.Module, say: Say) -> list[Measurement]:
    """What the trial's network is worth before it is trained; nothing of one that is new."""
    if study.finisher.original is None:
        say(f"training trial {record.number} of {record.agent}, seed {record.seed}, from new weights")
        return []
    before = in_phase(Phase.REFITTED, study.finisher.measure(network, study.setup.problem.validation))
    say(f"trial {record.number} of {record.agent}, seed {record.seed}, {_in_words(before)} before training")
    return before


def _final(finisher: Evaluator, network: nn.Module) -> list[Measurement]:
    """What a network is worth and costs as it is reported."""
    return in_phase(Phase.FINAL, finisher.measure_validation(network))


def _predicted(study: Study, point: Point) -> list[Measurement]:
    """What the network that is reported at `point` is predicted to cost where that is not counted, if it is not what
    the trial was predicted to."""
    made, space = reported_point(study, point), study.setup.space
    if made == point:
        return []
    costs = [Measurement(m, space.cost(made, m), "ms") for m in space.metrics if m not in COUNTED]
    return in_phase(Phase.FINAL, costs)


def _tell_if_worse(before: Sequence[Measurement], after: Sequence[Measurement], goal: Goal, say: Say) -> None:
    """Say so if training took more than it gave. The network counts as trained all the same: validation images that
    the original has been trained on flatter what is not trained."""
    was = next(m.value for m in before if m.metric == goal.metric)
    now = next(m.value for m in after if m.metric == goal.metric)
    if goal.utility(now) < goal.utility(was):
        say(
            f"validation {goal.metric} went from {was:.4f} to {now:.4f} in training: a lower learning_rate or more "
            f"epochs may help"
        )


def _train(study: Study, record: TrialRecord, network: nn.Module, say: Say) -> list[Measurement]:
    """Train `network`, or what is cut in stages, keep the weights in a file, and record that; the course of it all."""
    point, training, options = record.point, study.training, study.config.finish.stages
    assert training is not None
    if options is None:
        plan = study.finisher.plan(point)
        histories = [_tune(study, point, network, plan, training, f"{point.key}.checkpoint", say)]
    else:
        network, plan, histories = _in_stages(study, point, options, training, say)
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
    study: Study, point: Point, options: StageOptions, training: TrainingOptions, say: Say
) -> tuple[nn.Module, Plan, list[History]]:
    """The network of `point`, cut and trained stage by stage from the whole one on; its plan; how each training went.

    A stage that was done before a kill is cut again, which gives the same and is quick unless blocks are tuned; its
    checkpoints are at their ends.
    """
    space = study.setup.given_space
    metrics = _limiting(study, options)
    whole, goal = ({name: space.cost(p, name) for name in metrics} for p in (space.original_point, point))
    budgets = stages(whole, goal, options.count)
    before, after = options.epochs(training.epochs)
    histories: list[History] = []

    def told(stage: int, doing: str) -> Say:
        part = f"{budgets[stage][metrics[0]] / whole[metrics[0]]:.1%} of {COST_NAMES.get(metrics[0], metrics[0])}"
        return partial(_say, say, f"stage {stage + 1} of {options.count}, {doing}{part}")

    def press(network: nn.Module, plan: Plan, coming: Plan, stage: int) -> None:
        # What is pressed out is so in the last weights only.
        pressing = replace(training, epochs=before, keep="last", ema=None)
        decay = GrowingDecay(space, coming, before=plan)
        checkpoint = f"{point.key}.{stage + 1}.pressing.checkpoint"
        course = _tune(study, point, network, plan, pressing, checkpoint, told(stage, "before the cut to "), decay)
        histories.append(course)

    def tune(network: nn.Module, plan: Plan, stage: int) -> None:
        tuning = replace(training, epochs=after)
        histories.append(
            _tune(study, point, network, plan, tuning, f"{point.key}.{stage + 1}.checkpoint", told(stage, ""))
        )

    last = prune_in_stages(
        space, budgets, _cut(study, point, options), tune, press=press if before else None, early=_early(study)
    )[-1]
    return last.network, last.plan, histories


def _limiting(study: Study, options: StageOptions) -> list[str]:
    """The costs by which stages are budgeted: MACs on the way to a Point, which has its other costs in the end."""
    return ["macs"] if options.cut == "point" else list(study.setup.limits) or ["macs", "params"]


def _cut(study: Study, point: Point, options: StageOptions) -> Cut:
    """How each stage cuts."""
    if options.cut == "point":
        return cut_towards(point, study.finisher_of)
    sparsify = study.config.sparsify
    return cut_greedily(within_groups=sparsify is None or sparsify.method != "group_lasso")


def _early(study: Study) -> nn.Module | None:
    """The recorded network with the weights that stages are rewound to, if they are."""
    if study.setup.early is None:
        return None
    state, early = study.setup.early.state_dict(), copy.deepcopy(study.setup.given_space.original)
    early.load_state_dict({name: state[name] for name in early.state_dict()})  # what never runs is not recorded
    return early


def _tune(
    study: Study,
    point: Point,
    network: nn.Module,
    plan: Plan,
    options: TrainingOptions,
    checkpoint: str,
    say: Say,
    *methods: Method,
) -> History:
    """Train `network`, which `plan` made, in place."""
    return study.finisher.train(
        network,
        point,
        options,
        plan=plan,
        validated=True,
        checkpoint=_folder(study) / checkpoint,
        methods=methods,
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


def _say(say: Say, place: str, text: str) -> None:
    say(f"{place}: {text}")


def _in_words(measurements: list[Measurement]) -> str:
    return ", ".join(f"{m.metric} {m.value:.4f}" for m in measurements)

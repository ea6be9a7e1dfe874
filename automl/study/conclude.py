"""What a study has found: the best trial of each lane, measured once on what the search never saw."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from typing import Any

from torch import nn

from automl.config.budget import Term
from automl.config.training import StageOptions
from automl.errors import BudgetError, ExportError
from automl.evaluation.certify import LIMIT, limit_record, used
from automl.measures import compare_latency, peak_activation_bytes
from automl.store import OptunaProjection, TrialRecord, conclude_study
from automl.study.cautions import cautions
from automl.study.certificates import certificate_of, record_certificate
from automl.study.finishing import (
    finish,
    reported_network,
    reported_plan,
    reported_point,
    takes_minutes,
    unfinished,
    was_trained,
)
from automl.study.other_models import other_models
from automl.study.reportable import ranking
from automl.study.rules import rules_kept
from automl.study.scratch import scratch_controls
from automl.study.selection import Row, table_rows
from automl.study.study import Study
from automl.types import BASE, Measurement, Phase, Say, in_phase, silent
from automl.util.fingerprint import fingerprint
from search_spaces import Plan
from search_spaces.pricing.metrics import PEAK

CANDIDATES = 10
"""How many of the best networks are timed in search of one that keeps a limit on latency."""


@dataclass(frozen=True)
class Results:
    """The outcome of a study."""

    rows: tuple[Row, ...]
    """The original first, then the agents in the order in which they ran; agents without a done trial left out."""
    winner: TrialRecord
    network: nn.Module
    """The winner's network, rebuilt and counted to be within the budget."""
    plan: Plan
    notes: tuple[str, ...]
    """What a reader of the numbers should know."""


def conclude(study: Study, say: Say = silent) -> Results:
    """Rebuild the winner, certify it, measure what has not been measured yet, and record that and which it is.

    Test metrics are measured on the best trial of each lane, latency and peak memory on the best of each agent,
    each once: when they are in the database they are not measured again. `BudgetError` if no network keeps the
    budget, `StudyError` if no trial is done, or none keeps the guarantee.
    """
    winner, network = _finished_winner(study, say)
    rows = _rows(study)
    _measure_test(study, [record for row in rows for record in row.best], say)
    notes = _measure_speed(study, [row.shown(study.config.goal) for row in rows], say)
    table = study.setup.latency_table
    if table is not None and table.unsteady:
        notes = (*notes, table.unsteady)
    rows = _rows(study)
    winner = next(record for row in rows for record in row.best if record.id == winner.id)
    if _of_rows(study):
        notes = (*other_models(study.setup.problem, say), *notes)
    notes = (*scratch_controls(study, winner, say), *cautions(study, winner, rows[0].best[0]), *notes)
    concluded = conclude_study(study.store, winner.id, rules_kept(study, winner), notes)
    with closing(OptunaProjection.of(study.store, study.record)) as projection:
        projection.conclude()
    return Results(rows, winner, network, reported_plan(study, winner.point), concluded.notes)


def _of_rows(study: Study) -> bool:
    """Whether networks were made for the rows of a table."""
    made = getattr(study.setup.problem.model, "architecture", None)
    return study.config.space.of_cells is not None and made is not None and made.frame.size == ()


class _TooSlowError(BudgetError):
    """All networks that were timed exceed a limit on latency."""


def _finished_winner(study: Study, say: Say) -> tuple[TrialRecord, nn.Module]:
    """Finish the finalists, and certify the best; where all take too long, the next best are finished in their place.

    `BudgetError` as of `certified_winner`, once `CANDIDATES` networks have been refused or none is left.
    """
    while True:
        if _some_are_quick(study, say):
            finish(study, say)
        try:
            return certified_winner(study, say)
        except _TooSlowError:
            if len(study.refused()) >= CANDIDATES or not unfinished(study):
                raise
            say("all that are finished take too long: finishing the next best")


def _some_are_quick(study: Study, say: Say) -> bool:
    """Refuse finalists that take too long before they are tuned or trained, where that takes minutes: it changes
    weights, and no time. Whether there is anything left to finish, or `CANDIDATES` were refused.

    What keeps the limit is timed once more from the files that are reported, as all are.
    """
    if study.config.parsed_budget.latency is None or not takes_minutes(study):
        return True
    kept: set[str] = set()
    while len(study.refused()) < CANDIDATES:
        left = [r for r in unfinished(study) if r.agent != BASE and r.point.key not in kept]
        if not left:
            return True
        record = left[0]
        say(f"timing trial {record.number} of {record.agent}, seed {record.seed}, before it is finished")
        network = study.judge_of(record.agent).network(record.point)
        try:
            certificate = certificate_of(study, record, network, manifest(study, record))
        except ExportError:  # as it is its numbers may be too wild for 8 bits: what is reported will say
            kept.add(record.point.key)
            continue
        if certificate["within"]:
            kept.add(record.point.key)
        else:
            record_certificate(study, record, certificate)
    return bool(kept)


def certified_winner(study: Study, say: Say = silent) -> tuple[TrialRecord, nn.Module]:
    """The best trial whose network, rebuilt, keeps the budget as counted and, for a limit on latency, as certified.

    `BudgetError` if the best network is over what is counted, or the `CANDIDATES` best all take too long.
    """
    tried: dict[str, float] = {}
    for record in ranking(study):
        if record.point.key not in tried:
            network, tried[record.point.key] = _checked(study, record, say)
            if network is not None and tried[record.point.key] <= 1:
                return record, network
        if len(tried) == CANDIDATES:
            break
    term, refused = study.config.parsed_budget.latency, study.refused()
    assert term is not None
    least = min(refused.values())
    raise _TooSlowError(
        f"the {len(refused)} best networks were timed, and none keeps {study.config.parsed_budget.text!r}: the fastest "
        f"takes {_limit(term, least)}. The latency table promised more than there was; ask for "
        f"`latency <= {_limit(term, 0.99 / least)}` under another name"
    )


def certified_network(study: Study, record: TrialRecord, say: Say = silent) -> nn.Module:
    """The trial's network, rebuilt; a `BudgetError` if it exceeds the budget as counted or timed."""
    network, taken = _checked(study, record, say)
    if network is None or taken > 1:
        term = study.config.parsed_budget.latency
        assert term is not None
        raise BudgetError(
            f"the network exceeds its budget: it was timed at {_limit(term, taken)}, {_limit(term, 1)} are allowed. "
            f"Nothing should be shipped from this trial"
        )
    return network


def _checked(study: Study, record: TrialRecord, say: Say) -> tuple[nn.Module | None, float]:
    """The trial's network, counted to be within the budget, and the part it takes of the latency allowed, or 0.

    By the upper end of the 95 % interval. It is recorded, so that the same network wins when it is asked for again,
    and one that takes too long is not made again, which can take minutes: None.
    """
    term = study.config.parsed_budget.latency
    known = None if term is None else used(term, record.values_of(Phase.CERTIFICATE))
    if known is not None and known > 1:
        return None, known
    network = reported_network(study, record.point)
    study.finisher.certify(network)
    if term is None:
        return network, 0.0
    if known is not None:
        return network, known
    say(f"timing trial {record.number} of {record.agent}, seed {record.seed}, on {term.backend} beside the original")
    measured = record_certificate(study, record, certificate_of(study, record, network, manifest(study, record)))
    taken = used(term, {one.metric: one.value for one in measured})
    assert taken is not None
    return network, taken


def _limit(term: Term, factor: float) -> str:
    """`factor` times the limit, as it is written in a budget."""
    value = factor * term.value
    return f"{value:.1%}" if term.relative else f"{value:.3g} ms"


def manifest(study: Study, record: TrialRecord) -> dict[str, Any]:
    """What an export says about where its network came from."""
    term = study.config.parsed_budget.latency
    return {
        "study": study.record.name,
        "code_version": study.record.code_version,
        "agent": record.agent,
        "seed": record.seed,
        "trial": record.number,
        "budget": study.config.parsed_budget.text,
        "limits": study.setup.limits,
        **({LIMIT: limit_record(term, study.setup.latency_options)} if term is not None else {}),
        "point": dict(reported_point(study, record.point)),
        "sparsify": asdict(study.config.sparsify) if study.config.sparsify is not None else None,
        "reconstruction": study.config.finish.reconstruction,
        "training": _training(study, record),
        **({"supernet": asdict(study.shared.options)} if study.inherits and study.shared else {}),
        "measurements": reported(record),
        "base": reported(study.base()),
        **({"columns": dict(study.setup.problem.names)} if study.setup.problem.names else {}),
    }


def _training(study: Study, record: TrialRecord) -> dict[str, Any] | None:
    """How the network was trained, and cut in stages, or None if it was not."""
    options, stages, early = study.training, study.config.finish.stages, study.setup.early
    if options is None or not was_trained(study, record.point):
        return None
    staged = stages or StageOptions(count=1)
    return {
        **asdict(options),
        "stages": staged.count,
        "cut": staged.cut,
        "growing_decay": staged.growing_decay,
        "rewound_to": fingerprint(early) if early is not None else None,
    }


def reported(record: TrialRecord) -> dict[str, Measurement]:
    """What is told of a trial's network, by name: as it was finished, and as searched where it was not finished."""
    told = record.labelled()
    others = {name: m for name, m in told.items() if m.phase != Phase.FINAL}
    return others | {m.metric: m for m in told.values() if m.phase == Phase.FINAL}


def _rows(study: Study) -> tuple[Row, ...]:
    lanes = [(BASE, 0), *study.lanes]
    trials = [study.store.trials(study.record.id, agent=agent, seed=seed) for agent, seed in lanes]
    bests = (study.best(agent, seed) for agent, seed in lanes)
    return table_rows([lane for lane in trials if lane], [record for record in bests if record is not None])


def _measure_test(study: Study, records: Sequence[TrialRecord], say: Say) -> None:
    """Test metrics of each record that has none; equal Points are measured once."""
    problem = study.setup.problem
    missing = [record for record in records if not record.values_of(Phase.TEST)]
    if problem.test is None or not missing:
        return
    say(f"measuring {len(missing)} networks on the test data")
    batches = problem.read_test()
    measured: dict[str, list[Measurement]] = {}
    for record in missing:
        key = record.point.key
        if key not in measured:
            network = reported_network(study, record.point)
            measured[key] = in_phase(Phase.TEST, study.finisher.measure(network, batches))
        study.store.add_measurements(record.id, measured[key])


def _measure_speed(study: Study, records: Sequence[TrialRecord], say: Say) -> tuple[str, ...]:
    """Latency of one sample on one thread and peak activation memory, of all beside the original in one run."""
    if all(record.values_of(Phase.LATENCY) for record in records):
        return ()
    say("measuring latency beside the base network")
    points = {record.point.key: record.point for record in records}  # the original is the first
    networks = {key: reported_network(study, point) for key, point in points.items()}
    inputs = tuple(x[:1] for x in study.setup.problem.example_inputs)
    comparison = compare_latency(networks, inputs)
    peaks = {key: peak_activation_bytes(network, inputs) for key, network in networks.items()}
    for record in records:
        key = record.point.key
        peak = Measurement(PEAK, peaks[key], "B")
        measured = [comparison.latency(key), comparison.ratio(key), peak]
        study.store.add_measurements(record.id, in_phase(Phase.LATENCY, measured))
    return (comparison.times.unsteady,) if comparison.times.unsteady else ()

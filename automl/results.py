"""What a study has found: the best trial of each lane, measured once on what the search never saw."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn

from automl.evaluation import certify
from automl.measures import compare_latency, peak_activation_bytes
from automl.store import TrialRecord
from automl.study import BASE, Study
from automl.types import Measurement
from search_spaces import Plan


@dataclass(frozen=True)
class Row:
    """One kind of network in the table: the original, or the best of one agent for each of its seeds."""

    agent: str
    best: tuple[TrialRecord, ...]
    """The best trial of each seed that has one."""
    trials: int
    """Trials of the agent, over all seeds."""
    wall_s: float
    """Time spent on them."""

    def shown(self, study: Study) -> TrialRecord:
        """The best of the best: the one whose latency is measured."""
        return max(self.best, key=lambda record: record.to_trial().utility(study.config.goal))


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


def conclude(study: Study, say: Callable[[str], None] = lambda text: None) -> Results:
    """Rebuild the winner, certify it, measure what has not been measured yet, and record that.

    Test metrics are measured on the best trial of each lane, latency and peak memory on the best of each agent,
    each once: when they are in the database they are not measured again. `BudgetError` if the winner's network
    exceeds the budget, `StudyError` if no trial is done.
    """
    winner = study.winner()
    network = study.evaluator.network(winner.point)
    certify(network, study.setup.limits, study.setup.problem.example_inputs)
    rows = _rows(study)
    _measure_test(study, [record for row in rows for record in row.best], say)
    notes = _measure_speed(study, [row.shown(study) for row in rows], say)
    rows = _rows(study)
    winner = next(record for row in rows for record in row.best if record.id == winner.id)
    return Results(rows, winner, network, study.evaluator.plan(winner.point), notes)


def manifest(study: Study, record: TrialRecord) -> dict[str, Any]:
    """What an export says about where its network came from."""
    return {
        "study": study.record.name,
        "code_version": study.record.code_version,
        "agent": record.agent,
        "seed": record.seed,
        "trial": record.number,
        "budget": study.config.parsed_budget.text,
        "limits": study.setup.limits,
        "point": dict(record.point),
        "measurements": {m.metric: m for m in record.measurements},
        "base": {m.metric: m for m in study.base().measurements},
    }


def _rows(study: Study) -> tuple[Row, ...]:
    rows = []
    lanes = [(BASE, 0), *((agent.name, seed) for agent, seed in study.config.lanes)]
    for agent in dict.fromkeys(name for name, _ in lanes):
        trials = study.store.trials(study.record.id, agent=agent)
        bests = (study.best(agent, seed) for name, seed in lanes if name == agent)
        best = tuple(record for record in bests if record is not None)
        if best:
            rows.append(Row(agent, best, len(trials), sum(trial.wall_s or 0.0 for trial in trials)))
    return tuple(rows)


def _measure_test(study: Study, records: Sequence[TrialRecord], say: Callable[[str], None]) -> None:
    """Test metrics of each record that has none; equal Points are measured once."""
    problem = study.setup.problem
    missing = [record for record in records if not any(m.metric.startswith("test_") for m in record.measurements)]
    if problem.test is None or not missing:
        return
    say(f"measuring {len(missing)} networks on the test data")
    batches = problem.test()
    measured: dict[str, list[Measurement]] = {}
    for record in missing:
        key = record.point.key
        if key not in measured:
            measured[key] = study.evaluator.measure(study.evaluator.network(record.point), batches, prefix="test_")
        study.store.add_measurements(record.id, measured[key])


def _measure_speed(study: Study, records: Sequence[TrialRecord], say: Callable[[str], None]) -> tuple[str, ...]:
    """Latency of one sample on one thread and peak activation memory, of all beside the original in one run."""
    if all("latency_ratio" in record.values for record in records):
        return ()
    say("measuring latency beside the original network")
    points = {record.point.key: record.point for record in records}  # the original is the first
    networks = {key: study.evaluator.network(point) for key, point in points.items()}
    inputs = tuple(x[:1] for x in study.setup.problem.example_inputs)
    comparison = compare_latency(networks, inputs)
    peaks = {key: peak_activation_bytes(network, inputs) for key, network in networks.items()}
    for record in records:
        key = record.point.key
        peak = Measurement("peak_activation_bytes", peaks[key], "B")
        study.store.add_measurements(record.id, [comparison.latency(key), comparison.ratio(key), peak])
    return (comparison.unsteady,) if comparison.unsteady else ()

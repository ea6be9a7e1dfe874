"""The results of a study for people: a table, and a picture of what was kept layer by layer."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import fmean, stdev
from typing import TYPE_CHECKING

from automl.config.latency import PREDICTED
from automl.evaluation.certify import HIGH, certified
from automl.measures.counts import shown
from automl.measures.pieces import PieceModel
from automl.report.pictures import fraction_kept, picture_path, record_picture
from automl.store import TrialRecord
from automl.study.conclude import Results, Row
from automl.study.finishing import reported_point, was_trained
from automl.study.study import BASE, Study, final
from automl.tasks.base import DIVERGENCE
from automl.tasks.flattery import batch_means, flattery
from automl.tasks.metric import in_unit
from automl.tasks.objectives import WEIGHED
from automl.types import Phase
from automl.util.columns import align
from automl.util.duration import duration
from search_spaces import Point

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Column = tuple[str, Callable[[Row], str]]


def table(study: Study, results: Results) -> str:
    """One row a network: the original, then the best of each agent, mean ± standard deviation over its seeds."""
    original = results.rows[0].best[0]
    problem = study.setup.problem
    own = [name for name in problem.metrics if name not in problem.kind.metrics]
    wanted = (problem.kind.headline, study.config.objective, *own)
    names = [name for name in dict.fromkeys((*problem.metrics, DIVERGENCE)) if name in wanted]
    columns: list[Column] = [("network", lambda row: _name(row, results.winner))]
    for name in names:
        unit = problem.unit(name)
        columns.append((f"validation {name}", partial(_quality, metric=name, unit=unit)))
        if name in problem.metrics:
            if study.config.training is not None:
                columns.append(("untrained", partial(_quality, metric=name, phase=Phase.REFITTED, unit=unit)))
            columns.append((f"test {name}", partial(_quality, metric=name, phase=Phase.TEST, unit=unit)))
    if study.config.objective in WEIGHED:
        columns.append((study.config.objective, partial(_quality, metric=study.config.objective)))
    columns += [
        ("MACs", lambda row: _share(row, "macs", final(original, "macs"))),
        ("params", lambda row: _share(row, "params", final(original, "params"))),
        ("size", lambda row: _bytes(_mean(row, "size_bytes"))),
        ("latency", lambda row: _latency(row.shown(study))),
        ("trials", lambda row: str(row.trials)),
        ("time", lambda row: duration(row.wall_s)),
    ]
    lines = [[title for title, _ in columns], *([cell(row) for _, cell in columns] for row in results.rows)]
    return align(lines)


def summary(study: Study, results: Results) -> str:
    """The budget, what the winner keeps of it, and what the figures in the table mean."""
    winner = results.winner
    untrained = "tuned block by block" if study.config.finish.reconstruction == "blockwise" else "rebuilt"
    lines = [
        f"* the winner: trial {winner.number} of {winner.agent}, seed {winner.seed}, "
        f"{'trained' if was_trained(study, winner.point) else untrained}{_kept(study, winner)}"
    ]
    if len(study.config.seeds) > 1:
        lines.append(f"mean ± standard deviation over the seeds {', '.join(map(str, study.config.seeds))}")
    if reported_point(study, winner.point) != winner.point:
        lines.append("widths found in greedy stages; untrained: the network that the trial made, with its own widths")
    lines.append("latency: median of one sample on one thread, and its ratio to the original in the same run")
    if study.setup.space.packed:
        lines.append(
            "size: of the packed file. Zeros and integers save nothing else: the network computes as if it were dense"
        )
    problem, original = study.setup.problem, results.rows[0].best[0]
    if means := batch_means(problem):
        lines.append(
            f"{', '.join(means)}: a mean over batches, weighted by their size; it depends on how large they are"
        )
    if flattering := flattery(problem, final(original, problem.kind.headline)):
        lines.append(flattering)
    return "\n".join([*lines, *(f"note: {note}" for note in results.notes)])


def _kept(study: Study, winner: TrialRecord) -> str:
    """What the winner keeps of the budget and the guarantee."""
    counted = study.setup.counted_limits.items()
    parts = [f"{name} {shown(final(winner, name))} of {shown(limit)} allowed" for name, limit in counted]
    text = f" and counted: {', '.join(parts)}" if parts else ""
    term, table = study.config.parsed_budget.latency, study.setup.latency_table
    if term is not None and table is not None:
        predicted = final(winner, PREDICTED)
        timed = winner.values_of(Phase.CERTIFICATE)
        taken = (
            timed[certified(term)],
            timed.get(certified(term) + HIGH, timed[certified(term)]),
            term.value,
            predicted / table.original_ms if term.relative else predicted,
        )
        measured, highest, allowed, promised = (f"{part:.1%}" if term.relative else f"{part:.3g} ms" for part in taken)
        error = f" (held-out error {table.held_out:.1%})" if isinstance(table, PieceModel) else ""
        text += (
            f" and timed on {term.backend} beside the original (batch {table.options.batch}, threads "
            f"{table.options.threads}): {measured}, at most {highest} of {allowed} allowed, {promised} predicted"
            f"{error}"
        )
    guarantee = study.config.parsed_guarantee
    if guarantee is not None:
        metric = guarantee.metric
        worth = in_unit(final(winner, metric), study.setup.problem.unit(metric))
        text += f", {metric} {worth} where {study.config.guarantee!r} is guaranteed"
    return text


def draw(study: Study, results: Results) -> Path:
    """Draw what was kept of every group by the winner and by uniform (or the agent), and record the file.

    Errors: `ExportError`.
    """
    records = [results.winner]
    beside = "uniform" if results.winner.agent != "uniform" else study.config.agent.name
    records += [row.shown(study) for row in results.rows if row.agent == beside]
    points = {_title(study, record): reported_point(study, record.point) for record in records}
    path = picture_path(study.store, study.record, "kept")
    record_picture(study.store, study.record, results.winner.id, path, _bars(study, points))
    return path


def _bars(study: Study, points: dict[str, Point]) -> Figure:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    knobs = study.setup.space.knobs
    figure = Figure(figsize=(8, 1.6 + 0.28 * len(knobs)), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    height = 0.8 / len(points)
    for i, (title, point) in enumerate(points.items()):
        places = [y + (i - (len(points) - 1) / 2) * height for y in range(len(knobs))]
        axes.barh(places, [knob.keep(point[knob.name]) for knob in knobs], height, label=title)
    axes.set_yticks(range(len(knobs)), [f"{knob.name} ({knob.size})" for knob in knobs], fontsize=8)
    axes.invert_yaxis()
    axes.set_xlim(0, 1)
    axes.set_xlabel(fraction_kept(knobs))
    axes.set_title(f"{study.record.name}: {study.config.parsed_budget.text}", fontsize=10)
    axes.grid(axis="x", alpha=0.3)
    figure.legend(loc="outside lower center", ncols=len(points), fontsize=8)
    return figure


def _title(study: Study, record: TrialRecord) -> str:
    headline = study.setup.problem.kind.headline
    quality = f", {headline} {final(record, headline):.4f}" if headline in record.values else ""
    return f"{record.agent}, seed {record.seed}, trial {record.number}{quality}"


def _name(row: Row, winner: TrialRecord) -> str:
    return f"{row.agent} *" if row.agent != BASE and row.agent == winner.agent else row.agent


def _mean(row: Row, metric: str) -> float:
    return fmean(final(record, metric) for record in row.best)


def _quality(row: Row, metric: str, phase: Phase = Phase.FINAL, unit: str = "") -> str:
    """Mean and, over several seeds, standard deviation; in percent if that is the unit. What was not finished, as
    searched."""
    if phase == Phase.FINAL:
        values = [final(record, metric) for record in row.best if metric in record.values]
    else:
        measured = [record.values_of(phase) for record in row.best]
        values = [found[metric] for found in measured if metric in found]
    if not values:
        return "-"
    scale, digits, ending = (100, 2, " %") if unit == "%" else (1, 4, "")
    text = f"{fmean(values) * scale:.{digits}f}"
    if len(values) > 1:
        text += f" ± {stdev(values) * scale:.{digits}f}"
    return text + ending


def _share(row: Row, metric: str, base: float) -> str:
    value = _mean(row, metric)
    return f"{_short(value)}  {value / base:6.1%}"


def _short(value: float) -> str:
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:.2f} {letter}"
    return f"{value:.0f}"


def _bytes(value: float) -> str:
    return f"{value / 1e6:.2f} MB" if value >= 1e6 else f"{value / 1e3:.1f} KB"


def _latency(record: TrialRecord) -> str:
    timed = record.values_of(Phase.LATENCY)
    return f"{timed['latency_ms']:.3f} ms  {timed['latency_ratio']:.2f}x" if timed else "-"

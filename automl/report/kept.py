"""A picture of what was kept layer by layer, of the winner beside uniform."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from automl.report.pictures import fraction_kept, knob_title, picture_path, record_picture
from automl.store import TrialRecord
from automl.study.conclude import Results
from automl.study.finishing import reported_point
from automl.study.selection import compared_with, final
from automl.study.study import Study
from search_spaces import Point

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def draw(study: Study, results: Results) -> Path:
    """Draw what was kept of every group by the winner and by uniform (or the agent), and record the file.

    Errors: `ExportError`.
    """
    records = [results.winner]
    beside = "uniform" if results.winner.agent != "uniform" else study.config.agent.name
    records += [row.shown(study.config.goal) for row in results.rows if row.agent == beside]
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
        lengths = [0.0 if knob.kind == "choice" else knob.keep(point[knob.name]) for knob in knobs]
        bars = axes.barh(places, lengths, height, label=title)
        for knob, place in zip(knobs, places, strict=True):
            if knob.kind == "choice":  # which is no amount
                text, colour = knob.shown(point[knob.name]), bars[0].get_facecolor()
                axes.text(0.01, place, text, fontsize=7, va="center", color=colour)
    axes.set_yticks(range(len(knobs)), [knob_title(knob) for knob in knobs], fontsize=8)
    axes.invert_yaxis()
    axes.set_xlim(0, 1)
    axes.set_xlabel(fraction_kept(knobs, compared_with(study.record.config)))
    axes.set_title(f"{study.record.name}: {study.config.parsed_budget.text}", fontsize=10)
    axes.grid(axis="x", alpha=0.3)
    figure.legend(loc="outside lower center", ncols=len(points), fontsize=8)
    return figure


def _title(study: Study, record: TrialRecord) -> str:
    headline = study.setup.problem.kind.headline
    quality = f", {headline} {final(record, headline):.4f}" if headline in record.values else ""
    return f"{record.agent}, seed {record.seed}, trial {record.number}{quality}"

"""The page of a study: what is read off its record, drawn and put into one HTML file."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from automl.errors import ExportError
from automl.report.html import words
from automl.report.html.answer import answer, question
from automl.report.html.as_recorded import AsRecorded
from automl.report.html.chart_specs import course_chart, front_chart, latency_chart, sensitivity_chart
from automl.report.html.chart_svg import drawn
from automl.report.html.colours import MAIN, OTHERS, colours
from automl.report.html.courses import courses
from automl.report.html.endings import endings
from automl.report.html.fronts import Front, fronts
from automl.report.html.kept_rows import kept_rows
from automl.report.html.latencies import latencies
from automl.report.html.lineage import lineage
from automl.report.html.sensitivity_lines import NAMED, sensitivity_lines
from automl.report.html.standings import standings
from automl.store import Store
from automl.util.files import replacing

Legend = Sequence[tuple[str, str, str]]
"""Mark, colour and text of each entry."""

TEMPLATES = Path(__file__).with_name("templates")


def write_page(store: Store, name: str, out: Path, storage: str | None = None) -> Path:
    """Write the page of the study `name` to the file `out`, which only its owner reads.

    `storage`: how the database is named in the commands that the page shows. `StudyNotFoundError`, `StudyError`,
    `ExportError` if the file cannot be written.
    """
    page = report_page(store, name, storage)
    with replacing(out, "the report", ExportError) as partial:
        partial.write_text(page, encoding="utf-8")
    return out


def report_page(store: Store, name: str, storage: str | None = None) -> str:
    """The page of the study `name`: HTML that needs nothing but itself. `StudyNotFoundError`, `StudyError`."""
    study = AsRecorded.read(store, name)
    script = _part("report.js")
    context = {
        "name": study.study.name,
        "metric": study.goal.metric.replace("_", " "),
        "question": question(study),
        "answer": answer(study),
        "notes": study.concluded.notes if study.concluded is not None else (),
        "standings": standings(study),
        **_charts(study),
        "kept": kept_rows(study),
        "endings": endings(study),
        "lineage": lineage(study, storage or store.name),
        "version": version("automl-compress"),
        "made": words.moment(datetime.now(UTC)),
        "script_digest": base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
    }
    return _rendered(context, _part("report.css"), script)


def _rendered(context: Mapping[str, Any], style: str, script: str) -> str:
    """The template filled in. What comes from the record is escaped; style and script are the program's own."""
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES), autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True
    )
    environment.filters["cost_name"] = words.cost_name
    return environment.get_template("report.html").render(**context, style=style, script=script)


def _part(name: str) -> str:
    return (TEMPLATES / name).read_text(encoding="utf-8")


def _charts(study: AsRecorded) -> dict[str, Any]:
    """Every chart that there is something for, with legend and caption."""
    taken = colours(study.agents, study.main_agent)
    return {
        "fronts": [_front(study, front, i, taken) for i, front in enumerate(fronts(study))],
        "sensitivity": _sensitivity(study),
        "courses": _courses(study, taken),
        "latency": _latency(study, taken),
    }


def _front(study: AsRecorded, front: Front, i: int, taken: Mapping[str, str]) -> dict[str, Any]:
    name = words.cost_in_words(front.cost)
    seen = {dot.agent for dot in front.dots}
    legend = [("dot", colour, agent) for agent, colour in taken.items() if agent in seen]
    legend.append(("line", "var(--ink)", "best for its cost"))
    if any(dot.kind == "finished" for dot in front.dots):
        legend.append(("ring", "var(--muted)", "finished"))
    if front.winner is not None:
        legend.append(("star", "var(--ink)", "winner, finished"))
    summary = f"Scatter plot of {study.goal.metric} against {name}: {len(front.dots)} networks."
    chart = drawn(front_chart(study, front, taken), f"front-{i}", summary)
    return {"words": name, "legend": legend, "chart": chart, "caption": front.caption}


def _sensitivity(study: AsRecorded) -> dict[str, Any] | None:
    lines = sensitivity_lines(study)
    if not lines:
        return None
    palette = [MAIN, *OTHERS]
    legend: Legend = [("line", palette[line.rank], line.name) for line in lines[:NAMED]]
    caption = (
        "Before any trial: the rise of the loss that this choice alone was estimated to cause, the others left whole, "
        "as a part of the largest. The vertical axis grows with the square root."
    )
    if len(lines) > NAMED:
        caption += f" Named are the {NAMED} most sensitive of {len(lines)}."
    summary = f"Line chart of estimated error against the fraction kept, {len(lines)} choices."
    chart = drawn(sensitivity_chart(lines), "sensitivity", summary)
    return {"legend": legend, "chart": chart, "caption": caption}


def _courses(study: AsRecorded, taken: Mapping[str, str]) -> dict[str, Any] | None:
    found = courses(study)
    if found is None:
        return None
    ran = {course.agent for course in found.courses}
    caption = (
        f"Best {study.goal.metric.replace('_', ' ')} of a done trial so far, as the search saw it, a line an agent and "
        f"seed. Time is what workers spent on the lane's trials: pauses and the number of workers make no difference."
    )
    summary = f"Step chart of the best {study.goal.metric} so far against time, {len(found.courses)} lanes."
    chart = drawn(course_chart(study, found, taken), "course", summary)
    return {"legend": [("line", c, a) for a, c in taken.items() if a in ran], "chart": chart, "caption": caption}


def _latency(study: AsRecorded, taken: Mapping[str, str]) -> dict[str, Any] | None:
    found = latencies(study)
    if found is None:
        return None
    summary = "Latency: " + "; ".join(f"{timed.name} {timed.ms:.3g} ms" for timed in found.timed)
    return {"chart": drawn(latency_chart(found, taken), "latency", summary), "caption": found.caption}

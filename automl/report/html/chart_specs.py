"""What is drawn, as Vega-Lite specifications: data and encodings, colours as variables that the page's theme sets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from automl.report.html import words
from automl.report.html.as_recorded import AsRecorded
from automl.report.html.courses import Courses
from automl.report.html.fronts import Dot, Front
from automl.report.html.latencies import Latencies
from automl.report.html.sensitivity_lines import NAMED, Line

Spec = dict[str, Any]

INK, MUTED, MAIN = "var(--ink)", "var(--muted)", "var(--main)"
LABEL = 180
"""The most pixels that names beside an axis may take."""
PLAIN = {"type": "nominal", "scale": None, "legend": None}
"""An encoding whose values are the colours themselves."""


def front_chart(study: AsRecorded, front: Front, colours: Mapping[str, str]) -> Spec:
    """Quality by a cost: trials, the front, finished networks, the budget, the original."""
    metric, name = study.goal.metric.replace("_", " "), words.cost_in_words(front.cost)
    x = _axis("x", words.axis_title(name, words.unit_of(front.cost)), _span(_xs(front)), ".4~s")
    y = _axis("y", metric, _span(_ys(front)), ".0%" if study.goal.metric in study.rates else ".4~g")

    def dots(kind: str, mark: Spec) -> Spec:
        values = [_dot(dot, colours) for dot in front.dots if dot.kind == kind]
        encoding = {"x": x, "y": y, "description": {"field": "told"}}
        return {"data": {"values": values}, "mark": mark, "encoding": encoding}

    filled = {"type": "circle", "fill": {"expr": "datum.colour"}}
    layers = [
        dots("faint", filled | {"size": 20, "opacity": 0.25}),
        dots("behind", filled | {"size": 34, "opacity": 0.5}),
        _line([_dot(d, colours) for d in front.dots if d.kind == "front"], x, y),
        dots("front", filled | {"size": 60, "opacity": 1}),
        dots("finished", {"type": "point", "shape": "diamond", "size": 80, "filled": False, "strokeWidth": 1.6}),
    ]
    layers[-1]["encoding"]["stroke"] = {"field": "colour", **PLAIN}
    if front.winner is not None:
        values = [_dot(front.winner, colours)]
        encoding = {"x": x, "y": y, "description": {"field": "told"}}
        star = {"type": "point", "shape": STAR, "size": 170, "filled": True, "fill": INK, "opacity": 1}
        layers.append({"data": {"values": values}, "mark": star, "encoding": encoding})
    if front.limit is not None:
        layers += _rule("x", front.limit, x, f"budget {words.cost(front.cost, front.limit)}")
    if front.original is not None:
        shown = words.quality(front.original[1], study.goal.metric in study.rates)
        cost = words.cost(front.cost, front.original[0])
        layers += _rule("y", front.original[1], y, f"{study.compared_with} {shown} at {cost}")
    return {"height": 300, "layer": layers}


STAR = "M0,-1L0.2245,-0.309L0.9511,-0.309L0.3633,0.118L0.5878,0.809L0,0.382L-0.5878,0.809L-0.3633,0.118L-0.9511,-0.309L-0.2245,-0.309Z"  # noqa: E501
"""A five-pointed star as a path of radius 1."""


def course_chart(study: AsRecorded, found: Courses, colours: Mapping[str, str]) -> Spec:
    """The best so far of each agent and seed by time."""
    metric = study.goal.metric.replace("_", " ")
    main = study.main_agent
    values = [
        {
            "x": step.x,
            "y": step.y,
            "lane": f"{course.agent}/{course.seed}",
            "colour": colours[course.agent],
            "width": 2.2 if course.agent == main else 1.4,
            "told": step.told,
        }
        for course in found.courses
        for step in course.steps
    ]
    tops = [step.y for course in found.courses for step in course.steps]
    best = max(tops) if study.goal.direction == "maximize" else min(tops)
    x = _axis("x", f"time spent on trials ({found.unit})", None, ".4~g")
    form = ".1%" if study.goal.metric in study.rates else ".4~g"
    y = _axis("y", f"best {metric} so far", _span([found.lowest, best]), form)
    encoding = {"x": x, "y": y}
    line = {"type": "line", "interpolate": "step-after", "clip": True}
    lines = {
        "mark": line,
        "encoding": encoding
        | {
            "detail": {"field": "lane"},
            "stroke": {"field": "colour", **PLAIN},
            "strokeWidth": {"field": "width", "type": "quantitative", "scale": None, "legend": None},
        },
    }
    within = _within(y, study.goal.direction)
    ends = {
        "transform": [{"filter": within}],
        "mark": {"type": "circle", "size": 26, "fill": {"expr": "datum.colour"}, "opacity": 1},
        "encoding": encoding | {"description": {"field": "told"}},
    }
    return {"height": 260, "data": {"values": values}, "layer": [lines, ends]}


def latency_chart(found: Latencies, colours: Mapping[str, str]) -> Spec:
    """The median of each network as a dot on the bar of its middle half, its ratio beside it."""
    values = [
        {
            "name": t.name,
            "ms": t.ms,
            "low": t.low,
            "high": t.high,
            "ratio": t.ratio,
            "told": t.told,
            "colour": colours.get(t.agent, MUTED),
        }
        for t in found.timed
    ]
    # Room for names in a wide typeface: what is measured here is not what a reader has.
    room = min(LABEL, 12 + 7 * max(len(t.name) for t in found.timed))
    side = {"title": None, "grid": False, "minExtent": room, "labelLimit": LABEL - 24}
    y = {"field": "name", "type": "nominal", "sort": None, "axis": side}
    x = _axis("x", "latency of one sample (ms)", None, ".3~g")
    x["scale"] = {"zero": True, "nice": True}
    x["field"] = "low"
    bars = {
        "mark": {"type": "rule", "strokeWidth": 6, "strokeCap": "round", "opacity": 0.35},
        "encoding": {"y": y, "x": x, "x2": {"field": "high"}, "stroke": {"field": "colour", **PLAIN}},
    }
    middle = {
        "mark": {"type": "circle", "size": 80, "fill": {"expr": "datum.colour"}, "opacity": 1},
        "encoding": {"y": y, "x": x | {"field": "ms"}, "description": {"field": "told"}},
    }
    text = {
        "mark": {"type": "text", "align": "left", "dx": 8, "fill": INK},
        "encoding": {"y": y, "x": x | {"field": "high"}, "text": {"field": "ratio"}},
    }
    room_for_text = {"left": 4, "top": 4, "bottom": 4, "right": 40}
    return {"height": {"step": 26}, "padding": room_for_text, "data": {"values": values}, "layer": [bars, middle, text]}


def sensitivity_chart(lines: Sequence[Line]) -> Spec:
    """A line a choice: the estimated error by the fraction kept, the most sensitive in colour."""
    palette = [MAIN, *(f"var(--other-{i})" for i in range(1, NAMED))]
    values = [
        {
            "keep": keep,
            "error": error,
            "name": line.name,
            "colour": palette[line.rank] if line.rank < NAMED else MUTED,
            "faint": 1.0 if line.rank < NAMED else 0.3,
            "told": f"{line.name}: {keep:.0%} kept, {error:.2%} of the largest error",
        }
        for line in reversed(lines)
        for keep, error in line.points
    ]
    x = _axis("x", "kept of what the choice decides about", (0.0, 1.0), ".0%") | {"field": "keep"}
    y = _axis("y", "error, of the largest", None, ".0%") | {"field": "error"}
    y["scale"] = {"type": "sqrt", "zero": True, "nice": True}
    y["axis"] |= {"values": [0, 0.01, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1]}
    encoding = {"x": x, "y": y, "detail": {"field": "name"}}
    drawn = encoding | {
        "stroke": {"field": "colour", **PLAIN},
        "opacity": {"field": "faint", "type": "quantitative", "scale": None},
    }
    few = [value for value in values if value["faint"] == 1.0]
    return {
        "height": 240,
        "layer": [
            {"data": {"values": values}, "mark": {"type": "line", "strokeWidth": 1.6}, "encoding": drawn},
            {
                "data": {"values": few},
                "mark": {"type": "circle", "size": 18, "fill": {"expr": "datum.colour"}, "opacity": 1},
                "encoding": encoding | {"description": {"field": "told"}},
            },
        ],
    }


def _dot(dot: Dot, colours: Mapping[str, str]) -> Spec:
    return {"x": dot.x, "y": dot.y, "colour": colours[dot.agent], "told": dot.told}


def _line(values: Sequence[Spec], x: Spec, y: Spec) -> Spec:
    mark = {"type": "line", "interpolate": "step-after", "stroke": INK, "strokeWidth": 1.2, "opacity": 0.7}
    order = {"field": "x", "type": "quantitative"}
    return {"data": {"values": list(values)}, "mark": mark, "encoding": {"x": x, "y": y, "order": order}}


def _axis(field: str, title: str, domain: tuple[float, float] | None, form: str) -> Spec:
    scale: Spec = {"nice": False, "zero": False} | ({"domain": list(domain)} if domain else {"nice": True})
    return {"field": field, "type": "quantitative", "scale": scale, "axis": {"title": title, "format": form}}


def _rule(field: str, value: float, axis: Spec, text: str) -> list[Spec]:
    """A dashed line across the plot with its name."""
    data = {"values": [{field: value}]}
    place = {"field": field, "type": "quantitative", "scale": axis["scale"], "axis": axis["axis"]}
    rule = {"type": "rule", "stroke": INK, "strokeDash": [4, 3], "strokeWidth": 1.2, "opacity": 0.8}
    if field == "x":
        words_ = {"type": "text", "align": "right", "baseline": "bottom", "dx": -5, "y": "height", "dy": -6}
    else:
        words_ = {"type": "text", "align": "left", "baseline": "bottom", "dy": -4, "x": 4}
    encoding = {field: place}
    label = {"mark": words_ | {"fill": INK}, "encoding": encoding | {"text": {"value": text}}}
    return [{"data": data, "mark": rule, "encoding": encoding}, {"data": data, **label}]


def _within(y: Spec, direction: str) -> str:
    low, high = y["scale"]["domain"]
    return f"datum.y >= {low!r}" if direction == "maximize" else f"datum.y <= {high!r}"


def _xs(front: Front) -> list[float]:
    dots = [*front.dots, *([front.winner] if front.winner else [])]
    return [dot.x for dot in dots] + ([front.limit] if front.limit is not None else [])


def _ys(front: Front) -> list[float]:
    dots = [*front.dots, *([front.winner] if front.winner else [])]
    return [dot.y for dot in dots] + ([front.original[1]] if front.original is not None else [])


def _span(values: Sequence[float]) -> tuple[float, float]:
    """The values' range with a margin."""
    low, high = min(values), max(values)
    margin = 0.05 * (high - low) or 0.05 * abs(high) or 1.0
    return low - margin, high + margin

"""Specifications drawn as SVG by Vega-Lite, at two widths, ready to stand in a page: no script, no font, no request."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from xml.etree import ElementTree

SVG = "http://www.w3.org/2000/svg"
WIDTHS = {"wide": 800, "narrow": 330}
"""For a screen or a page, and for a phone."""
VERSION = "6.4"
"""Of Vega-Lite, of those that vl-convert brings."""

CONFIG: dict[str, Any] = {
    "background": None,
    "font": "Helvetica, Arial, sans-serif",  # for measuring; the page's own is set by its style
    "view": {"stroke": None},
    "text": {"fontSize": 12},
    "axis": {
        "labelColor": "var(--muted)",
        "titleColor": "var(--ink)",
        "titleFontWeight": "normal",
        "titleFontSize": 12,
        "labelFontSize": 11,
        "domainColor": "var(--line)",
        "tickColor": "var(--line)",
        "gridColor": "var(--grid)",
        "titlePadding": 10,
        "titleLimit": 220,
        "labelPadding": 5,
        "tickSize": 4,
        "labelOverlap": True,
    },
    "axisY": {"ticks": False, "domain": False, "tickCount": 6},
}
"""How all charts look."""


@dataclass(frozen=True)
class Chart:
    """A chart for a screen and for a phone, as markup."""

    wide: str
    narrow: str


def drawn(spec: dict[str, Any], name: str, summary: str) -> Chart:
    """The chart of `spec`. `name` is unique in its page; `summary` is for those who cannot see it."""
    return Chart(**{form: _svg(spec, width, f"{name}-{form}", summary) for form, width in WIDTHS.items()})


def _svg(spec: dict[str, Any], width: int, name: str, summary: str) -> str:
    import vl_convert

    ticks = {"axisX": {"grid": False, "tickCount": max(3, width // 110)}}
    sized = {
        "width": width,
        "autosize": {"type": "fit-x", "contains": "padding"},
        "padding": 4,
        "config": CONFIG | ticks,
    }
    text = vl_convert.vegalite_to_svg({**sized, **spec}, vl_version=VERSION, allowed_base_urls=[])
    return _made_ready(text, name, summary)


def _made_ready(text: str, name: str, summary: str) -> str:
    """With names for people who point at marks, ids of its own, and without what the page says itself."""
    ElementTree.register_namespace("", SVG)
    root = ElementTree.fromstring(text)
    for element in root.iter():
        told = element.get("aria-label")
        if element.get("role") == "graphics-symbol" and told and len(element) == 0:
            ElementTree.SubElement(element, f"{{{SVG}}}title").text = told
        for key in ("id", "clip-path"):
            if (value := element.get(key)) is not None:
                element.set(key, value.replace("clip", f"{name}-clip"))
        element.attrib.pop("font-family", None)
    root.set("role", "img")
    root.set("aria-label", summary)
    return ElementTree.tostring(root, encoding="unicode")

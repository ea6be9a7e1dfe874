"""The page in a real browser: nothing asked of anybody, nothing complained of, room for it on a phone and a screen."""

from __future__ import annotations

import pytest

from automl.report.html.report_page import write_page
from automl.store import open_store
from tests.kits.browser import running
from tests.kits.told_studies import conclude, tell_study
from tests.report.test_report_page import hostile


@pytest.fixture(scope="module")
def browser():
    with running() as browser:
        yield browser


@pytest.fixture(scope="module")
def reports(tmp_path_factory):
    """Name -> page: during a study, after it, and of one whose names are those of an attacker."""
    folder = tmp_path_factory.mktemp("report")
    pages = {}
    for name, say, over in (("during", str, False), ("after", str, True), ("hostile", hostile, True)):
        with open_store(folder / f"{name}.db") as store:
            study = tell_study(store, name, say=say)
            if over:
                conclude(store, study, say)
            pages[name] = write_page(store, name, folder / f"{name}.html")
    return pages


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("width", [360, 1440])
@pytest.mark.parametrize("name", ["during", "after", "hostile"])
def test_it_shows_without_help(browser, reports, name, width, dark):
    page = browser.page()
    page.open(reports[name].as_uri(), width=width, dark=dark)
    assert page.requests == [reports[name].as_uri()] and page.errors == []
    assert page.js("document.title") == name
    wide, room = page.js("[document.documentElement.scrollWidth, document.documentElement.clientWidth]")
    assert wide <= room, "nobody scrolls sideways"
    shown = page.js("[...document.querySelectorAll('.chart svg')].filter(s => s.getClientRects().length).length")
    assert shown == {"during": 3, "after": 4, "hostile": 4}[name]
    ink, paper = page.js("[getComputedStyle(document.body).color, getComputedStyle(document.body).backgroundColor]")
    assert (light(ink) > light(paper)) == dark
    assert page.js("getComputedStyle(document.querySelector('.chart text')).fill") != "rgb(0, 0, 0)", "the theme's"


def light(colour: str) -> int:
    """Of `rgb(1, 2, 3)` the sum."""
    return sum(int(part) for part in colour.strip("rgb()").split(","))


def test_marks_say_what_they_are(browser, reports):
    page = browser.page()
    page.open(reports["after"].as_uri())
    told = page.js(
        "(() => { const mark = document.querySelector('.chart.wide [data-told*=finished]');"
        "mark.dispatchEvent(new PointerEvent('pointerover', {bubbles: true}));"
        "const tip = document.getElementById('tip'); return [mark.dataset.told, tip.textContent, tip.hidden]; })()"
    )
    assert told[0] == told[1] and "accuracy" in told[0] and told[2] is False

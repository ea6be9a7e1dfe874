"""The page of a study: what it says is what the record has, nothing in it is run, and it needs nobody else."""

from __future__ import annotations

import re
from html.parser import HTMLParser

import pytest

from automl import write_report
from automl.report.html.as_recorded import AsRecorded
from automl.report.html.report_page import report_page
from automl.store import StudyNotFoundError, open_store
from tests.cli.conftest import automl
from tests.kits.told_studies import conclude, tell_study

HOSTILE = "<script>document.title='taken'</script>\"'><img src=x onerror=alert(1)>&amp;{{7*7}} "


def hostile(text: str) -> str:
    return HOSTILE + text


class Elements(HTMLParser):
    """The elements of a page with their attributes, and its text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))

    def handle_data(self, data):
        self.text += f"{data} "


@pytest.fixture
def store(tmp_path):
    with open_store(tmp_path / "study.db") as store:
        yield store


def test_the_page_says_what_the_record_has(store):
    study = tell_study(store)
    winner = store.trial(conclude(store, study))
    text = " ".join(Elements(report_page(store, "told", "sqlite:///study.db")).text.split())
    assert "Which form of small_cnn has the highest accuracy within macs ≤ 50%?" in text
    assert f"The winner, trial {winner.number} of {winner.agent}, has accuracy 96.00 ± 1.96 %" in text
    assert "95.00 ± 1.96 % on the test data; the original has 97.00 ± 1.96 % and 96.00 ± 1.96 %" in text
    assert "On the test data that is 3.00 points ahead of the best of random" in text
    assert "of 500 k allowed" in text and "the machine's pace was unsteady" in text
    for knob in study.config["knobs"]:
        assert f"{winner.point[knob['name']]} of 16" in text
    states = [trial.state.value for trial in store.trials(study.id) if trial.agent != "base"]
    for state in ("done", "stopped", "infeasible", "failed"):
        assert f"{states.count(state)} {state}" in text
    assert "automl export told --out winner/ --storage sqlite:///study.db" in text


def test_a_study_that_runs_says_how_far_it_is(store):
    tell_study(store)
    text = Elements(report_page(store, "told")).text
    assert "No network has been reported yet: 200 of 200 trials have ended." in text
    assert "What was kept" not in text


def test_names_of_strangers_are_text(store):
    study = tell_study(store, trials=60, say=hostile)
    conclude(store, study, hostile)
    page = report_page(store, "told", HOSTILE)
    found = Elements(page)
    tags = [tag for tag, _ in found.elements]
    assert tags.count("script") == 1 and "img" not in tags
    assert not [name for _, attributes in found.elements for name in attributes if name.startswith("on")]
    assert "{{7*7}}" in found.text and "taken" in found.text, "names are shown as they are"


def test_the_page_needs_nobody_else(store):
    conclude(store, tell_study(store))
    page = report_page(store, "told")
    assert "default-src 'none'" in page
    addresses = set(re.findall(r"https?://[^\s\"'<>]+", page))
    assert addresses <= {"http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"}
    used = [value for _, a in Elements(page).elements for name, value in a.items() if name in ("src", "href")]
    assert used == ["data:,"]
    ids = [a["id"] for _, a in Elements(page).elements if "id" in a]
    assert len(ids) == len(set(ids))


def test_a_study_of_little_has_a_page(store):
    """One that has just begun, and one whose record says nothing but what it must."""
    goal = {"metric": "loss", "direction": "minimize"}
    store.create_study("empty", {"knobs": [], "goal": goal}, code_version="", environment={})
    assert "0 trials have ended" in report_page(store, "empty")


def test_rates_of_early_records_are_read_in_percent(store):
    study = tell_study(store, trials=20)
    with store.database.write() as connection:
        connection.exec_driver_sql("UPDATE measurement SET unit = '' WHERE metric = 'accuracy'")
    assert AsRecorded.read(store, study.name).rates == {"accuracy"}


def test_the_command_writes_it(store, tmp_path):
    conclude(store, tell_study(store, trials=20))
    database, out = tmp_path / "study.db", tmp_path / "page.html"
    ran = automl("report", "told", "--storage", f"sqlite:///{database}", "--out", out)
    assert (ran.code, ran.out.strip()) == (0, str(out))
    assert out.read_text().startswith("<!doctype html>") and out.stat().st_mode & 0o777 == 0o600
    nowhere = automl("report", "told", "--storage", f"sqlite:///{database}", "--out", tmp_path / "none" / "page.html")
    assert nowhere.code == 1 and "cannot write the report" in nowhere.err and "Traceback" not in nowhere.err
    assert write_report(database, "told", tmp_path / "by_hand.html").is_file()
    with pytest.raises(StudyNotFoundError, match="did you mean 'told'"):
        write_report(database, "tld", out)

"""Optuna Dashboard in a real browser on a study of 200 trials, while it runs and once it has its winner."""

from __future__ import annotations

import json
import threading
import urllib.request

import pytest

from automl.dashboard import keeping_up
from automl.dashboard.serving import dashboard_server
from automl.store import open_store
from tests.kits.browser import running
from tests.kits.told_studies import conclude, tell_study

FRONT = "told: accuracy and multiply-accumulates"


@pytest.fixture(scope="module")
def shown(tmp_path_factory):
    """The record, the dashboard's address and Optuna's studies by name."""
    database = tmp_path_factory.mktemp("dashboard") / "study.db"
    patch = pytest.MonkeyPatch()
    patch.setattr(keeping_up, "EVERY_S", 0.5)
    with open_store(database) as store:
        tell_study(store)
        with dashboard_server(database, "127.0.0.1", 0) as server:
            thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
            thread.start()
            address = f"http://127.0.0.1:{server.server_port}"
            with urllib.request.urlopen(f"{address}/api/studies", timeout=20) as answer:
                summaries = json.load(answer)["study_summaries"]
            try:
                yield store, address, {s["study_name"]: s["study_id"] for s in summaries}
            finally:
                server.shutdown()
                thread.join()
                patch.undo()


def test_a_study_explains_itself_while_it_runs_and_after(shown):
    store, address, ids = shown
    with running() as browser:
        page = browser.page()

        def look(path: str, *wanted: str, width: int = 1440, dark: bool = False) -> None:
            page.open(f"{address}/dashboard/studies/{path}", width=width, dark=dark)
            for text in wanted:
                page.wait_for(f"document.body.innerText.includes({json.dumps(text)})")
            elsewhere = [url for url in page.requests if not url.startswith((address, "data:", "blob:"))]
            assert elsewhere == [] and page.errors == []

        note = f"{ids[FRONT]}/note"
        look(
            note, "Which form of small_cnn has the highest accuracy within macs ≤ 50%?", "200 of 200 trials have ended"
        )
        look(str(ids[FRONT]), "Pareto Front", "multiply-accumulates", "report.html")
        winner = store.trial(conclude(store, store.study("told")))
        found = f"The winner, trial {winner.number} of {winner.agent}, has accuracy 96.00"
        told = f"fetch('/api/studies/{ids[FRONT]}').then(r => r.json())"
        page.wait_for(f"{told}.then(s => s.note.body.includes('The winner, trial'))")
        for width, dark in ((360, True), (1440, False)):
            look(note, found, "automl export told", width=width, dark=dark)
        look(str(ids[FRONT]), "Pareto Front", "report.html", "curves.png")
        # The winner stands out among the trials of its lane.
        lane = ids[f"told/{winner.agent}/0"]
        study = page.js(f"fetch('/api/studies/{lane}').then(r => r.json())")
        (number,) = (t["number"] for t in study["trials"] if t["note"]["body"])
        look(f"{lane}/trials?numbers={number}", "The winner of told.")
        front = page.js(told)
        marked = [
            t for t in front["trials"] if any((a["key"], a["value"]) == ("reported", "True") for a in t["user_attrs"])
        ]
        assert [t["values"] for t in marked] == [[0.96, winner.values["macs"]]]
        assert marked[0]["trial_id"] in {t["trial_id"] for t in front["best_trials"]}
        # Its report is there to be opened, and has no part in the dashboard.
        files = {a["filename"]: a["artifact_id"] for a in front["artifacts"]}
        report = f"{address}/artifacts/{ids[FRONT]}/{files['report.html']}"
        page.open(report)
        assert found in page.js("document.body.innerText") and page.errors == []
        assert page.js("window.origin") == "null"
        with urllib.request.urlopen(f"{address}/artifacts/{ids[FRONT]}/{files['curves.png']}", timeout=60) as picture:
            assert picture.read(8) == b"\x89PNG\r\n\x1a\n"


def test_a_note_of_a_user_stays(shown):
    import optuna
    from optuna_dashboard import get_note, save_note

    store, _, ids = shown
    del ids
    lane = optuna.load_study(study_name="told/random/0", storage=store.url)
    save_note(lane, "mine")
    keeping_up.Keeper(store.url).bring_up_to_date()
    assert get_note(lane) == "mine"

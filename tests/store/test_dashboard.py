"""The real Optuna Dashboard, asked over HTTP."""

import json
import socket
import subprocess
import sys
import urllib.request

import pytest

from automl.dashboard import serve_dashboard
from automl.store import StoreError, open_store
from automl.types import Outcome
from tests.kits.stores import add_trial, new_study, outcome, point

SERVE = """
import sys
from automl.dashboard import serve_dashboard
serve_dashboard(sys.argv[1], "127.0.0.1", 0, ready=lambda address: print(address, flush=True))
print("ended")
"""


def get(address: str):
    with urllib.request.urlopen(address, timeout=20) as answer:
        return answer.read()


@pytest.fixture
def served(any_url):
    """A database with trials that were never projected, and the address of its dashboard."""
    with open_store(any_url) as store:
        study = new_study(store)
        for number, (accuracy, macs) in enumerate([(0.5, 900), (0.9, 1100), (0.7, 1000)]):
            add_trial(store, study, "amc", 0, number, point(conv1=number + 1), outcome(accuracy, macs))
        add_trial(store, study, "random", 4, 0, result=Outcome.failed("out of memory"))
        add_trial(store, new_study(store, "by_hand", {}))
        server = subprocess.Popen(
            [sys.executable, "-c", SERVE, any_url], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        try:
            yield store, server, server.stdout.readline().strip()
        finally:
            server.kill()
            server.communicate()


def test_the_dashboard_shows_the_trials_and_ends_with_ctrl_c(served):
    store, server, address = served
    assert address.startswith("http://127.0.0.1:"), server.communicate()
    assert b"<html" in get(address + "dashboard").lower()
    summaries = json.loads(get(address + "api/studies"))["study_summaries"]
    ids = {s["study_name"]: s["study_id"] for s in summaries}
    front = "digits: accuracy and multiply-accumulates"
    assert set(ids) == {"digits/amc/0", "digits/random/4", front}, "a study without knobs in its config is left out"
    assert {s["study_name"]: s["directions"] for s in summaries}["digits/amc/0"] == ["maximize"]

    amc = json.loads(get(f"{address}api/studies/{ids['digits/amc/0']}"))
    assert [t["values"] for t in amc["trials"]] == [[0.5], [0.9], [0.7]]
    assert [t["constraints"] for t in amc["trials"]] == [[-100.0], [100.0], [0.0]]
    assert amc["trials"][2]["params"][0]["param_external_value"] == "4"
    assert {p["name"]: p["param_external_value"] for p in amc["trials"][2]["params"]}["block.conv1"] == "3"
    assert {a["key"]: a["value"] for a in amc["trials"][1]["user_attrs"]}["macs"] == "1100.0"
    assert amc["objective_names"] == ["accuracy"]
    failed = json.loads(get(f"{address}api/studies/{ids['digits/random/4']}"))["trials"][0]
    assert failed["state"] == "Fail"
    assert {a["key"]: a["value"] for a in failed["user_attrs"]}["reason"] == "out of memory"

    # Writing goes on while it serves.
    assert add_trial(store, store.study("digits"), "amc", 0, 3).finish_order == 4
    server.send_signal(2)
    out, err = server.communicate(timeout=20)
    assert out == "ended\n" and server.returncode == 0
    assert err.strip() == (
        "the study 'by_hand' has no 'knobs' in its recorded configuration, so it cannot be shown in Optuna. "
        "Use `automl trials by_hand`"
    )


def test_a_taken_port_is_named(sqlite_url):
    open_store(sqlite_url).close()
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(StoreError, match=f"cannot listen on 127.0.0.1:{port}: .* Try another --port"):
            serve_dashboard(sqlite_url, "127.0.0.1", port)


def test_a_missing_database_is_named(tmp_path):
    with pytest.raises(StoreError, match="there is no database"):
        serve_dashboard(tmp_path / "typo.db")
    assert list(tmp_path.iterdir()) == []

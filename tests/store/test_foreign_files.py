"""A file of studies is somebody else's: it is read as data, within bounds, whole or not at all."""

from __future__ import annotations

import copy
import gzip
import json
import os
import stat
from pathlib import Path

import pytest

from automl.store import StoreError, backup_sqlite, export_studies, import_studies, open_store
from automl.store.sqlite_files import copy as copy_database
from automl.study.artifacts import write_weights
from automl.training.checkpoint import write_checkpoint
from automl.types import Outcome
from search_spaces import Plan
from tests.cli.conftest import automl
from tests.kits.foreign_studies import NOW, study_line, write_studies
from tests.kits.stores import add_trial, new_study, point

TRIAL = {
    **{"agent": "amc", "seed": 0, "number": 0, "point": point().to_json(), "point_key": point().key, "state": "done"},
    **{"reason": None, "started": NOW, "attempts": 1, "finished": NOW, "wall_s": 1.0, "finish_order": 1},
    **{"repeat_of": None, "ended": []},
    "measurements": [
        {
            **{"metric": "accuracy", "step": 0, "value": 0.5, "unit": "", "n": 1, "spread": None},
            **{"device": "", "phase": "search"},
        }
    ],
}
CHANGES = [
    *[(key, value) for key in ("seed", "number", "finish_order", "wall_s") for value in ("x", [1], True, {})],
    *[(key, value) for key in ("agent", "state", "point", "started", "repeat_of") for value in (7, ["x"], {"a": 1})],
    *[("state", "won"), ("point", "{"), ("point", '{"a": "x"}'), ("point_key", "f" * 16), ("started", "today")],
    *[
        ("wall_s", float("nan")),
        ("wall_s", 10**400),
        ("seed", 10**30),
        ("agent", "x" * 101),
        ("id", 1),
        ("study_id", 1),
        ("projected", NOW),
        ("seal", "x"),
    ],
    *[("measurements", None), ("measurements", [7]), ("measurements", [{"id": 7}]), ("ended", [{"number": 1}])],
    *[("measurements", [{**TRIAL["measurements"][0], "phase": "dream"}])],
]


@pytest.mark.parametrize(("key", "value"), CHANGES, ids=lambda x: f"{x!r:.20}")
def test_a_trial_that_is_none_is_not_imported(key, value, tmp_path):
    line = copy.deepcopy({"trial": {**TRIAL, key: value}})
    with open_store(tmp_path / "study.db") as store:
        with pytest.raises(StoreError, match="nothing of it was"):
            import_studies(store, write_studies(tmp_path / "x.gz", study_line("a"), line))
        assert store.studies() == []
        assert import_studies(store, write_studies(tmp_path / "x.gz", study_line("a"), {"trial": TRIAL})) == ["a"]
        assert len(store.trials(store.study("a").id)) == 1


@pytest.mark.parametrize(
    "change",
    [
        *[{"model": 7}, {"model": {}}, {"trials": 0}, {"agent": {"name": "no such"}}, {"budget": ["x"]}, {"loss": 7}],
        *[
            {"space": 7},
            {"space": []},
            {"runner": {"workers": "x"}},
            {"finish": []},
            {"task": []},
            {"limits": {"a": {}}},
        ],
    ],
    ids=repr,
)
def test_a_configuration_that_is_none_is_not_imported(change, tmp_path):
    file = write_studies(tmp_path / "x.gz", study_line("a", **change))
    ran = automl("db", "import", file, "--storage", tmp_path / "study.db")
    assert ran.code == 1 and ran.err.startswith("automl: ") and ran.err.count("\n") == 1, ran.err
    assert "no studies" in automl("studies", "--storage", tmp_path / "study.db").out


def test_a_database_does_not_steer_the_terminal(tmp_path):
    with open_store(tmp_path / "study.db") as store:
        for name in ("a", "b"):
            study = new_study(store, name)
            add_trial(store, study, result=Outcome.failed("\x1b[2J\x1b]0;gone\x07"))
        with store.database.write() as connection:
            connection.exec_driver_sql("UPDATE study SET name = 'a' || char(27) || '[2J' WHERE name = 'a'")
    for command in (["studies"], ["trials", "b"], ["trials", "none"], ["curves", "a\x1b[2J"]):
        ran = automl(*command, "--storage", tmp_path / "study.db")
        assert "\x1b" not in ran.out + ran.err and "\x07" not in ran.out + ran.err


def bomb(file: Path, line: bytes, times: int) -> Path:
    with gzip.open(file, "wb", 1) as out:
        out.write(json.dumps({"format": "automl-compress studies", "version": 1, "schema": 3}).encode() + b"\n")
        for _ in range(times):
            out.write(line)
    return file


def test_a_file_that_grows_without_end_is_not_unpacked(tmp_path):
    line = json.dumps(study_line("a")).encode() + b" " * 2**20 + b"\n"
    file, database = bomb(tmp_path / "x.gz", line, 20), tmp_path / "study.db"
    open_store(database).close()
    before = database.stat().st_size
    ran = automl("db", "import", file, "--storage", database, "--most-gb", "0.01")
    assert ran.code == 1 and "comes to more than 0.01 GB" in ran.err and "--most-gb" in ran.err
    assert database.stat().st_size == before


@pytest.mark.parametrize(
    ("line", "complaint"),
    [(b"[" * 10**5 + b"\n", "nested too deeply"), (b" " * (2**26 + 1), "a line of more than"), (b"[]\n", "no object")],
    ids=["deep", "long", "list"],
)
def test_a_line_that_is_none_is_refused(line, complaint, tmp_path):
    with open_store(tmp_path / "study.db") as store, pytest.raises(StoreError, match=complaint):
        import_studies(store, bomb(tmp_path / "x.gz", line, 1))


READING = [["studies"], ["trials", "x"], ["curves", "x"], ["resume", "x"], ["export", "x", "--out", "w"]]
READING += [["finish", "x"], ["dashboard"], ["db", "export", "x.gz"], ["db", "backup", "y.db"], ["db", "remove", "x"]]


@pytest.mark.parametrize("command", READING, ids=" ".join)
@pytest.mark.parametrize("storage", ["sqlite:///none.db", "none.db", "sqlite:///file:none.db?uri=true"])
def test_a_command_that_reads_makes_no_file(command, storage, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    ran = automl(*command, "--storage", storage)
    assert ran.code == 1 and ran.err.count("\n") == 1, ran.err
    assert list(tmp_path.iterdir()) == []


def test_what_holds_data_of_a_user_is_for_that_user_alone(tmp_path):
    from torch import nn

    before = os.umask(0o022)
    try:
        with open_store(tmp_path / "study.db") as store:
            store.create_study("a", {}, code_version="", environment={})
            export_studies(store, tmp_path / "studies.gz")
            backup_sqlite(store, tmp_path / "backup.db")
            with store.database.engine.connect() as connection:
                copy_database(connection.connection.driver_connection, tmp_path / "rescued.db", "a copy")
            write_weights(nn.Linear(2, 2), Plan(), tmp_path / "artifacts" / "a.safetensors")
            write_checkpoint(tmp_path / "artifacts" / "a.checkpoint", {})
            found = {p.name: stat.filemode(p.stat().st_mode) for p in tmp_path.rglob("*") if p.is_file()}
        key = Path(os.environ["XDG_STATE_HOME"]) / "automl-compress" / "key"
        found["key"] = stat.filemode(key.stat().st_mode)
    finally:
        os.umask(before)
    assert {"study.db", "study.db-wal", "studies.gz", "backup.db", "a.safetensors", "a.checkpoint"} < found.keys()
    assert set(found.values()) == {"-rw-------"}, found

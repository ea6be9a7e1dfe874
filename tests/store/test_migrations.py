"""Databases of earlier versions open, once for all who come at once, and lose nothing; newer ones are left alone."""

from __future__ import annotations

import gzip
import logging
import sqlite3
from collections.abc import Iterable
from pathlib import Path

import optuna
import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from agents import TrialState
from automl.store import OptunaProjection, StoreError, export_studies, import_studies, open_store
from automl.store.prefixes import phase_and_metric
from automl.store.schema import OPTUNA_TABLES, SCHEMA_VERSION, metadata
from automl.store.views import VIEWS, drop_views
from automl.types import Measurement, Phase
from tests.kits.stores import CONFIG, outcome, point, run_processes

HERE = Path(__file__).parent


def columns(url: str, tables: Iterable[str] = metadata.tables) -> dict:
    """What a database says of `tables`, ours if none are named."""
    engine = sa.create_engine(url)
    inspect = sa.inspect(engine)
    found = {name: inspect.get_view_definition(name) for name in inspect.get_view_names()} | {
        name: (
            {c["name"]: (str(c["type"]), c["nullable"], c["default"]) for c in inspect.get_columns(name)},
            inspect.get_pk_constraint(name)["constrained_columns"],
            sorted(str(u["column_names"]) for u in inspect.get_unique_constraints(name)),
            sorted((str(f["constrained_columns"]), f["referred_table"]) for f in inspect.get_foreign_keys(name)),
            sorted(str(i["column_names"]) for i in inspect.get_indexes(name) if not i["unique"]),
        )
        for name in tables
    }
    engine.dispose()
    return found


AT_THE_END = {
    Phase.REFITTED: {"accuracy": 0.4, "loss": 1.5},
    Phase.TRAINING: {"loss": 1.0, "s": 3.0, "validation_accuracy": 0.5},
    Phase.FINAL: {"accuracy": 0.5, "macs": 900.0},
    Phase.CERTIFICATE: {"latency_ratio": 0.625},
    Phase.TEST: {"accuracy": 0.48, "loss": 1.25},
    Phase.LATENCY: {"latency_ms": 1.5, "latency_ratio": 0.75, "peak_activation_bytes": 4096.0},
}
"""What was measured of the first trial after the search in the database of version 2: the last step of each metric."""


def old_database(url: str, version: int) -> None:
    """Put the database of `version` where `url` leads to, an SQLite file or an empty schema of a server."""
    if url.startswith("sqlite"):
        Path(url.removeprefix("sqlite:///")).write_bytes(
            gzip.decompress((HERE / f"schema_v{version}.db.gz").read_bytes())
        )
        return
    engine = sa.create_engine(url)
    with engine.begin() as connection:
        connection.exec_driver_sql((HERE / f"schema_v{version}.postgresql.sql").read_text())
    engine.dispose()


@pytest.fixture(params=[1, 2, 3, 4])
def version(request) -> int:
    """The versions before this one."""
    return request.param


@pytest.fixture(params=["sqlite", "postgres"])
def old_url(request, version):
    """A database of that version, as the program of then made it; the SQLite file also has Optuna's tables."""
    url = request.getfixturevalue(f"{request.param}_url")
    old_database(url, version)
    return url


def test_an_old_database_opens_with_all_it_held(old_url, version, caplog):
    with caplog.at_level(logging.WARNING), open_store(old_url, create=False) as store:
        assert f"was brought from schema version {version} to {SCHEMA_VERSION}" in caplog.text
        study = store.study("digits")
        assert study.config == CONFIG and study.code_version == "abc123"
        assert [s.name for s in store.studies()] == ["digits", "empty"]
        trials = store.trials(study.id)
        assert [(t.agent, t.number, t.state.value, t.finish_order, t.attempts) for t in trials] == [
            ("amc", 0, "done", 1, 1),
            ("amc", 1, "failed", 2, 1),
            ("amc", 2, "infeasible", 3, 1),
            ("random", 0, "done", 1, 1),
            ("random", 1, "running", None, 2),
        ]
        assert trials[0].values == {"accuracy": 0.1 + 0.2, "macs": 900.0} and trials[0].diagnostics == {"noise": 0.5}
        at_the_end = {phase: trials[0].values_of(phase) for phase in AT_THE_END}
        assert at_the_end == (AT_THE_END if version > 1 else {phase: {} for phase in AT_THE_END})
        assert trials[1].reason == "out of memory 日本" and trials[3].repeat_of == trials[0].id
        assert trials[4].point == point(6)
        (artifact,) = store.artifacts(study.id)
        assert (artifact.path, artifact.trial_id) == ("winner/größe.onnx", trials[0].id)
        with store.drive(study.id):
            left = store.reopen_trial(trials[4].id)
            assert store.close_trial(left.id, outcome()).finish_order == 2
        ended = [(left.id, n) for n in (1, 2)][-version:]  # version 1 kept no attempts
        assert [(a.trial_id, a.number) for a in store.attempts(study.id)] == ended
    caplog.clear()
    with open_store(old_url, create=False) as again:
        assert caplog.text == "" and again.trial(left.id).state is TrialState.DONE


def test_a_measurement_keeps_all_but_its_name(sqlite_url):
    old_database(sqlite_url, 2)
    with open_store(sqlite_url) as store:
        first = store.trials(store.study("digits").id)[0]
    (timed,) = (m for m in first.measurements if m.phase is Phase.CERTIFICATE)
    cpu = "a processor, 1 thread"
    assert timed == Measurement("latency_ratio", 0.625, "", 20, 0.01, cpu, phase=Phase.CERTIFICATE)
    course = [m for m in first.measurements if m.phase is Phase.TRAINING]
    assert [(m.metric, m.value, m.step) for m in course if m.metric != "s"] == [
        ("loss", 2.0, 1),
        ("validation_accuracy", 0.25, 1),
        ("loss", 1.0, 2),
        ("validation_accuracy", 0.5, 2),
    ]


@pytest.mark.parametrize("exported", [2, 3, 4])  # version 1 exported nothing
def test_an_export_of_before_is_imported_as_its_database_is_migrated(any_url, tmp_path, exported):
    old_database(f"sqlite:///{tmp_path}/migrated.db", exported)
    written = {}
    with open_store(tmp_path / "migrated.db") as migrated, open_store(any_url) as imported:
        assert import_studies(imported, HERE / f"schema_v{exported}.studies.gz") == ["digits", "empty"]
        for name, store in (("migrated", migrated), ("imported", imported)):
            export_studies(store, tmp_path / name)
            written[name] = (tmp_path / name).read_bytes()
    assert written["imported"] == written["migrated"]


def test_only_names_that_the_program_gave_are_taken_apart():
    assert phase_and_metric("final_test_loss") == ("final", "test_loss")
    for name in ("predicted_latency_ms", "latency_gain", "latency", "finals", "Test_loss", "accuracy"):
        assert phase_and_metric(name) == ("search", name)


def test_an_old_file_is_kept_as_it_was(old_url, version, tmp_path):
    if not old_url.startswith("sqlite"):
        pytest.skip("a server's tables are not copied")
    path = tmp_path / "study.db"
    with sqlite3.connect(path) as before:
        rows = list(before.iterdump())
    before.close()
    open_store(old_url).close()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["study.db", f"study.db.v{version}"]
    with sqlite3.connect(f"{path}.v{version}") as kept:
        assert list(kept.iterdump()) == rows
    kept.close()


def test_a_migrated_database_is_one_that_was_made_today(old_url, request):
    open_store(old_url).close()
    migrated = columns(old_url)
    engine = sa.create_engine(old_url)
    with engine.connect() as connection:
        only_ours = {"include_object": lambda obj, name, kind, *_: kind != "table" or name not in OPTUNA_TABLES}
        assert compare_metadata(MigrationContext.configure(connection, opts=only_ours), metadata) == []
        assert connection.scalar(sa.text("SELECT version_num FROM automl_alembic_version")) == f"v{SCHEMA_VERSION}"
        assert connection.scalar(sa.text("SELECT max(version) FROM automl_schema")) == SCHEMA_VERSION
        connection.rollback()
        drop_views(connection)
        for table in reversed(metadata.sorted_tables):
            connection.execute(sa.schema.DropTable(table))
        connection.commit()
    engine.dispose()
    open_store(old_url).close()
    assert columns(old_url) == migrated and migrated.keys() >= VIEWS.keys()


def test_optunas_tables_in_an_old_database_are_left_alone(old_url):
    with open_store(old_url) as store:
        study = store.study("digits")
        projection = OptunaProjection.of(store, study)
        copied = projection.sync(strict=True)
        projection.close()
        assert copied == (0 if old_url.startswith("sqlite") else 4)
    shown = optuna.load_study(study_name="digits/amc/0", storage=old_url).get_trials()
    assert [t.user_attrs["number"] for t in shown] == [0, 1, 2]
    engine = sa.create_engine(old_url)
    with engine.connect() as connection:
        assert connection.scalar(sa.text("SELECT version_num FROM alembic_version")) == "v3.2.0.a"
    engine.dispose()


def _open(barrier, url: str) -> int:
    barrier.wait(30)
    with open_store(url) as store:
        return len(store.trials(store.study("digits").id))


def test_of_processes_that_open_an_old_database_one_migrates_it(old_url):
    assert run_processes(_open, *[(old_url,)] * 4) == [5] * 4


def test_a_migration_that_fails_changes_nothing(old_url):
    engine = sa.create_engine(old_url)
    with engine.begin() as connection:  # in the way of ours
        connection.execute(sa.text("CREATE TABLE rule (id INTEGER)"))
    before = columns(old_url, sa.inspect(engine).get_table_names())
    with pytest.raises(StoreError, match=r"rule.* already exists"):
        open_store(old_url)
    assert columns(old_url, sa.inspect(engine).get_table_names()) == before
    engine.dispose()


def test_a_read_only_old_file_is_named(old_url, tmp_path):
    if not old_url.startswith("sqlite"):
        pytest.skip("of files only")
    with pytest.raises(StoreError, match="is read-only"):
        open_store(f"sqlite:///file:{tmp_path}/study.db?mode=ro&uri=true", create=False)

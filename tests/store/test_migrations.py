"""Databases of earlier versions open, once for all who come at once, and lose nothing; newer ones are left alone."""

from __future__ import annotations

import gzip
import logging
import sqlite3
from pathlib import Path

import optuna
import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from agents import TrialState
from automl.store import OptunaProjection, StoreError, open_store
from automl.store.schema import OPTUNA_TABLES, SCHEMA_VERSION, metadata
from tests.kits.stores import CONFIG, outcome, point, run_processes

HERE = Path(__file__).parent


def columns(url: str) -> dict:
    """What a database says of our tables."""
    engine = sa.create_engine(url)
    inspect = sa.inspect(engine)
    found = {
        name: (
            {c["name"]: (str(c["type"]), c["nullable"]) for c in inspect.get_columns(name)},
            inspect.get_pk_constraint(name)["constrained_columns"],
            sorted(str(u["column_names"]) for u in inspect.get_unique_constraints(name)),
            sorted((str(f["constrained_columns"]), f["referred_table"]) for f in inspect.get_foreign_keys(name)),
            sorted(str(i["column_names"]) for i in inspect.get_indexes(name) if not i["unique"]),
        )
        for name in metadata.tables
    }
    engine.dispose()
    return found


@pytest.fixture(params=["sqlite", "postgres"])
def old_url(request, tmp_path):
    """A database of version 1, as automl-compress 0.1.0 made it; the SQLite file also has Optuna's tables."""
    url = request.getfixturevalue(f"{request.param}_url")
    if request.param == "sqlite":
        (tmp_path / "study.db").write_bytes(gzip.decompress((HERE / "schema_v1.db.gz").read_bytes()))
    else:
        engine = sa.create_engine(url)
        with engine.begin() as connection:
            connection.exec_driver_sql((HERE / "schema_v1.postgresql.sql").read_text())
        engine.dispose()
    return url


def test_an_old_database_opens_with_all_it_held(old_url, caplog):
    with caplog.at_level(logging.WARNING), open_store(old_url, create=False) as store:
        assert "was brought from schema version 1 to 2" in caplog.text
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
        assert trials[1].reason == "out of memory 日本" and trials[3].repeat_of == trials[0].id
        assert trials[4].point == point(6)
        (artifact,) = store.artifacts(study.id)
        assert (artifact.path, artifact.trial_id) == ("winner/größe.onnx", trials[0].id)
        with store.drive(study.id):
            left = store.reopen_trial(trials[4].id)
            assert store.close_trial(left.id, outcome()).finish_order == 2
        assert [(a.trial_id, a.number) for a in store.attempts(study.id)] == [(left.id, 2)]
    caplog.clear()
    with open_store(old_url, create=False) as again:
        assert caplog.text == "" and again.trial(left.id).state is TrialState.DONE


def test_an_old_file_is_kept_as_it_was(old_url, tmp_path):
    if not old_url.startswith("sqlite"):
        pytest.skip("a server's tables are not copied")
    path = tmp_path / "study.db"
    with sqlite3.connect(path) as before:
        rows = list(before.iterdump())
    before.close()
    open_store(old_url).close()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["study.db", "study.db.v1"]
    with sqlite3.connect(f"{path}.v1") as kept:
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
        for table in reversed(metadata.sorted_tables):
            connection.execute(sa.schema.DropTable(table))
        connection.commit()
    engine.dispose()
    open_store(old_url).close()
    assert columns(old_url) == migrated


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
    with engine.begin() as connection:
        connection.execute(sa.text("CREATE TABLE lease (id INTEGER)"))  # in the way of ours
    engine.dispose()
    with pytest.raises(StoreError, match="already exists"):
        open_store(old_url)
    tables = set(sa.inspect(sa.create_engine(old_url)).get_table_names())
    assert "attempt" not in tables and "automl_alembic_version" not in tables, "made before `lease`, and taken back"


def test_a_read_only_old_file_is_named(old_url, tmp_path):
    if not old_url.startswith("sqlite"):
        pytest.skip("of files only")
    with pytest.raises(StoreError, match="is read-only"):
        open_store(f"sqlite:///file:{tmp_path}/study.db?mode=ro&uri=true", create=False)

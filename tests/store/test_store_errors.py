"""What is wrong with a database is said in one sentence that names the remedy, and nothing is touched."""

import re
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
import sqlalchemy as sa

from automl.store import StoreError, open_store
from automl.store.errors import ConnectionLostError
from automl.store.schema import OPTUNA_TABLES, metadata
from automl.types import Measurement, Outcome
from tests.kits.stores import add_trial, new_study, outcome, point


def refused(url, *words, **options) -> None:
    with pytest.raises(StoreError) as caught:
        open_store(url, **options)
    for word in words:
        assert word in str(caught.value)


# -- opening -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", [str, Path, lambda p: f"sqlite:///{p}", lambda p: f"sqlite+pysqlite:///{p}"])
def test_a_path_and_a_url_open_the_same_file(tmp_path, form):
    path = tmp_path / "größe {x} 100%.db"
    with open_store(path) as store:
        new_study(store)
    with open_store(form(path), create=False) as store:
        assert [s.name for s in store.studies()] == ["digits"]


def test_a_relative_path_stays_where_it_was_opened(tmp_path, monkeypatch):
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path)
    with open_store("sqlite:///study.db") as store:
        monkeypatch.chdir(tmp_path / "elsewhere")
        new_study(store)
    assert [p.name for p in tmp_path.iterdir() if p.is_file()] == ["study.db"], "one file, once closed"


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("mysql://localhost/x", ["SQLite or PostgreSQL", "'mysql'", "--storage"]),
        ("sqlite://", ["in memory", "sqlite:///study.db"]),
        ("sqlite:///:memory:", ["in memory"]),
        ("postgresql+psycopg://a:b@c:d/e", ["cannot be read", "sqlite:///study.db"]),
        ("://", ["cannot be read"]),
    ],
)
def test_what_is_no_database_of_ours_is_explained(url, words):
    refused(url, *words)


def test_a_folder_and_a_missing_folder_are_told_apart(tmp_path):
    refused(tmp_path, "is a folder", "/study.db")
    refused(tmp_path / "no" / "study.db", f"the folder {tmp_path}/no", "Create it")
    assert list(tmp_path.iterdir()) == []


def test_a_command_that_only_reads_makes_no_file(tmp_path):
    refused(tmp_path / "typo.db", "there is no database", "automl search", create=False)
    assert list(tmp_path.iterdir()) == []
    sqlite3.connect(tmp_path / "empty.db").close()
    (tmp_path / "empty.db").touch()
    refused(tmp_path / "empty.db", "holds no studies", create=False)


def test_a_text_file_is_refused_and_kept(tmp_path):
    path = tmp_path / "study.yaml"
    path.write_text("model: resnet20\n" * 100)
    refused(path, "is not an SQLite database", "--storage")
    assert path.read_text() == "model: resnet20\n" * 100


def test_a_damaged_file_is_refused(tmp_path):
    path = tmp_path / "study.db"
    with open_store(path) as store:
        new_study(store)
    content = bytearray(path.read_bytes())
    content[100:4096] = b"\xff" * 3996
    path.write_bytes(content)
    refused(path, "is damaged", ".recover")


def test_a_foreign_database_is_refused_and_kept(any_url):
    engine = sa.create_engine(any_url)
    with engine.begin() as connection:
        for name in ("customer", "invoice", "payment", "refund"):
            connection.execute(sa.text(f"CREATE TABLE {name} (id INTEGER)"))
    refused(any_url, "another program", "customer, invoice, payment, ...", "--storage")
    assert set(sa.inspect(engine).get_table_names()) == {"customer", "invoice", "payment", "refund"}
    engine.dispose()


def test_a_database_of_optuna_is_shared(any_url):
    import optuna

    optuna.create_study(study_name="theirs", storage=any_url).add_trial(optuna.trial.create_trial(value=1.0))
    with open_store(any_url) as store:
        new_study(store)
    assert optuna.load_study(study_name="theirs", storage=any_url).best_value == 1.0


def test_the_known_tables_of_optuna_are_those_it_makes():
    from optuna.storages._rdb.models import BaseModel

    assert set(BaseModel.metadata.tables) | {"alembic_version"} == OPTUNA_TABLES
    assert not OPTUNA_TABLES & set(metadata.tables)


def test_a_newer_schema_is_refused(any_url):
    open_store(any_url).close()
    engine = sa.create_engine(any_url)
    with engine.begin() as connection:
        connection.execute(sa.text("UPDATE automl_schema SET version = 99"))
    engine.dispose()
    refused(any_url, "schema version 99", "reads versions up to 5", "--storage")


def test_postgresql_says_why_it_cannot_be_entered(postgres):
    refused(postgres.get_uri(database="nope"), "does not exist on the server", "createdb")
    refused(postgres.get_uri().replace("postgres:@", "nobody:@"), "refuses this user")
    refused("postgresql://ann:secret@127.0.0.1:1/x", "cannot be reached", "ann:***@", timeout_s=2)


def test_a_password_is_not_shown(postgres):
    with pytest.raises(StoreError) as caught:
        open_store("postgresql://ann:secret@127.0.0.1:1/x", timeout_s=2)
    assert "secret" not in str(caught.value)


def test_without_psycopg_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "psycopg", None)  # as if it were not installed
    refused("postgresql://localhost/x", "needs the package psycopg", "pip install 'automl-compress[postgres]'")


# -- in use ------------------------------------------------------------------------------------------------------------


def test_a_locked_file_is_waited_for_then_named(tmp_path):
    path = tmp_path / "study.db"
    with open_store(path, timeout_s=0.3) as store:
        study = new_study(store)
        blocker = sqlite3.connect(path, isolation_level=None)
        blocker.execute("BEGIN EXCLUSIVE")
        with pytest.raises(StoreError, match=re.escape(f"{path} is locked by another process. Wait for it or stop")):
            store.open_trial(study.id, "amc", 0, 0, point())
        assert store.trials(study.id) == [], "reading goes on"
        blocker.execute("COMMIT")
        assert add_trial(store, study).number == 0, "and so does writing, after"
        blocker.close()


def test_a_file_locked_against_readers_is_named_on_opening(tmp_path):
    path = tmp_path / "study.db"
    blocker = sqlite3.connect(path, isolation_level=None)  # not in WAL mode yet: its lock keeps everyone out
    blocker.execute("BEGIN EXCLUSIVE")
    refused(path, "is locked by another process", timeout_s=0.3)
    blocker.close()


def test_a_short_lock_is_waited_for(tmp_path):
    path = tmp_path / "study.db"
    with open_store(path, timeout_s=20) as store:
        study = new_study(store)
        hold = "import sqlite3, sys, time; c = sqlite3.connect(sys.argv[1], isolation_level=None)\n"
        hold += "c.execute('BEGIN EXCLUSIVE'); print('held', flush=True); time.sleep(0.7); c.execute('COMMIT')"
        with subprocess.Popen([sys.executable, "-c", hold, str(path)], stdout=subprocess.PIPE, text=True) as holder:
            assert holder.stdout.readline() == "held\n"
            assert add_trial(store, study).finish_order == 1
            holder.wait(10)


def test_a_lock_in_postgresql_is_waited_for_then_named(postgres_url):
    with open_store(postgres_url, timeout_s=0.3) as store:
        study = new_study(store)
        engine = sa.create_engine(postgres_url)
        with engine.begin() as blocker:
            blocker.execute(sa.text("LOCK TABLE trial IN EXCLUSIVE MODE"))
            with pytest.raises(StoreError, match="is locked by another process"):
                store.open_trial(study.id, "amc", 0, 0, point())
            assert store.trials(study.id) == []
        assert add_trial(store, study).finish_order == 1
        engine.dispose()


def test_a_process_suspended_in_a_transaction_of_postgresql_keeps_nobody_waiting(postgres_url):
    with open_store(postgres_url, timeout_s=1.5) as store, open_store(postgres_url, timeout_s=30) as other:
        study = new_study(store)
        with pytest.raises(ConnectionLostError), store.database.write() as suspended:
            suspended.execute(sa.text("SELECT * FROM study FOR UPDATE"))
            with other.drive(study.id):
                assert add_trial(other, study).finish_order == 1
            suspended.execute(sa.text("SELECT 1"))
        assert add_trial(store, study, number=1).finish_order == 2, "it goes on, with another connection"


def test_a_full_disk_is_named_and_nothing_is_lost(tmp_path):
    with open_store(tmp_path / "study.db") as store:
        study = new_study(store)
        trial = store.open_trial(study.id, "amc", 0, 0, point())
        closed = add_trial(store, study)
        pages = [1]  # SQLite takes the size it has for the least

        @sa.event.listens_for(store.database.engine, "connect")
        def limit(connection, _record):
            connection.execute(f"PRAGMA max_page_count={pages[0]}")

        store.database.engine.dispose()
        many = [Measurement(f"metric {i}", 1.0, unit="x" * 90) for i in range(500)]
        with pytest.raises(StoreError, match=r"the disk is full\. Free some space, then .* `automl resume`"):
            store.close_trial(trial.id, Outcome.done(many))
        assert store.trials(study.id) == [trial, closed], "all or nothing"
        pages[0] = 10**6
        store.database.engine.dispose()
        assert len(store.close_trial(trial.id, Outcome.done(many)).measurements) == 500


def test_a_read_only_file_is_read_but_not_written(tmp_path):
    path = tmp_path / "study.db"
    with open_store(path) as store:
        study = new_study(store)
        add_trial(store, study)
    with open_store(f"sqlite:///file:{path}?mode=ro&uri=true", create=False) as store:
        assert len(store.trials(store.study("digits").id)) == 1
        with pytest.raises(StoreError, match=r"is read-only\. Make the file and its folder writable"):
            store.open_trial(study.id, "amc", 0, 0, point())


def test_a_read_only_empty_file_is_named(tmp_path):
    path = tmp_path / "study.db"
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE version_info (id INTEGER)")
    connection.close()
    refused(f"sqlite:///file:{path}?mode=ro&uri=true", "is read-only")


def test_a_read_only_server_is_named(postgres_url):
    open_store(postgres_url).close()
    with (
        open_store(f"{postgres_url}%20-cdefault_transaction_read_only%3Don") as store,
        pytest.raises(StoreError, match=r"is read-only\. Name a primary server"),
    ):
        new_study(store)


def test_a_missing_file_of_a_uri_is_named(tmp_path):
    refused(f"sqlite:///file:{tmp_path}/no/study.db?uri=true", "cannot be opened", "--storage")


@pytest.mark.parametrize("replaced", [False, True])
def test_a_file_that_is_deleted_or_replaced_while_it_is_in_use_is_rescued(tmp_path, replaced):
    path = tmp_path / "study.db"
    with open_store(path) as store, open_store(path) as reader:
        study = new_study(store)
        with store.drive(study.id):
            add_trial(store, study)
            left = store.open_trial(study.id, "amc", 0, 0, point())
            for file in tmp_path.glob("study.db*"):
                file.unlink()
            if replaced:
                open_store(path).close()
            for _ in range(2):
                with pytest.raises(StoreError, match=r"study\.db was deleted, .*rescued-\d+: move that.*automl resume"):
                    store.close_trial(left.id, outcome())
        with pytest.raises(StoreError, match="start again"):
            reader.studies()
    rescued = [p for p in tmp_path.iterdir() if "rescued" in p.name]
    assert len(rescued) == 1
    rescued[0].replace(path)
    with open_store(path, create=False) as store:
        assert sorted(t.state.value for t in store.trials(store.study("digits").id)) == ["done", "running"]


def test_a_file_that_is_replaced_but_for_its_log_is_refused(tmp_path):
    path = tmp_path / "study.db"
    with open_store(path) as store:
        study = new_study(store)
        path.unlink()
        open_store(path).close()
        with pytest.raises(StoreError, match=r"study\.db was deleted, moved or replaced"):
            add_trial(store, study)
    with open_store(path, create=False) as store:
        assert store.studies() == []


def test_the_records_of_a_deleted_file_are_not_said_to_be_rescued_where_they_could_not_be(tmp_path, monkeypatch):
    path = tmp_path / "study.db"
    with open_store(path) as store:
        study = new_study(store)
        path.unlink()
        monkeypatch.setattr("os.getpid", lambda: 7)
        (tmp_path / "study.db.rescued-7.7.partial").mkdir()  # in the way
        with pytest.raises(StoreError, match=r"cannot write what it held to .*from a copy") as caught:
            add_trial(store, study)
        assert "What it held is in" not in str(caught.value)


def test_foreign_keys_hold(any_url):
    with open_store(any_url) as store:
        closed = add_trial(store, new_study(store))
        with pytest.raises(sa.exc.IntegrityError), store.database.write() as connection:
            connection.execute(sa.text("DELETE FROM study"))
        assert store.trial(closed.id) == closed


@pytest.mark.parametrize("number", ["'NaN'", "'Infinity'", "'-Infinity'", "9e999", "NULL"])
def test_the_tables_themselves_refuse_what_is_not_finite(any_url, number):
    with open_store(any_url) as store:
        closed = add_trial(store, new_study(store), result=outcome())
        with pytest.raises((sa.exc.DBAPIError, StoreError)), store.database.write() as connection:
            connection.execute(sa.text(f"UPDATE measurement SET value = {number}"))
        assert store.trial(closed.id) == closed

"""A study that comes from elsewhere is data: what it names is run when its user names it again, and not before."""

from __future__ import annotations

import shutil
import sys

import pytest
import sqlalchemy as sa

from automl.config.study import StudyConfig
from automl.errors import StudyError
from automl.store import copy_search, export_studies, is_ours, open_store
from automl.study.artifacts import file_of
from automl.study.trust import code_of, trusted_config
from tests.cli.conftest import automl
from tests.kits.foreign_studies import CONFIG, study_line, write_studies
from tests.test_house import FILES

CODE = """
from pathlib import Path
Path(__file__).with_name("ran").write_text("")
def make(**options):
    raise RuntimeError("made")
"""
SPECS = {
    "model": {"model": {"name": "theirs:make", "options": {"a": 1}}},
    "data": {"data": {"name": "theirs:make"}},
    "metrics": {"task": {"name": "custom", "metrics": "theirs:make"}, "objective": "loss"},
    "loss": {"loss": "theirs:make"},
    "agent": {"agent": {"name": "theirs:make", "options": {"a": 1}}},
    "baseline": {"baselines": ["theirs:make"]},
    "schedule": {"finish": {"training": {"schedule": "theirs:make"}}},
    "optimizer": {"evaluation": {"training": {"optimizer": "theirs:make", "learning_rate": 0.1}}},
    "transform": {"sparsify": {"training": {"transform": "theirs:make"}}},
    "installed": {"model": {"name": "os:system", "options": {"command": "touch ran"}}},
    "hub": {"model": {"name": "transformers:AutoModel", "options": {"pretrained": "x", "trust_remote_code": True}}},
}
COMMANDS = {
    "resume": ["resume"],
    "export": ["export", "--out", "w"],
    "finish": ["finish", "--reconstruction", "blockwise"],
}


@pytest.fixture
def theirs(tmp_path, monkeypatch):
    """The folder of a sender's code."""
    folder = tmp_path / "theirs"
    folder.mkdir()
    (folder / "theirs.py").write_text(CODE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield folder
    sys.modules.pop("theirs", None)


def sent(way, config, folder):
    """A database with somebody's study, which arrived in one way or another."""
    database = folder.parent / "study.db"
    line = study_line("a", **config, folder=str(folder), artifacts=str(folder), runner={"address": "ray://theirs:1"})
    line["study"]["config"]["data"]["root"] = str(folder)
    if way == "import":
        assert automl("db", "import", write_studies(folder / "x.gz", line), "--storage", database).code == 0
        return database
    with open_store(database) as store:
        store.create_study("a", line["study"]["config"], code_version="", environment={})
        if way == "changed":  # a record of one's own in a database that others write to
            changed = sa.text("""UPDATE study SET config = replace(config, '"trials": 100', '"trials": 101')""")
        else:
            changed = sa.text(f"UPDATE study SET seal = {'NULL' if way == 'database' else repr('0' * 64)}")
        with store.database.write() as connection:
            assert connection.execute(changed).rowcount == 1
    return database


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("what", SPECS)
def test_nothing_of_an_imported_study_is_run_unless_it_is_named(what, command, theirs, tmp_path):
    database = sent("import", SPECS[what], theirs)
    spec = next(iter(code_of(StudyConfig.from_dict({"name": "a", **CONFIG, **SPECS[what]}))))
    verb, *options = COMMANDS[command]
    for named in ([], ["--code", "theirs:other"], ["--code-root", str(theirs)]):
        ran = automl(verb, "a", *options, "--storage", database, *named)
        assert ran.code == 1 and f"would run {spec} with" in ran.err and f"--code {spec}" in ran.err, ran.err
        assert ran.err.count("\n") == 1
    assert not list(tmp_path.rglob("ran"))


@pytest.mark.parametrize("way", ["import", "database", "forged", "changed"])
def test_however_a_study_arrives_it_is_known_to_be_from_elsewhere(way, theirs, tmp_path):
    database = sent(way, SPECS["model"], theirs)
    assert automl("studies", "--storage", database).out.splitlines()[-1].split()[-4] == "elsewhere"
    assert "was not started by this user here" in automl("resume", "a", "--storage", database).err
    with open_store(database) as store:
        config = trusted_config(store, "a", ["theirs:make"], tmp_path)
        assert (config.folder, config.artifacts) == (str(tmp_path), None)
        assert (config.data.root, config.runner.address) == (None, None)
        artifact = store.add_artifact(store.study("a").id, None, "weights", theirs / "theirs.py", "0" * 64)
        with pytest.raises(StudyError, match="is missing"):
            file_of(store.study("a"), artifact, tmp_path)
        # Neither an export and import nor a copy makes it this user's.
        export_studies(store, tmp_path / "again.gz")
        copy_search(store, "a", "b", store.study("a").config)
        assert not is_ours(store.study("b"))
    assert automl("db", "import", "again.gz", "--storage", database, "--rename=a=c").code == 0
    listed = automl("studies", "--storage", database).out.splitlines()[2:]
    assert [line.split()[-4] for line in listed] == ["elsewhere"] * 3


def test_what_is_named_again_is_run_from_where_it_is_said_to_lie(theirs, tmp_path):
    database, mine = sent("import", SPECS["model"], theirs), tmp_path / "mine"
    mine.mkdir()
    shutil.copy(theirs / "theirs.py", mine)
    ran = automl("resume", "a", "--storage", database, "--code", "theirs:make")
    assert ran.code == 1 and "cannot import 'theirs'" in ran.err
    ran = automl("resume", "a", "--storage", database, "--code", "theirs:make", "--code-root", mine)
    assert ran.code == 1 and "RuntimeError('made')" in ran.err
    assert (mine / "ran").exists() and not (theirs / "ran").exists()


def test_a_study_of_ones_own_goes_on_without_a_word(theirs, tmp_path):
    with open_store(tmp_path / "study.db") as store:
        own = StudyConfig.from_dict({"name": "a", **CONFIG, **SPECS["model"], "artifacts": "kept"}, folder=theirs)
        store.create_study("a", own.to_record(), code_version="", environment={})
        copy_search(store, "a", "b", {**own.to_record(), "name": "b"})
        assert is_ours(store.study("b"))
        assert trusted_config(store, "a") == own
    assert "RuntimeError('made')" in automl("resume", "a", "--storage", tmp_path / "study.db").err
    assert automl("studies", "--storage", tmp_path / "study.db").out.splitlines()[-1].split()[-4] == "here"


def test_without_a_key_nothing_is_anybodys(theirs, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_STATE_HOME", "/proc/none")
    with open_store(tmp_path / "study.db") as store:
        store.create_study("a", study_line("a", **SPECS["model"])["study"]["config"], code_version="", environment={})
        assert store.study("a").seal is None and not is_ours(store.study("a"))


def test_nobody_else_makes_a_configuration_of_a_record():
    reading = {path for path, source in FILES.items() if "StudyConfig.from_record" in source}
    checks_or_compares = {"automl/commands/db.py", "automl/study/differences.py"}
    assert reading - checks_or_compares == {"automl/study/trust.py"}

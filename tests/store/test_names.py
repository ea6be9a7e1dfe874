"""A name leads to a file in its folder or to none; one bad study stands in nobody's way, and can be removed."""

from __future__ import annotations

import pytest
import sqlalchemy as sa

from automl.config.study import StudyConfig
from automl.errors import ConfigError, StudyError
from automl.report.pictures import picture_path
from automl.store import OptunaProjection, StoreError, StudyBusyError, StudyRecord, open_store, remove_study
from automl.store.optuna_projection import open_optuna_storage
from automl.study.artifacts import artifacts_folder
from automl.util.file_names import file_name, file_within
from tests.cli.conftest import automl
from tests.kits.foreign_studies import CONFIG, study_line, write_studies
from tests.kits.stores import add_trial, new_study

BAD = [
    "",
    " ",
    ".",
    "..",
    ".hidden",
    "../../evil",
    "/etc/evil",
    "a/b",
    "a\\b",
    "-x",
    "a ",
    "a\0",
    "\x1b[2J",
    "a\n",
    "x" * 201,
]


@pytest.mark.parametrize("name", BAD, ids=repr)
def test_a_name_that_is_no_file_name_is_refused_wherever_it_comes_from(name, tmp_path):
    with pytest.raises(ConfigError, match="a study's name has"):
        StudyConfig.from_dict({"name": name, **CONFIG})
    with open_store(tmp_path / "study.db") as store:
        with pytest.raises(StoreError, match="a study's name has"):
            new_study(store, name)
        record = StudyRecord(1, name, {}, "", {}, store.create_study("a", {}, code_version="", environment={}).created)
        with pytest.raises(StudyError, match="a study's name has"):
            picture_path(store, record, "curves")
        config = StudyConfig.from_dict({"name": "a", **CONFIG})
        object.__setattr__(config, "name", name)
        with pytest.raises(StudyError, match="a study's name has"):
            artifacts_folder(store, config)
    ran = automl("db", "import", write_studies(tmp_path / "x.gz", study_line(name)), "--storage", tmp_path / "x.db")
    assert ran.code == 1 and "a study's name has" in ran.err and ran.err.count("\n") == 1
    ran = automl("db", "import", tmp_path / "x.gz", "--storage", tmp_path / "x.db", f"--rename={name}=good")
    assert (ran.code, ran.out) == (0, f"{tmp_path}/x.db: good imported\n")


@pytest.mark.parametrize("name", ["a", "digits-2", "größe_日本", "v1.0..2", "_net-0", "x" * 200])
def test_a_name_that_is_one_stays_as_it_is(name):
    assert file_name(name) == name


@pytest.mark.parametrize(
    "name", ["", ".", "..", "../secret", "/etc/passwd", "in/it", "a\0", None, 7, "link", "none", "in"]
)
def test_a_file_is_in_its_folder_or_nowhere(name, tmp_path):
    (tmp_path / "secret").write_text("secret")
    folder = tmp_path / "folder"
    (folder / "in").mkdir(parents=True)
    (folder / "in" / "it").write_text("x")
    (folder / "link").symlink_to(tmp_path / "secret")
    (folder / "it").write_text("x")
    with pytest.raises(StudyError):
        file_within(folder, name, "the file")
    assert file_within(folder, "it", "the file") == folder / "it"


@pytest.mark.parametrize(
    "value",
    ["[]", "7", "not JSON", '{"knobs": 7}', '{"knobs": [{}]}', '{"goal": {}}', '{"limits": {"macs": "x"}}', "{}"],
)
def test_one_bad_study_does_not_hide_the_others(value, tmp_path):
    database = tmp_path / "study.db"
    with open_store(database) as store:
        for name in ("first", "bad", "last"):
            new_study(store, name, {**CONFIG, "agent": {"name": "random"}})
        with store.database.write() as connection:
            connection.exec_driver_sql("UPDATE study SET config = ? WHERE name = 'bad'", (value,))
    listed = [line.split()[0] for line in automl("studies", "--storage", database).out.splitlines()[2:]]
    assert [name for name in listed if name != "bad"] == ["first", "last"]
    for command in ("trials", "curves"):
        ran = automl(command, "bad", "--storage", database, "--out", tmp_path / "out")
        assert ran.code in (0, 1) and ran.err.count("\n") <= 1
    assert automl("db", "remove", "bad", "--storage", database).code == 0
    assert automl("studies", "--storage", database).err == ""


def test_a_study_is_removed_with_all_that_is_shown_of_it(any_url):
    with open_store(any_url) as store, open_store(any_url) as other:
        for name in ("digits", "digits-2"):
            study = new_study(store, name)
            add_trial(store, study, "amc")
            first = add_trial(store, study, "random")
            again = store.open_trial(study.id, "random", 0, 1, first.point)
            store.reopen_trial(again.id)
            store.add_artifact(study.id, first.id, "picture", "x.png", "a" * 64)
            projection = OptunaProjection.of(store, study)
            projection.sync(strict=True)
            projection.close()
        with other.drive(study.id), pytest.raises(StudyBusyError, match="is being run by process"):
            remove_study(store, "digits-2")
        remove_study(store, "digits-2")
        assert [study.name for study in store.studies()] == ["digits"]
        with store.database.read() as connection:
            counts = {
                t: connection.scalar(sa.text(f"SELECT count(*) FROM {t}")) for t in ("trial", "measurement", "lease")
            }
        assert counts == {"trial": 3, "measurement": 4, "lease": 0}
        shown = open_optuna_storage(store.url)
        assert sorted(study.study_name for study in shown.get_all_studies()) == ["digits/amc/0", "digits/random/0"]
        shown.remove_session()
        shown.engine.dispose()
        with pytest.raises(StoreError, match=r"no study 'digits-2'"):
            remove_study(store, "digits-2")

"""`automl db`: studies from one database to another, and a copy of one in use."""

from __future__ import annotations

from tests.cli.conftest import automl


def test_a_study_is_exported_imported_and_shown(searched, tmp_path):
    database, _ = searched
    file, other = tmp_path / "studies.jsonl.gz", tmp_path / "other.db"
    ran = automl("db", "export", file, "--storage", database)
    assert (ran.code, ran.out) == (0, f"{file}: amc-digits\n"), ran.err
    ran = automl("db", "import", file, "--storage", other)
    assert (ran.code, ran.out) == (0, f"{other}: amc-digits imported\n"), ran.err
    assert (
        automl("trials", "amc-digits", "--storage", other).out
        == automl("trials", "amc-digits", "--storage", database).out
    )
    ran = automl("db", "import", file, "--storage", other)
    assert ran.code == 1 and "--rename amc-digits=OTHER" in ran.err and ran.err.count("\n") == 1
    assert automl("db", "import", file, "--storage", other, "--rename", "amc-digits=again").code == 0
    assert [line.split()[0] for line in automl("studies", "--storage", other).out.splitlines()[-2:]] == [
        "amc-digits",
        "again",
    ]
    ran = automl("db", "import", file, "--storage", other, "--rename", "again")
    assert ran.code == 1 and "OLD=NEW" in ran.err
    ran = automl("db", "export", file, "--storage", other, "--study", "agian")
    assert ran.code == 1 and "did you mean 'again'" in ran.err


def test_a_backup_is_a_database(searched, tmp_path):
    copy = tmp_path / "copy.db"
    assert automl("db", "backup", copy, "--storage", searched[0]).code == 0
    assert automl("studies", "--storage", copy).out == automl("studies", "--storage", searched[0]).out
    assert "exists already" in automl("db", "backup", copy, "--storage", searched[0]).err

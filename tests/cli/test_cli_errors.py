"""Bad input gets one clear error: exit code 1, one line, no traceback, nothing recorded."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tests.cli.conftest import DIGITS, ROOT, automl


def refused(*arguments) -> str:
    """The one line that a command that fails says."""
    ran = automl(*arguments)
    assert ran.code == 1
    assert ran.out == ""
    assert ran.err.startswith("automl: ") and ran.err.count("\n") == 1
    return ran.err


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (("trials:", "trails:"), "line 16: trails: unknown key; did you mean 'trials'"),
        (("macs <= 12%", "macs <= 1%"), "no network in the space has macs <= 11,755: the smallest has"),
        (("macs <= 12%", "energy <= 5"), "no budget on 'energy'"),
        (("name: small_cnn", "name: small_cn"), "unknown model 'small_cn'; did you mean 'small_cnn'"),
        (("name: small_cnn", "name: no_such_module:make"), "cannot import 'no_such_module'"),
        (("name: digits", "name: digit"), "unknown data set 'digit'; did you mean 'digits'"),
        (("name: digits", "name: no_such_module:data"), "cannot import 'no_such_module'"),
        (("agent: amc", "agent: {name: amc, warmpu: 3}"), "agent 'amc' has no option 'warmpu'"),
        (("split_seed: 0", "split_seed: 0\n  root: 7"), "data.root: expected text, got 7"),
        (("budget:", "space: {exclude: [nothing]}\nbudget:"), "nothing"),
    ],
)
def test_a_study_file_that_cannot_be_run(study_file, tmp_path, change, complaint):
    database = tmp_path / "study.db"
    assert complaint in refused("search", study_file(change), "--storage", database)
    if database.exists():
        assert "no studies" in automl("studies", "--storage", database).out


def test_files_and_studies_that_are_not_there(searched, tmp_path):
    assert "cannot read the study file" in refused("search", tmp_path / "no.yaml")
    assert "did you mean 'amc-digits'" in refused("resume", "amc-digit", "--storage", searched[0])
    assert "did you mean 'amc-digits'" in refused("trials", "amc-digit", "--storage", searched[0])
    refused("resume", "amc-digits", "--storage", tmp_path / "nothing.db")
    assert not (tmp_path / "nothing.db").exists()


def test_a_database_that_is_not_ours(tmp_path):
    (tmp_path / "text.db").write_text("not a database, but long enough to look like one" * 20)
    refused("search", DIGITS, "--storage", tmp_path / "text.db")


def test_unknown_export_formats(searched, tmp_path):
    message = refused("export", "amc-digits", "--storage", searched[0], "--out", tmp_path / "w", "--format", "onx")
    assert "unknown export format 'onx'" in message


@pytest.mark.parametrize("arguments", [["search"], ["search", "x", "--trials", "0"], ["fly"], []])
def test_a_command_line_that_makes_no_sense(arguments, capsys):
    with pytest.raises(SystemExit) as stop:
        automl(*arguments)
    assert stop.value.code == 2


@pytest.mark.parametrize("taken", ["agents", "search_spaces"])
def test_a_foreign_package_under_one_of_our_names_is_named_with_the_remedy(tmp_path, taken):
    foreign = tmp_path / taken / "__init__.py"
    foreign.parent.mkdir()
    foreign.write_text("raise SystemExit('the foreign package was executed')")
    path = os.pathsep.join([str(tmp_path), str(ROOT)])
    done = subprocess.run(
        [sys.executable, "-P", "-c", "import automl"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
    )
    message = done.stderr.splitlines()[-1]
    assert message.startswith(f"ImportError: `import {taken}` finds {foreign}, not the package of automl-compress")
    assert f"put {ROOT} first on PYTHONPATH" in message

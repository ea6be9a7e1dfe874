"""What a command loads before it works, and the version. In processes of their own: here torch is loaded already."""

from __future__ import annotations

import subprocess
import sys

import pytest

from automl.cli import COMMANDS, main
from automl.config.study import StudyConfig
from automl.store import open_store
from tests.cli.conftest import ROOT
from tests.kits.stores import CONFIG, add_trial, new_study
from tests.test_packaging import PROJECT

SLOW = {"numpy", "optuna", "pandas", "ray", "sqlalchemy", "torch"}


def loaded(*commands: list[str]) -> set[str]:
    """The slow libraries that a process has loaded once it has run the commands, one after the other."""
    code = f"""
import contextlib, sys
from automl.cli import main
for command in {list(commands)}:
    with contextlib.suppress(SystemExit):
        assert main(command) == 0
print(*{SLOW} & set(sys.modules), file=sys.stderr)
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert len(done.stdout.splitlines()) >= len(commands)
    return set(done.stderr.split())


def test_help_and_version_load_nothing_slow():
    helps = [[*command.name.split(), "--help"] for command in COMMANDS]
    assert loaded(["--help"], ["--version"], *helps, ["db", "import", "--help"]) == set()


def test_listing_keys_loads_no_torch_and_no_database():
    assert loaded(["keys"], ["keys", "training"]) <= {"numpy"}


def test_reading_the_record_loads_no_torch(tmp_path):
    storage = f"sqlite:///{tmp_path}/study.db"
    settings = {"name": "s", "model": "small_cnn", "data": "digits", "budget": "macs <= 50%"}
    with open_store(storage) as store:
        study = new_study(store, "s", {**StudyConfig.from_dict(settings).to_record(), **CONFIG})
        add_trial(store, study)
    commands = [["studies"], ["trials", "s"], ["show", "s"], ["show", "s", "random/0/0"], ["compare", "s", "s"]]
    assert loaded(*([*command, "--storage", storage] for command in commands)) <= {"sqlalchemy"}


def test_the_version_is_that_of_the_project(capsys):
    with pytest.raises(SystemExit) as stop:
        main(["--version"])
    assert (stop.value.code, capsys.readouterr().out) == (0, f"automl {PROJECT['version']}\n")

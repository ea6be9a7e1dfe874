"""A study of depth from its file to the files that deploy, and what such a study refuses."""

from __future__ import annotations

import json

import pytest
import yaml

from automl.config.study import StudyConfig
from automl.errors import ConfigError
from tests.cli.conftest import DIGITS
from tests.cli.conftest import automl as command


def study(**settings):
    raw = yaml.safe_load(DIGITS.read_text())
    raw["model"]["weights"] = str(DIGITS.with_name(raw["model"]["weights"]))
    raw |= {"name": "depth-digits", "space": {"name": "depth", "skips": True}, "agent": "evolution", "trials": 8}
    return {**raw, "budget": "macs <= 40%", **settings}


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    path = tmp_path_factory.mktemp("depth") / "study.yaml"
    path.write_text(yaml.safe_dump(study()))
    return path


def test_inspect_lists_the_blocks(file):
    ran = command("inspect", file)
    assert ran.code == 0, ran.err
    assert "2 blocks that can be removed" in ran.out
    assert any(line.startswith("conv1.0") and "branch" in line for line in ran.out.splitlines())
    assert any(line.startswith("conv4.0") and "run" in line for line in ran.out.splitlines())
    assert "1 skips can be added: conv4.0 to conv4.0" in ran.out


def test_a_search_and_its_export(file, tmp_path):
    database = tmp_path / "study.db"
    ran = command("search", file, "--storage", database)
    assert ran.code == 0, ran.err
    rows = json.loads(command("trials", "depth-digits", "--storage", database, "--format", "json").out)
    originals = [row for row in rows if row["agent"] == "base"]
    assert all(row[key] == 1 for row in originals for key in row if key.startswith("keep:"))
    searched = [row for row in rows if row["agent"] in ("random", "evolution")]
    assert any(row["level:block:conv1.0"] == 0 for row in searched)
    assert any(row["level:skip:conv4.0>conv4.0"] == 1 for row in searched)
    out = tmp_path / "winner"
    ran = command("export", "depth-digits", "--storage", database, "--out", out, "--format", "safetensors,pt2")
    assert ran.code == 0, ran.err
    curves = command("curves", "depth-digits", "--storage", database)
    assert curves.code == 0, curves.err


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"space": {"name": "channels", "skips": True}}, "skips: is no option of channels"),
        ({"space": {"name": "depth", "max_skips": 0}}, "max_skips"),
    ],
)
def test_bad_settings_get_one_clear_error(settings, message):
    with pytest.raises(ConfigError, match=message):
        StudyConfig.from_dict(study(**settings))

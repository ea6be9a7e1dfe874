"""The scripts that make a table of a real network and compare agents on it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from agents import TrialState
from automl.benchmark import Table
from automl.config.study import StudyConfig
from automl.study.setup import Setup
from experiments.tabular import build, compare

ROOT = Path(__file__).resolve().parents[2]
STUDY = ROOT / "experiments" / "digits" / "study.yaml"
OPTIONS = [str(STUDY), "--steps", "4", "--budget", "macs <= 30%"]


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> Path:
    """A table of the digits network, built at one go."""
    out = tmp_path_factory.mktemp("built") / "digits.npz"
    build.main([*OPTIONS, "--out", str(out)])
    return out


def test_it_holds_what_the_evaluator_measures(built):
    table = Table.load(built)
    setup = Setup(StudyConfig.from_file(STUDY))
    setup.evaluator.limits = dict(table.limits)
    assert len(table) > build.CHUNK
    assert table.space.knobs[0].levels == (6, 12, 18, 24)
    assert table.provenance["model"] == "small_cnn" and "root" not in table.provenance["data"]
    assert str(Path.home()) not in json.dumps(table.provenance)
    rng = np.random.default_rng(0)
    for _ in range(5):
        point = table.space.project(rng.uniform(0.1, 1, 4), table.limits)
        recorded, measured = table.evaluate(point), setup.evaluator(point)
        assert recorded.state is measured.state is TrialState.DONE
        assert {m: np.float32(measured.values[m]) for m in table.values} == {
            m: recorded.values[m] for m in table.values
        }
        assert all(recorded.values[m] == measured.values[m] for m in ("macs", "params"))
    assert table.sensitivity.keys() == {knob.name for knob in table.space.knobs}
    assert all(len(table.sensitivity[knob.name]) == len(knob.levels) for knob in table.space.knobs)


def test_a_run_that_was_killed_goes_on_and_gives_the_same_table(built, tmp_path, capsys):
    log = built.with_suffix(".jsonl").read_bytes()
    cut = log.splitlines(keepends=True)
    for kept in (b"".join(cut[: 1 + build.CHUNK]) + cut[1 + build.CHUNK][:20], log[:-1]):
        (tmp_path / "killed.jsonl").write_bytes(kept)
        build.main([*OPTIONS, "--out", str(tmp_path / "killed.npz")])
        through, again = Table.load(built), Table.load(tmp_path / "killed.npz")
        np.testing.assert_array_equal(through.rows, again.rows)
        for metric, column in through.values.items():
            np.testing.assert_array_equal(column, again.values[metric])
    left = len(cut) - 1 - build.CHUNK
    assert f"{left} of {left}" in capsys.readouterr().out
    other = [*OPTIONS[:2], "5", *OPTIONS[3:]]
    with pytest.raises(SystemExit, match="of another network, grid or evaluation"):
        build.main([*other, "--out", str(tmp_path / "killed.npz")])


def test_agents_are_compared(built, tmp_path):
    options = [
        "--agents",
        "uniform",
        "random",
        "--trials",
        "5",
        "20",
        "--seeds",
        "3",
        "--out",
        str(tmp_path / "digits"),
    ]
    compare.main([str(built), *options])
    lines = (tmp_path / "digits.md").read_text().splitlines()
    assert sum(line.startswith(("| uniform", "| random")) for line in lines) == 2
    assert (tmp_path / "digits.png").read_bytes().startswith(b"\x89PNG")

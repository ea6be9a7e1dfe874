"""The digits study with few trials, for tests of what becomes of its finalists."""

from __future__ import annotations

import json
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from torch import nn

from automl import export
from automl.config.study import StudyConfig
from automl.data import load
from automl.store import TrialRecord, open_store
from automl.study.setup import Setup
from automl.types import Phase
from automl.zoo import load_model
from tests.cli.conftest import DIGITS, automl, spawn
from tests.training.conftest import accuracy

WEIGHTS_FILE = str(DIGITS.with_name("small_cnn.safetensors"))


def setup(**sections: Any) -> Setup:
    """What a study of the digits network within 30 % of its MACs means, with other `sections`."""
    return Setup(
        StudyConfig.from_dict(
            {
                "name": "s",
                "model": {"name": "small_cnn", "weights": WEIGHTS_FILE},
                "data": {"name": "digits", "validation_size": 400, "calibration_size": 100, "batch_size": 50},
                "budget": "macs <= 30%",
                "runner": {"threads": 1},
                **sections,
            }
        )
    )


def write(folder: Path, *more: str, trials: int = 4, baselines: str = "random", agent: str = "amc") -> Path:
    """The study's file with few trials and `more` lines."""
    text = DIGITS.read_text()
    for before, after in (
        ("small_cnn.safetensors", WEIGHTS_FILE),
        ("trials: 60", f"trials: {trials}"),
        ("baselines: [uniform, random]", f"baselines: [{baselines}]"),
        ("agent: amc", f"agent: {agent}"),
    ):
        assert before in text
        text = text.replace(before, after)
    path = folder / "study.yaml"
    path.write_text("\n".join([text, *more, ""]))
    return path


STUDY = "amc-digits"
"""The study's name."""


def trials(database: Path, name: str = STUDY) -> list[TrialRecord]:
    with open_store(database, create=False) as store:
        return store.trials(store.study(name).id)


def outcome(database: Path) -> list[tuple]:
    """What is known of each network as it is reported, times apart."""
    known = (
        (Phase.REFITTED, "accuracy"),
        (Phase.FINAL, "accuracy"),
        (Phase.FINAL, "loss"),
        (Phase.TEST, "accuracy"),
        (Phase.TRAINING, "loss"),
    )
    return [
        (t.agent, t.number, t.point, tuple(t.values_of(phase).get(metric) for phase, metric in known))
        for t in trials(database)
        if "accuracy" in t.values_of(Phase.FINAL)
    ]


def kill(folder: Path, *arguments: str | Path, when: Callable[[str], bool]) -> None:
    """Run `automl ARGUMENTS` in `folder` until what it has said so far fulfils `when`, then end it by SIGKILL."""
    process = spawn(*arguments, cwd=folder)
    try:
        said = ""
        started = time.monotonic()
        while not when(said):
            line = process.stderr.readline()
            assert line and time.monotonic() - started < 120, said
            said += line
    finally:
        process.send_signal(signal.SIGKILL)
        process.communicate()


def exported(database: Path, out: Path, name: str = STUDY) -> tuple[nn.Module, dict[str, Any]]:
    """The winner as it is rebuilt from its export, and the manifest; right on as many images as the manifest says."""
    ran = automl("export", name, "--storage", database, "--out", out, "--format=safetensors")
    assert ran.code == 0, ran.err
    network = export.load(out, load_model("small_cnn", {}, WEIGHTS_FILE))
    told = json.loads((out / "manifest.json").read_text())
    splits = load("digits", validation_size=400, calibration_size=256)
    for batches, metric in ((splits.validation, "accuracy"), (splits.test(), "test_accuracy")):
        assert accuracy(network, batches) == pytest.approx(told["measurements"][metric]["value"])
    return network, told


@contextmanager
def moved(database: Path, folder: Path, artifacts: str) -> Iterator[Path]:
    """A copy of a database in `folder`, its files there in a folder called `artifacts`, and none where they were."""
    shutil.copy(database, folder / "study.db")
    shutil.copytree(f"{database}.artifacts", folder / artifacts)
    hidden = Path(f"{database}.artifacts").rename(folder / "away")
    try:
        yield folder / "study.db"
    finally:
        hidden.rename(f"{database}.artifacts")

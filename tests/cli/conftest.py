"""The digits study, run once with few trials, and the command line as a function."""

from __future__ import annotations

import contextlib
import io
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from automl.cli import main

ROOT = Path(__file__).resolve().parents[2]
DIGITS = ROOT / "experiments" / "digits" / "study.yaml"
TRIALS = 6


@dataclass(frozen=True)
class Ran:
    """What a command left."""

    code: int
    out: str
    err: str


def automl(*arguments: str | Path) -> Ran:
    """`automl ARGUMENTS` in this process."""
    out, err = io.TextIOWrapper(io.BytesIO(), write_through=True), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main([str(argument) for argument in arguments])
    return Ran(code, out.buffer.getvalue().decode(), err.getvalue())


def spawn(*arguments: str | Path, cwd: Path) -> subprocess.Popen[str]:
    """`automl ARGUMENTS` in a process of its own that finds our packages only through PYTHONPATH."""
    return subprocess.Popen(
        [sys.executable, "-P", "-m", "automl.cli", *map(str, arguments)],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # it may be ignored where the tests run
    )


@pytest.fixture(scope="session")
def searched(tmp_path_factory) -> tuple[Path, Ran]:
    """A database with the digits study, finished, and what the search said."""
    database = tmp_path_factory.mktemp("digits") / "study.db"
    return database, automl("search", DIGITS, "--storage", database, "--trials", TRIALS)


@pytest.fixture
def study_file(tmp_path) -> Callable[..., Path]:
    """Writes a study file, the digits study with lines replaced, and returns its path."""

    def write(*changes: tuple[str, str], name: str = "study.yaml") -> Path:
        text = DIGITS.read_text().replace("small_cnn.safetensors", str(DIGITS.with_name("small_cnn.safetensors")))
        for before, after in changes:
            assert before in text
            text = text.replace(before, after)
        path = tmp_path / name
        path.write_text(text)
        return path

    return write

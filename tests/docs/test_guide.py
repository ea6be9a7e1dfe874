"""The guide's blocks of code, page by page, as a reader takes them: files are written, the rest is run in a folder.

`yaml title="..."` is a file, `python` runs in one namespace a page, `sh` is the command line. What takes long to run is
a study file, which is read and checked but not run.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from PIL import Image

from automl.config.study import StudyConfig
from tests.cli.conftest import DIGITS, ROOT, automl

BLOCK = re.compile(r"^(<!-- not run[^\n]*-->\n)?```(\w*)(?: title=\"([^\"]+)\")?\n(.*?)^```", re.MULTILINE | re.DOTALL)
PAGES = sorted((ROOT / "docs" / "guide").glob("*.md"))


@dataclass(frozen=True)
class Block:
    """A block of code of a page."""

    language: str
    title: str | None
    text: str
    run: bool


def blocks(page: Path) -> list[Block]:
    found = BLOCK.findall(page.read_text())
    return [Block(language, title or None, text, not apart) for apart, language, title, text in found]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_study_files_are_right(page, tmp_path):
    shutil.copy(DIGITS.with_name("small_cnn.safetensors"), tmp_path)
    for block in blocks(page):
        if block.language == "yaml" and block.title:
            (tmp_path / block.title).write_text(block.text)
            assert StudyConfig.from_file(tmp_path / block.title).name
        if block.language == "python":
            compile(block.text, str(page), "exec")


def follow(page: str) -> None:
    """Do what a page of the guide says, in the folder at hand."""
    shutil.copy(DIGITS.with_name("small_cnn.safetensors"), ".")
    follow_page(ROOT / "docs" / "guide" / f"{page}.md")


def follow_page(page: Path) -> None:
    """Do what a page says, in the folder at hand: files are written, code runs, commands end well."""
    names: dict[str, object] = {}
    for block in blocks(page):
        if block.title:
            Path(block.title).write_text(block.text)
        elif block.language == "python":
            exec(compile(block.text, page.name, "exec"), names)
        elif block.language == "sh" and block.run:
            for line in block.text.splitlines():
                command(*shlex.split(line))


def command(program: str, *arguments: str) -> None:
    """Run a line of a page."""
    if program == "pytest":
        asked = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *arguments]
        ran = subprocess.run(asked, check=False, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": "."})
        assert ran.returncode == 0, ran.stdout
    else:
        assert program == "automl"
        done = automl(*arguments)
        assert done.code == 0, (arguments, done.err)


def test_the_first_study_works(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    follow("first-study")
    assert "has accuracy" in Path("first.html").read_text()
    assert Path("trials.csv").read_text().count("\n") > 20


def test_an_agent_of_ones_own_works(tmp_path, monkeypatch):
    """It runs beside the baselines, keeps every promise, and its options are checked."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    follow("extend")
    assert "climbing:Climbing" in Path("climb.html").read_text()
    study = Path("climb.yaml").read_text()
    for told, why in (("stride: 3", "has no option 'stride'"), ("step: 0.3", "got <function")):
        wrong = study.replace("step: 0.3", told).replace("name: climb\n", "name: wrong\n")
        Path("wrong.yaml").write_text(wrong if "stride" in told else wrong.replace(":Climbing", ":dataclass"))
        refused = automl("search", "wrong.yaml")
        assert refused.code and why in refused.err, refused.err


def test_scenes_work(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    follow("scenes")


def test_a_design_works(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name, value in {"LEAST_S": 0.1, "FEWEST": 1, "MOST": 1}.items():
        monkeypatch.setattr(f"automl.designs.time_plan.{name}", value)
    monkeypatch.setattr("automl.study.space_of_study.PROBES", 1)
    names: dict[str, object] = {}
    for block in blocks(ROOT / "docs" / "guide" / "design.md"):
        if block.language == "python" and block.run:
            exec(compile(block.text.replace('"3m"', "1.5"), "design.md", "exec"), names)
    x, network, result = names["x"], names["network"], names["result"]
    assert torch.equal(network(x[:8]), result.network(x[:8]))


def test_networks_of_many_sizes_work(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    for block in blocks(ROOT / "docs" / "guide" / "many-sizes.md"):
        if block.run:
            exec(compile(block.text, "many-sizes.md", "exec"), names)
    slimmed, early, x = names["slimmed"], names["early"], names["x"]
    right = [found["accuracy"].value for found in slimmed.measurements.values()]
    assert right[0] > 0.6 and right[-1] > 0.85, right
    assert torch.equal(names["alone"].eval()(x[:8]), slimmed.network.eval().at(0.5, x[:8]))
    assert early.outcome(0.6 * early.costs[-1]).mean_cost <= 0.6 * early.costs[-1] and len(names["left_at"]) == 8


def test_commands_of_the_readme_exist():
    """Each command that README and guide name is one, and each command is named somewhere."""
    from automl.cli import COMMANDS

    texts = [path.read_text() for path in (ROOT / "README.md", *PAGES)]
    named = {word for text in texts for word in re.findall(r"^automl ([\w-]+)|`automl ([\w-]+)", text, re.MULTILINE)}
    flat = {word for pair in named for word in pair if word}
    known = {command.name for command in COMMANDS}
    assert flat <= known, "no such command"
    assert known <= flat, "a command that nobody hears of"


def test_signals_become_networks(tmp_path, monkeypatch):
    """With few steps: what they are worth is not the guide's affair."""
    monkeypatch.chdir(tmp_path)
    page = (ROOT / "docs" / "guide" / "signals.md").read_text()
    quick = re.sub(r"^(automl encode .*)$", r"\1 --steps 40", page, flags=re.MULTILINE).replace("steps=500", "steps=40")
    Path("quick.md").write_text(quick)
    follow_page(Path("quick.md"))
    assert {f"{name}.inr" for name in ("photo", "coin", "sparse", "rounded", "searched", "other", "volume")} <= {
        path.name for path in Path().iterdir()
    }


def test_starts_are_learnt_from_many_signals(tmp_path, monkeypatch):
    """With few steps and small pieces."""
    monkeypatch.chdir(tmp_path)
    page = (ROOT / "docs" / "guide" / "signals-meta.md").read_text()
    quick = re.sub(r"^(automl learn-start .*)$", r"\1 --steps 8 --patch 32 --width 8", page, flags=re.MULTILINE)
    Path("quick.md").write_text(quick.replace("--steps 1000", "--steps 30"))
    follow_page(Path("quick.md"))
    for form in ("latent", "sparse", "gated", "whole"):
        assert Path(f"{form}.npz").exists()
    assert Image.open("back.png").size == (64, 64)

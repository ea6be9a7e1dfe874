"""The guide's blocks of code, page by page, as a reader takes them: files are written, the rest is run in a folder.

`yaml title="..."` is a file, `python` runs in one namespace a page, `sh` is the command line. What takes long to run is
a study file, which is read and checked but not run.
"""

from __future__ import annotations

import re
import shlex
import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from automl.config.study import StudyConfig
from tests.cli.conftest import DIGITS, ROOT, automl

BLOCK = re.compile(r"^(<!-- not run.*-->\n)?```(\w*)(?: title=\"([^\"]+)\")?\n(.*?)^```", re.MULTILINE | re.DOTALL)
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


def test_the_first_study_works(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copy(DIGITS.with_name("small_cnn.safetensors"), tmp_path)
    names: dict[str, object] = {}
    for block in blocks(ROOT / "docs" / "guide" / "first-study.md"):
        if block.language == "python":
            exec(compile(block.text, "first-study.md", "exec"), names)
        elif block.language == "sh" and block.run:
            for line in block.text.splitlines():
                program, *arguments = shlex.split(line)
                assert program == "automl"
                ran = automl(*arguments)
                assert ran.code == 0, (line, ran.err)
        elif block.title:
            Path(block.title).write_text(block.text)
    assert "has accuracy" in Path("first.html").read_text()
    assert Path("trials.csv").read_text().count("\n") > 20


def test_a_design_works(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name, value in {"LEAST_S": 0.1, "FEWEST": 1, "MOST": 1}.items():
        monkeypatch.setattr(f"automl.designs.time_plan.{name}", value)
    monkeypatch.setattr("automl.study.space_of_study.PROBES", 1)
    names: dict[str, object] = {}
    for block in blocks(ROOT / "docs" / "guide" / "design.md"):
        if block.language == "python":
            exec(compile(block.text.replace('"3m"', "1.5"), "design.md", "exec"), names)
    x, network, result = names["x"], names["network"], names["result"]
    assert torch.equal(network(x[:8]), result.network(x[:8]))


def test_commands_of_the_readme_exist():
    """Each command that README and guide name is one, and each command is named somewhere."""
    from automl.cli import COMMANDS

    texts = [path.read_text() for path in (ROOT / "README.md", *PAGES)]
    named = {word for text in texts for word in re.findall(r"^automl (\w+)|`automl (\w+)", text, re.MULTILINE)}
    flat = {word for pair in named for word in pair if word}
    known = {command.name for command in COMMANDS}
    assert flat <= known, "no such command"
    assert known <= flat, "a command that nobody hears of"

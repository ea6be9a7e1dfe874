"""What an installation holds and needs: declared dependencies, pinned versions, the wheel's content."""

from __future__ import annotations

import ast
import importlib
import importlib.metadata
import subprocess
import sys
import tomllib
import zipfile
from itertools import chain
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("automl", "agents", "search_spaces")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def requirements(names: list[str]) -> dict[str, Requirement]:
    return {canonicalize_name(r.name): r for r in map(Requirement, names)}


def test_every_requirement_is_pinned_within_its_range():
    lines = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if line and line[0] != "#"]
    pins = requirements(lines)
    wanted = [*PROJECT["dependencies"], *chain.from_iterable(PROJECT["optional-dependencies"].values())]
    missing = []
    for name, requirement in requirements(wanted).items():
        if name == PROJECT["name"]:
            continue
        version = str(pins[name].specifier).removeprefix("==") if name in pins else None
        if version is None or not requirement.specifier.contains(version):
            missing.append(f"{requirement} (pinned: {version})")
    assert missing == []


def test_everything_imported_is_declared():
    """An import that works only because another library brings it breaks when that library stops doing so."""
    declared = set(
        requirements(
            [
                *PROJECT["dependencies"],
                *chain.from_iterable(
                    PROJECT["optional-dependencies"][x]
                    for x in ("onnx", "openvino", "executorch", "litert", "postgres", "ray", "testing")
                ),
            ]
        )
    )
    homes = importlib.metadata.packages_distributions()
    imported = set()
    for package in PACKAGES:
        for file in (ROOT / package).rglob("*.py"):
            for node in ast.walk(ast.parse(file.read_text())):
                if isinstance(node, ast.Import):
                    imported |= {alias.name.split(".")[0] for alias in node.names}
                elif isinstance(node, ast.ImportFrom) and node.module:
                    imported.add(node.module.split(".")[0])
    foreign = imported - set(sys.stdlib_module_names) - set(PACKAGES)
    assert "torch" in foreign
    undeclared = {name for name in foreign if not declared & {canonicalize_name(d) for d in homes.get(name, [name])}}
    assert undeclared == set()


def test_the_console_script_exists():
    module, _, function = PROJECT["scripts"]["automl"].partition(":")
    assert callable(getattr(importlib.import_module(module), function))


def test_the_wheel_holds_the_three_packages_and_nothing_else(tmp_path):
    pytest.importorskip("hatchling", reason="hatchling is part of the dev extra")
    command = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(tmp_path)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    sources = {f.relative_to(ROOT).as_posix() for p in PACKAGES for f in (ROOT / p).rglob("*.py")}
    assert sources <= names
    assert {name.split("/")[0] for name in names} - set(PACKAGES) == {f"automl_compress-{PROJECT['version']}.dist-info"}

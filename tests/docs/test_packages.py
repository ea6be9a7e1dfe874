"""The package of the guide is installed, passes the kits and is used by its names; broken ones break nothing."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import agents
from automl.config.json_schema import study_schema
from automl.config.study import StudyConfig
from automl.errors import BackendError, ConfigError, ExportError
from automl.export.formats import FORMATS, format_names, format_of, formats_known
from automl.measures.backends.registry import BACKENDS, backend_of, backends
from tests.cli.conftest import ROOT, automl
from tests.docs.test_guide import blocks
from tests.kits.packages import installed, recorded

BLOCKS = blocks(ROOT / "docs" / "guide" / "packages.md")
MINIMAL = {"name": "s", "model": "small_cnn", "data": "digits", "budget": "macs <= 50%"}


@pytest.fixture(scope="module")
def package(tmp_path_factory) -> Path:
    """The folder in which the package of the guide is installed; its tests lie beside the project."""
    project = tmp_path_factory.mktemp("project")
    for block in BLOCKS:
        if block.title:
            (project / block.title).parent.mkdir(exist_ok=True)
            (project / block.title).write_text(block.text)
    folder = installed(project, tmp_path_factory.mktemp("installed"))
    (project / "test_counts.py").replace(folder / "test_counts.py")
    return folder


def test_it_passes_the_kits(package, tmp_path):
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(package), str(ROOT)])}
    asked = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(package / "test_counts.py")]
    ran = subprocess.run(asked, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout
    assert "skipped" not in ran.stdout


def test_what_it_brings_is_used_by_its_names(package, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(package)
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    (use,) = (block for block in BLOCKS if block.language == "python" and not block.title)
    exec(compile(use.text, "packages.md", "exec"), names)
    result = names["result"]
    assert "mae" in result.base and result.measurements["mae"].value > 0
    half, whole = (Path("counts") / file for file in ("model-half.safetensors", "model.safetensors"))
    assert half.stat().st_size > 0 and whole.exists()
    files = json.loads(Path("counts/manifest.json").read_text())["files"]
    assert files["half"]["largest_difference"] <= 0.01
    zeros = sum(int((p == 0).sum()) for p in result.network.parameters())
    assert zeros > 50 and torch.isfinite(result.network(torch.randn(2, 16))).all()


def test_study_files_and_the_schema_know_the_names(package, monkeypatch):
    monkeypatch.syspath_prepend(package)
    training = {"epochs": 1, "method": {"name": "one_shot", "options": {"at": 0.1}}}
    told = {**MINIMAL, "task": "counts", "budget": "size <= 50%", "space": "sparsity", "finish": {"training": training}}
    config = StudyConfig.from_dict(told)
    assert config.goal == agents.Goal("mae", "minimize")
    assert StudyConfig.from_record(config.to_record()) == config
    assert StudyConfig.from_dict({**MINIMAL, "budget": "latency <= 50% on onnx-reference"}).parsed_budget.latency
    schema = study_schema()
    assert "counts" in json.dumps(schema["properties"]["task"]) and "mae" in json.dumps(schema["allOf"])
    assert "one_shot" in automl("keys", "method").out
    assert format_names()[-1] == "half" and backends()[-1].name == "onnx-reference"
    for method, complaint in (
        ("one_shoot", "did you mean 'one_shot'"),
        ({"name": "one_shot", "every": 3}, "no option"),
    ):
        with pytest.raises(ConfigError, match=complaint):
            StudyConfig.from_dict({**told, "finish": {"training": {**training, "method": method}}})


def test_the_folder_measures_itself_on_it_without_the_project(package, tmp_path):
    from automl.export import export
    from automl.testing.small_export import IMAGES, small_network
    from search_spaces import Plan

    export(small_network(), (IMAGES,), Plan(), tmp_path / "out", ["onnx"], manifest={})
    command = [sys.executable, tmp_path / "out" / "measure.pyz", tmp_path / "out", "--backend", "onnx-reference"]
    environment = {**os.environ, "PYTHONPATH": str(package)}
    ran = subprocess.run(
        [*command, "--processes", "1"], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.startswith("onnx-reference, batch 1, 1 thread(s): ")


GROUPS = ("automl.agents", "automl.tasks", "automl.methods", "automl.formats", "automl.backends")


@pytest.fixture
def broken(tmp_path, monkeypatch) -> Path:
    """Packages that bring what cannot be imported, what is something else, and a name twice, in every group."""
    points = {"lost": "module_that_is_not_there:Thing", "wrong": "json:dumps", "twice": "json:dumps"}
    recorded(tmp_path, "careless", dict.fromkeys(GROUPS, points))
    recorded(tmp_path, "other", {group: {"twice": "json:dumps"} for group in GROUPS})
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


def ask(group: str, name: str):
    """Ask for what a name of a group stands for, as the program does."""
    training = {"epochs": 1, "method": name}
    return {
        "automl.agents": lambda: agents.options(name),
        "automl.tasks": lambda: StudyConfig.from_dict({**MINIMAL, "task": name}),
        "automl.methods": lambda: require(training),
        "automl.formats": lambda: format_of(name),
        "automl.backends": lambda: backend_of(name),
    }[group]()


def require(training) -> None:
    from automl.config.method import MethodOptions
    from automl.training.methods.registry import require_method

    require_method(MethodOptions(training["method"]))


@pytest.mark.parametrize("group", GROUPS)
@pytest.mark.parametrize(
    ("name", "complaint"),
    [
        ("lost", "the package careless 1.0 brings 'lost' .* ModuleNotFoundError: .* Mend it or uninstall it"),
        ("wrong", "the package careless 1.0 brings 'wrong' .*: expected a.*, got <function dumps"),
        ("twice", "by the package .* 1.0 and by the package .* 1.0: uninstall all but one"),
    ],
)
def test_what_is_broken_is_named_with_its_package(broken, group, name, complaint):
    with pytest.raises((agents.AgentError, ConfigError, ExportError, BackendError), match=complaint):
        ask(group, name)


def test_what_is_broken_breaks_nothing_else(broken, caplog):
    assert {backend.name for backend in backends()} == set(BACKENDS) and formats_known() == FORMATS
    assert agents.sound_names() == [name for name in agents.names() if name not in ("lost", "wrong", "twice")]
    assert "careless 1.0 brings 'lost' of the group automl.backends" in caplog.text
    schema = study_schema()
    assert "agent_amc" in schema["$defs"] and "agent_lost" not in schema["$defs"]
    assert StudyConfig.from_dict({**MINIMAL, "task": "classification"}).goal.metric == "accuracy"
    assert "automl.agents" in automl("keys", "lost").err


def test_no_package_takes_a_name_of_ours(tmp_path, monkeypatch):
    ours = {"amc": "json:dumps", "classification": "json:dumps", "gradual": "json:dumps", "onnx": "json:dumps"}
    recorded(tmp_path, "greedy", {group: ours | {"eager": "json:dumps"} for group in GROUPS})
    monkeypatch.syspath_prepend(tmp_path)
    assert agents.options("amc").__module__ == "agents.amc" and agents.names().count("amc") == 1
    assert format_of("onnx") is FORMATS["onnx"] and backend_of("eager") is BACKENDS["eager"]
    assert StudyConfig.from_dict({**MINIMAL, "task": "classification"}).goal.metric == "accuracy"

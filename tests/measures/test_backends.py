"""Backends: each runs the exported file as it was exported, in processes of its own, with the project or without."""

import json
import math
import shutil
import subprocess
import sys
from importlib.util import find_spec

import numpy as np
import pytest
import torch
from torch import nn

from automl.config.latency import BACKENDS as NAMES
from automl.errors import BackendError
from automl.export import export
from automl.export.timing import measure_folder
from automl.measures.alone import MODULES, write_program
from automl.measures.backends.base import Backend
from automl.measures.backends.exported import Exported
from automl.measures.backends.measuring import Conditions, available
from automl.measures.backends.process_memory import with_peak
from automl.measures.backends.registry import BACKENDS, backend_of
from search_spaces import Plan
from tests.test_imports import ROOT, imports


def network(width: int) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        *(nn.Conv2d(3, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU(), nn.Conv2d(width, width, 3, padding=1)),
        *(nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, 4)),
    ).eval()


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A narrow network exported beside a wide original."""
    folder = tmp_path_factory.mktemp("export")
    x = torch.randn(8, 3, 16, 16)
    formats = ("onnx", "onnx-int8", "pt2")
    export(network(16), (x,), Plan(), folder, formats, manifest={"study": "s"}, original=network(64))
    return folder


@pytest.fixture
def folder(made, tmp_path):
    return shutil.copytree(made, tmp_path / "copy")


def test_budgets_name_the_backends_that_there_are():
    assert set(NAMES) == BACKENDS.keys()
    with pytest.raises(BackendError, match="no backend 'onnx-runtime'; did you mean 'onnxruntime'"):
        backend_of("onnx-runtime")


# compile takes a minute; executorch, which imports for long, and litert have tests of their own in `tests/export`.
@pytest.mark.parametrize("name", [n for n in NAMES if n not in ("compile", "executorch", "litert", "litert-int8")])
def test_a_backend_runs_what_was_exported_for_any_batch(name, made):
    backend = backend_of(name)
    if find_spec(backend.package) is None:
        pytest.skip(f"{backend.package} is not installed")
    run, exported = backend.loaded(Exported(made).file(backend.format), 1), Exported(made)
    assert exported.difference(run(exported.inputs(None))) <= backend.tolerance + 0.1 * ("int8" in name)
    for batch in (1, 5):
        (out,) = run(exported.inputs(batch))
        with torch.no_grad():
            expected = network(16)(torch.from_numpy(exported.inputs(batch)[0])).numpy()
        assert out.shape == (batch, 4)
        assert (
            np.abs(out - expected).max() <= (0.2 if "16" in name or "int8" in name else 1e-4) * np.abs(expected).max()
        )


def test_a_record_says_what_was_measured_on_what(made):
    record = measure_folder(made, Conditions("onnxruntime-int8", batch=2, processes=2))
    latency, ratio = record["latency_ms"], record["ratio"]
    assert latency.keys() == {"network", "original"} and 0 < ratio["low"] <= ratio["value"] <= ratio["high"] < 1
    assert (
        record["files"]["network"]["file"] == "model-int8.onnx"
        and record["files"]["original"]["file"] == "original.onnx"
    )
    assert record["quantiles_ms"]["network"]["0.5"] > 0 and record["versions"].keys() >= {"python", "onnxruntime"}
    assert record["device"]["processor"] and record["device"]["cores"] >= 1
    assert (record["study"], record["batch"], record["threads"], record["processes"]) == ("s", 2, 1, 2)
    assert record["noise"] is None or "noisy" in record["noise"] or "unsteady" in record["noise"]
    json.dumps(record, allow_nan=False)


def test_the_folder_measures_itself_without_the_project(folder, tmp_path):
    command = [sys.executable, "-I", folder / "measure.pyz", folder, "--backend", "onnxruntime", "--processes", "1"]
    # Of the project nothing must be in reach: `-I` ignores PYTHONPATH, and the archive comes first on the path.
    ran = subprocess.run([*command, "--out", "r.json"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.startswith("onnxruntime, batch 1, 1 thread(s): ")
    (record,) = json.loads((tmp_path / "r.json").read_text())
    assert record["backend"] == "onnxruntime" and record["files"]["network"]["file"] == "model.onnx"


def test_the_program_takes_nothing_else_of_the_project_along():
    files = [file for pattern in MODULES for file in sorted(ROOT.glob(pattern))]
    inside = {".".join(file.relative_to(ROOT).with_suffix("").parts) for file in files}
    assert len(inside) > 10
    for file in files:
        for found in imports(file.read_text()):
            top = found.module.partition(".")[0]
            assert top not in ("agents", "tests")
            ours = top in ("automl", "search_spaces")
            assert not ours or {found.module, found.target} & inside, f"{file.name} imports {found.target}"


def test_equal_modules_make_equal_programs(tmp_path):
    (tmp_path / "other").mkdir()
    assert write_program(tmp_path).read_bytes() == write_program(tmp_path / "other").read_bytes()


def test_what_is_not_what_was_exported_is_not_measured(folder):
    shutil.copy(folder / "original.onnx", folder / "model.onnx")
    with pytest.raises(BackendError, match=r"model\.onnx is not the file the manifest describes"):
        measure_folder(folder, Conditions("onnxruntime", processes=1))


def test_a_file_that_computes_something_else_is_noticed_in_the_process(folder):
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["probe"] = [[2 * value for value in values] for values in manifest["probe"]]
    (folder / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(BackendError, match="does not compute on onnxruntime what was exported"):
        measure_folder(folder, Conditions("onnxruntime", processes=1))


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"files": []}, "names no files"),
        ({"files": {"onnx": {"file": "../model.onnx", "sha256": ""}}}, "its name may not lead elsewhere"),
        ({"files": {}}, "no backend that is installed here"),
        ({"inputs": [{"shape": ["batch"], "dtype": "object", "example": [2]}]}, "has the type 'object'"),
        ({"inputs": [{"shape": ["batch"], "dtype": "float32", "example": [2**40]}]}, "has the shape"),
    ],
)
def test_a_folder_of_somebody_elses_is_checked(folder, change, complaint):
    manifest = json.loads((folder / "manifest.json").read_text()) | change
    (folder / "manifest.json").write_text(json.dumps(manifest))
    exported = Exported(folder)
    with pytest.raises(BackendError, match=complaint):
        available(folder)
        exported.file("onnx")
        exported.inputs(None)


def test_a_library_that_is_missing_is_named_with_what_installs_it():
    missing = Backend("somewhere", "onnx", "not_installed_anywhere", lambda path, threads: list)
    with pytest.raises(BackendError, match="python -m pip install not_installed_anywhere"):
        missing.require()


@pytest.mark.parametrize("option", ["batch", "threads", "processes"])
def test_senseless_conditions_are_refused(option):
    with pytest.raises(BackendError, match=f"{option} must be at least 1, got 0"):
        Conditions("eager", **{option: 0})


def test_the_peak_of_memory_is_what_was_added():
    _, peak = with_peak(lambda: np.ones(2**24).sum())  # 128 MiB
    assert peak is None or 0.9 * 2**27 <= peak <= 1.5 * 2**27


def test_outputs_are_compared_where_they_are_numbers(made):
    exported = Exported(made)
    exported.manifest["probe"] = [[1.0, None, 2.0]]
    assert exported.difference([np.array([1.0, 5.0, 2.5])]) == pytest.approx(0.25)
    assert exported.difference([np.array([1.0, 5.0, math.nan])]) == math.inf
    with pytest.raises(BackendError, match="no outputs to compare with"):
        exported.difference([])

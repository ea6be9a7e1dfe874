"""A limit on latency on a backend that deploys: searched by a table, certified, exported, measured again, recorded."""

from __future__ import annotations

import json

import pytest

from automl.store import open_store
from automl.types import Phase
from tests.cli.conftest import automl as command
from tests.cli.test_cli_latency_budget import NETWORK, STUDY
from tests.kits.rough_times import rough_times

KEPT = "latency <= 10 s on onnxruntime"


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """The database of a finished study, and its winner's folder, certified when it was exported."""
    folder = tmp_path_factory.mktemp("measure")
    (folder / "latency_parts.py").write_text(NETWORK)
    (folder / "study.yaml").write_text(STUDY.replace("latency <= 10 s", KEPT).replace("trials: 3", "trials: 1"))
    database, winner = str(folder / "study.db"), folder / "winner"
    with rough_times():
        assert command("search", folder / "study.yaml", "--storage", database).code == 0
    ran = command("export", "quick", "--storage", database, "--out", winner, "--format", "safetensors")
    assert ran.code == 0 and f"within {KEPT}" in ran.out and "\ncertified, 1e+04 ms allowed: onnxruntime" in ran.out
    return database, winner


def trials(database: str):
    with open_store(database, create=False) as store:
        return store.trials(store.study("quick").id), store.artifacts(store.study("quick").id)


def test_a_winner_is_certified_on_its_backend_and_the_certificate_goes_with_the_files(exported):
    database, winner = exported
    (certified,) = [t for t in trials(database)[0] if "latency_ms" in t.values_of(Phase.CERTIFICATE)]
    values = certified.values_of(Phase.CERTIFICATE)
    assert 0 < values["latency_ms"] <= values["latency_ms_high"] <= 10_000
    device = next(one.device for one in certified.measurements if one.metric == "latency_ms_high")
    assert "1 thread, onnxruntime (onnxruntime " in device and device.endswith("batch 8")
    assert "certificate" in {artifact.kind for artifact in trials(database)[1]}
    certificate = json.loads((winner / "certificate.json").read_text())
    assert certificate["limit"] == {"metric": "latency_ms", "value": 10_000.0} and certificate["within"] is True
    assert certificate["files"].keys() == {"network", "original"}
    assert {"model.onnx", "original.onnx", "measure.pyz"} <= {file.name for file in winner.iterdir()}


def test_certifying_again_measures_again_and_says_what_is_over(exported, tmp_path):
    _, winner = exported
    out = tmp_path / "again.json"
    ran = command("certify", winner, "--out", out)
    assert ran.code == 0 and ran.out.startswith("certified, 1e+04 ms allowed: ")
    assert json.loads(out.read_text())["within"] is True
    manifest = json.loads((winner / "manifest.json").read_text())
    strict = manifest | {"latency_limit": manifest["latency_limit"] | {"value": 0.001}}
    (winner / "manifest.json").write_text(json.dumps(strict))
    try:
        ran = command("certify", winner, "--out", out)
    finally:
        (winner / "manifest.json").write_text(json.dumps(manifest))
    assert ran.code == 1 and ran.out.startswith("not certified, 0.001 ms allowed: ")


def test_what_another_machine_measured_is_recorded_once_with_its_device(exported, tmp_path):
    database, winner = exported
    results = tmp_path / "results.json"
    ran = command("measure", winner, "--backend", "onnxruntime", "--processes", "1", "--out", results)
    assert ran.code == 0 and ran.out.startswith("onnxruntime, batch 1, 1 thread(s): ")
    told = json.loads(results.read_text())
    told[0]["device"]["processor"] = "a small board"
    results.write_text(json.dumps(told))
    for _ in range(2):
        ran = command("measure", results, "--into", "quick", "--storage", database)
        assert ran.code == 0 and "onnxruntime, batch 1" in ran.out
    recorded = [
        m for t in trials(database)[0] for m in t.measurements if m.device.startswith("a small board, 1 thread")
    ]
    names = [m.metric for m in recorded if not m.metric.startswith("peak")]
    assert sorted(names) == [f"latency_{x}:onnxruntime" for x in ("ms", "ms_high", "ratio", "ratio_high")]
    assert {m.phase for m in recorded} == {Phase.LATENCY}


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"version": 7}, "it has version 7"),
        ({"backend": "latency"}, "its backend is 'latency'"),
        ({"latency_ms": {"network": {"value": "fast"}}}, "holds no results"),
        ({"trial": 99}, "has no such trial"),
        ({"study": "another"}, "has no such trial"),
    ],
)
def test_results_that_are_none_are_refused(exported, tmp_path, change, complaint):
    database, winner = exported
    certificate = json.loads((winner / "certificate.json").read_text())
    results = tmp_path / "results.json"
    results.write_text(json.dumps([certificate, certificate | change]))
    before = trials(database)
    ran = command("measure", results, "--into", "quick", "--storage", database)
    assert ran.code == 1 and complaint in ran.err
    assert trials(database) == before


def test_an_export_without_a_limit_is_measured_and_not_certified(exported, tmp_path):
    manifest = json.loads((exported[1] / "manifest.json").read_text())
    del manifest["latency_limit"]
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    ran = command("certify", tmp_path)
    assert ran.code == 1 and "use `automl measure`" in ran.err

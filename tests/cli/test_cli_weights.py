"""A study of single weights from its file to the files that deploy, and what such a study refuses."""

from __future__ import annotations

import json

import pytest
import torch

import automl.export
from automl.config.study import StudyConfig
from automl.errors import ConfigError
from automl.export.packed import pack
from automl.store import open_store
from automl.types import Phase
from automl.zoo import load_model
from tests.cli.conftest import DIGITS
from tests.cli.conftest import automl as command

WEIGHTS = DIGITS.with_name("study-weights.yaml")


@pytest.fixture(scope="module")
def searched(tmp_path_factory):
    """A database with the study of weights, cut after a few trials and gone on with, and what both commands said."""
    folder = tmp_path_factory.mktemp("weights")
    weights = str(WEIGHTS.with_name("small_cnn.safetensors"))
    text = WEIGHTS.read_text().replace("small_cnn.safetensors", weights) + "finish: {finalists: 1}\n"
    study, database = folder / "study.yaml", folder / "study.db"
    study.write_text(
        text.replace("calibration_size: 256", "calibration_size: 128").replace("uniform, random", "uniform")
    )
    first = command("search", study, "--storage", database, "--trials", 1)
    return database, first, command("resume", "weights-digits", "--storage", database, "--trials", 2)


def test_a_search_finds_networks_whose_packed_file_keeps_the_budget(searched):
    database, first, resumed = searched
    assert first.code == resumed.code == 0, first.err + resumed.err
    with open_store(database, create=False) as store:
        study = store.study("weights-digits")
        trials = store.trials(study.id)
    assert len(trials) == 1 + 1 + 2
    limit = study.config["limits"]["size_bytes"]
    base = next(trial for trial in trials if trial.agent == "base")
    whole = base.values_of(Phase.FINAL)["macs"]
    for trial in trials:
        if trial is not base:
            assert 0.95 * limit < trial.values["size_bytes"] <= limit
            assert trial.values_of(Phase.FINAL).get("macs", whole) == whole
            assert trial.values["params"] < 0.25 * base.values["params"]
    shown = [line for line in resumed.out.splitlines() if line.startswith(("base", "uniform", "amc"))]
    assert len(shown) == 3 and all("1.18 M " in line for line in shown), "zeros are computed with like any number"
    assert database.with_name("weights-digits-kept.png").read_bytes().startswith(b"\x89PNG")


def test_what_is_kept_of_each_tensor_stands_in_the_table_of_trials(searched):
    ran = command("trials", "weights-digits", "--storage", searched[0], "--format", "json")
    rows = json.loads(ran.out)
    keeps = [key for key in rows[0] if key.startswith("keep:")]
    assert "keep:conv4.0.weight" in keeps
    for row in rows:
        assert all(0.03 <= row[key] <= 1 for key in keeps)
        assert all(row[key] == 1 for key in keeps) == (row["agent"] == "base")


def test_the_winner_is_exported_packed_and_the_other_files_say_that_they_store_zeros(searched, tmp_path):
    ran = command(
        "export", "weights-digits", "--storage", searched[0], "--out", tmp_path, "--format", "safetensors,pt2"
    )
    assert ran.code == 0, ran.err
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    files, measured = manifest["files"], manifest["measurements"]
    assert files["safetensors"]["bytes"] == measured["size_bytes"]["value"] <= manifest["limits"]["size_bytes"]
    assert files["safetensors"]["zeros"].startswith("packed") and files["pt2"]["zeros"].startswith("stored")
    network = automl.export.load(tmp_path, load_model("small_cnn", {}, None))
    assert len(pack(network)) == files["safetensors"]["bytes"]
    assert sum(int(p.count_nonzero()) for p in network.parameters()) == measured["params"]["value"]
    sparse = {name: entry["sparsity"] for name, entry in manifest["sparsity"].items()}
    point = manifest["point"]
    assert sparse == {name: pytest.approx(1 - point[name] / network.get_parameter(name).numel()) for name in point}
    program = torch.export.load(tmp_path / "model.pt2").module()
    x = torch.rand(3, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(program(x), network(x), atol=1e-4)


def test_an_update_turns_the_weights_of_one_export_into_those_of_the_next(searched, tmp_path):
    asked = ("export", "weights-digits", "--storage", searched[0], "--format", "safetensors")
    assert command(*asked, "--out", tmp_path / "old").code == 0
    ran = command(*asked, "--out", tmp_path / "new", "--trial", "amc/0/1", "--since", tmp_path / "old")
    assert ran.code == 0 and "update.bin" in ran.out, ran.err
    update = (tmp_path / "new" / "update.bin").read_bytes()
    old, new = (tmp_path / folder / "model.safetensors" for folder in ("old", "new"))
    assert automl.apply_update(old, update) == new.read_bytes() != old.read_bytes()
    ran = command(*asked, "--out", tmp_path / "none", "--since", tmp_path / "nowhere")
    assert ran.code != 0 and "--since expects" in ran.err


def test_inspect_lists_the_tensors_and_what_stays_whole():
    ran = command("inspect", WEIGHTS, "--trials", "10")
    assert ran.code == 0, ran.err
    assert "5 tensors of which single weights can go" in ran.out
    assert "stem.0.weight" in ran.out and "has fewer than 256 weights" in ran.out
    assert "size_bytes" in ran.out and "macs" not in ran.out


BASE = {"name": "n", "model": "small_cnn", "data": "digits", "budget": "size <= 25%", "space": "weights"}


def test_the_evaluation_has_defaults_that_fit_weights():
    config = StudyConfig.from_dict(BASE)
    assert (config.evaluation.importance, config.evaluation.reconstruction) == ("surgeon", "least_squares")
    assert StudyConfig.from_record(config.to_record()).evaluation == config.evaluation
    chosen = StudyConfig.from_dict({**BASE, "evaluation": {"importance": "magnitude"}})
    assert (chosen.evaluation.importance, chosen.evaluation.reconstruction) == ("magnitude", "least_squares")


def test_a_study_recorded_before_weights_were_refitted_keeps_what_it_says():
    record = StudyConfig.from_dict({**BASE, "evaluation": {"importance": "activation", "reconstruction": "none"}})
    again = StudyConfig.from_record(record.to_record()).evaluation
    assert (again.importance, again.reconstruction) == ("activation", "none")


def test_a_pattern_is_read_from_yaml_as_it_is_written(tmp_path):
    data = "{name: digits, validation_size: 400, calibration_size: 256}"
    study = f"name: n\nmodel: small_cnn\ndata: {data}\nbudget: size <= 70%\nspace: {{sparsity: {{pattern: 2:4}}}}\n"
    (tmp_path / "study.yaml").write_text(study)
    assert StudyConfig.from_file(tmp_path / "study.yaml").space.sparsity.pattern == "2:4"
    ran = command("inspect", tmp_path / "study.yaml", "--trials", "10")
    assert ran.code == 0, ran.err
    assert "5 tensors of which weights can go in the pattern 2:4" in ran.out


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"budget": "macs <= 50%"}, "sparsity does not lower macs: limit `params` or `size`"),
        ({"budget": ["size <= 50%", "latency <= 50%"]}, "does not lower latency"),
        ({"objective": "error_log_macs"}, "set `objective: error_log_params`"),
        ({"space": {"name": "weights", "round_to": 8}}, "round_to: is no option of sparsity"),
        ({"space": {"name": "weights", "steps": 8}}, "steps: is no option of sparsity"),
        ({"space": "weight"}, "expected one of channels, depth, weights"),
        ({"evaluation": {"importance": "taylor"}}, "importance cannot be 'taylor' where neither channels nor blocks"),
        ({"space": {"sparsity": {"pattern": "4:2"}}}, "pattern '4:2' keeps 4 of every 2 weights"),
        ({"space": {"sparsity": {"pattern": "blocks"}}}, "pattern cannot be 'blocks'"),
        ({"evaluation": {"reconstruction": "sequential"}}, "reconstruction cannot be 'sequential'"),
        ({"evaluation": {"importance": "magnitute"}}, "expected one of surgeon, activation, magnitude"),
        ({"evaluation": 3}, "expected a mapping"),
    ],
)
def test_options_that_do_not_apply_to_weights_are_refused(change, complaint):
    with pytest.raises(ConfigError, match=complaint):
        StudyConfig.from_dict({**BASE, **change})

"""`automl design` and `automl.design`: images and a budget in, a trained network out, in a given time."""

from __future__ import annotations

import json

import numpy as np
import onnxruntime
import pytest
import torch
from sklearn.datasets import load_diabetes

import automl as program
from automl.config.agent import AgentConfig
from automl.config.study import StudyConfig
from automl.config.written import written
from automl.designs.from_batches import held_out
from automl.designs.time_plan import FEWEST, LONGER, MOST, SHORT, batch_size, plan_time, short_epochs
from automl.errors import AutomlError, ConfigError, StudyError
from automl.export import load
from automl.store import open_store
from automl.study.setup import Setup
from automl.study.study import Study
from automl.util.duration import seconds_of
from search_spaces import CellsStep, SpaceError
from tests.cli.conftest import automl
from tests.kits.digits import held_out as others
from tests.kits.digits import train_batches


@pytest.fixture(autouse=True)
def short(monkeypatch):
    """Designs that take two seconds."""
    monkeypatch.setattr("automl.designs.time_plan.LEAST_S", 0.1)
    monkeypatch.setattr("automl.designs.time_plan.FEWEST", 2)
    monkeypatch.setattr("automl.designs.time_plan.MOST", 2)
    monkeypatch.setattr("automl.study.space_of_study.PROBES", 2)


def test_a_file_of_images_becomes_a_network(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (x,), y = train_batches(0, 300)[0]
    np.savez("x.npz", x=((x[:, 0] + 1) * 127).byte().numpy(), y=y.numpy())
    asked = [
        "design",
        "--data",
        "x.npz",
        "--budget",
        "params <= 3k",
        "--time",
        "2s",
        "--kinds",
        "separable",
        "--out",
        "o",
    ]
    ran = automl(*asked)
    assert ran.code == 0, ran.err
    assert "the plan: about 2 trainings" in ran.err
    assert "separable" in ran.out and "3x3" in ran.out
    assert {path.name for path in (tmp_path / "o").iterdir()} >= {"model.onnx", "study.yaml", "report.html"}
    network = load("o")
    assert network(torch.zeros(3, 1, 8, 8)).shape == (3, 10)
    assert sum(p.numel() for p in network.parameters()) <= 3000
    with open_store(tmp_path / "automl.db") as store:
        recorded = StudyConfig.from_record(store.study("design").config)
    again = StudyConfig.from_file("o/study.yaml")
    assert again.to_record() | {"folder": None} == recorded.to_record() | {"folder": None}

    asked[4] = "params <= 4k"
    ran = automl(*asked)
    assert ran.code == 1 and "another configuration" in ran.err
    assert automl("show", "design").code == 0


def test_a_table_becomes_a_network_that_reads_and_tells_numbers_in_their_own_units(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    table = load_diabetes(as_frame=True, scaled=False).frame
    table["sex"] = table.sex.map({1.0: "f", 2.0: "m"})
    table.to_csv("d.csv", index=False)
    asked = ["design", "--data", "d.csv", "--budget", "params <= 2k", "--time", "2s", "--out", "o"]
    ran = automl(*asked)
    assert ran.code == 1 and "needs --target, the column to predict: one of 'age'" in ran.err
    ran = automl(*asked, "--target", "target")
    assert ran.code == 0, ran.err
    assert "the data: 308 rows of 11 columns to learn from, 1 number to tell; 61 more" in ran.err
    assert "val rmse" in ran.out and "note: linear regression (ridge) on the same rows" in ran.out
    assert "gradient boosting on the same rows" in (tmp_path / "o" / "report.html").read_text()
    told = json.loads((tmp_path / "o" / "manifest.json").read_text())["columns"]
    assert told["target"] == "target" and told["inputs"][1:3] == [{"column": "sex", "is": t} for t in "fm"]
    columns = [table[one["column"]] == one["is"] if "is" in one else table[one["column"]] for one in told["inputs"]]
    raw = np.stack(columns, 1).astype(np.float32)
    network = load("o")
    with torch.no_grad():
        found = network(torch.from_numpy(raw))
    assert found.shape == (442, 1) and sum(p.numel() for p in network.parameters()) <= 2000
    assert 100 < float(found.mean()) < 200  # the target has a mean of 152
    session = onnxruntime.InferenceSession("o/model.onnx")
    assert np.allclose(session.run(None, {session.get_inputs()[0].name: raw})[0], found, rtol=1e-3, atol=0.1)
    cut = "{name: cut, model: {name: exported, weights: o}, budget: macs <= 50%, trials: 1, task: regression, "
    (tmp_path / "cut.yaml").write_text(cut + "data: {name: table, root: d.csv, target: target}}")
    setup = Setup(StudyConfig.from_file("cut.yaml"))
    assert torch.equal(setup.problem.model(torch.from_numpy(raw)), found)
    point = setup.space.project(np.full(len(setup.space.knobs), 0.5), setup.limits)
    assert 0.3 < setup.space.cost(point, "macs") / setup.space.original_cost("macs") <= 0.5


def test_signals_become_a_network_of_one_dimension():
    generator = torch.Generator().manual_seed(0)
    y = torch.randint(3, (240,), generator=generator)
    waves = torch.sin(torch.arange(48) * (0.3 + 0.3 * y[:, None]) + 6 * torch.rand(240, 1, generator=generator))
    x = 500 + 80 * torch.stack([waves, torch.randn(240, 48, generator=generator)], 1)
    given = {"budget": "params <= 3k", "time": 2, "space": {"stages": 2}, "progress": False}
    result = program.design([(x[:200], y[:200])], test_data=[(x[200:], y[200:])], **given)
    architecture = result.plan.get(CellsStep).architecture
    assert architecture.frame.size == (48,) and architecture.frame.standardized
    assert isinstance(result.network.stem.body[0].conv, torch.nn.Conv1d)
    assert torch.allclose(result.network.standard.offset.flatten(), torch.tensor([500.0, 500.0]), atol=10)
    assert result.measurements["params"].value <= 3000 and "regression" not in result.table()


def test_what_was_designed_is_compressed(tmp_path):
    """Batches in, and a call that was made before gone on with; then half of what was designed is cut by a study."""
    folder, storage = tmp_path / "designed", tmp_path / "s.db"

    def design():
        given = {"space": {"depths": [1]}, "progress": False, "name": "n", "storage": storage}
        return program.design(train_batches(0)[:8], others(), "params <= 3k", time=1, **given)

    first = design()
    assert first.measurements["params"].value <= 3000 and "predictor" in first.table()
    again = design()
    assert again.point == first.point
    again.save(folder)
    with pytest.raises(StudyError, match=r"automl\.design\("), open_store(storage) as store:
        Study(store, StudyConfig.from_record(store.study("n").config))
    file = tmp_path / "cut.yaml"
    file.write_text(
        "{name: cut, model: {name: exported, weights: designed}, budget: macs <= 50%, trials: 1, "
        "data: {name: digits, validation_size: 200, calibration_size: 64}}"
    )
    setup = Setup(StudyConfig.from_file(file))
    assert torch.equal(setup.problem.model(first.example_inputs[0]), first.network(first.example_inputs[0]))
    assert setup.limits["macs"] == 0.5 * first.measurements["macs"].value
    with pytest.raises(ConfigError, match="the folder"):
        StudyConfig.from_dict({"name": "x", "model": "exported", "data": "digits", "budget": "macs <= 50%"})


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"time": 0.01}, "at least"),
        ({"time": "soon"}, "expected a time"),
        ({"train_data": "images/"}, "automl design"),
        ({"train_data": iter(train_batches(0)), "validation_data": others()}, "once an epoch"),
        ({"train_data": [(torch.zeros(4, 3), torch.zeros(4).long())], "validation_data": others()}, "one class only"),
        ({"train_data": [(torch.zeros(4, 1, 8, 8), torch.arange(4))]}, "6 samples or more"),
        ({"train_data": [(torch.rand(12, 3), torch.rand(12))]}, r"give `y\[:, None\]` if each row"),
        ({"space": {"kinds": ["dense"]}}, "some of plain"),
        ({"budget": "params <= much"}, "expected a budget"),
    ],
)
def test_calls_that_make_no_sense_are_refused(given, words):
    with pytest.raises((AutomlError, SpaceError), match=words):
        program.design(**({"train_data": train_batches(0), "budget": "params <= 3k", "progress": False} | given))


def test_a_share_of_each_class_is_held_out():
    batches = train_batches(0)
    train, validation = held_out(batches)
    labels = torch.cat([y for _, y in validation])
    assert len(labels) == 200 and sum(len(y) for _, y in train) == 1000
    assert labels.bincount().min() >= 17
    kept = {image.numpy().tobytes() for (x,), _ in train for image in x}
    assert not any(image.numpy().tobytes() in kept for (x,), _ in validation for image in x)


@pytest.mark.parametrize("seconds", [20, 60, 480, 1800, 36000])
@pytest.mark.parametrize("epoch_s", [0.05, 2, 60, 3000])
@pytest.mark.parametrize("searches", [1, 2])
def test_a_plan_fits_into_its_time(seconds, epoch_s, searches, monkeypatch):
    monkeypatch.setattr("automl.designs.time_plan.FEWEST", FEWEST)
    monkeypatch.setattr("automl.designs.time_plan.MOST", MOST)
    validation_s = epoch_s / 20
    plan = plan_time(seconds, epoch_s, validation_s, searches=searches)
    epochs = min(LONGER * SHORT, plan.final_s / epoch_s)
    finals = (1 + searches) * epochs * (epoch_s + validation_s)
    assert finals <= 0.5 * seconds + 1
    assert searches * plan.search_s <= 0.4 * seconds + 1
    assert FEWEST <= plan.trials <= MOST
    assert plan.trial_s <= SHORT * epoch_s + 0.1
    assert plan.trials * plan.trial_s <= plan.search_s * 1.1 or plan.trials == FEWEST


def test_times_and_batches():
    assert [seconds_of(text) for text in ("90s", "30m", "2 h", "1h30m", "10 min")] == [90, 1800, 7200, 5400, 600]
    for text in ("", "30", "m", "5 parsecs"):
        with pytest.raises(ConfigError, match="expected a time"):
            seconds_of(text)
    assert [batch_size(n, 1e9) for n in (100, 700, 2000, 50_000)] == [32, 32, 64, 128]
    assert [short_epochs(n) for n in (100, 369, 640, 50_000)] == [128, 35, 20, 20]
    assert [batch_size(50_000, short) for short in (100, 13_000, 30_000, 60_000)] == [32, 32, 64, 128]


def test_a_written_study_is_read_as_the_same():
    config = StudyConfig.from_dict(
        {
            "name": "w",
            "model": {"name": "small_cnn", "options": {"width": 8}},
            "data": "digits",
            "budget": ["macs <= 50%", "size <= 20 KB"],
            "space": {"depth": {}, "channels": {"min_keep": 0.2}},
            "agent": {"name": "bo", "startup": 5},
            "seeds": [0, 1],
            "finish": {"training": {"epochs": 3, "distillation": {}}},
        }
    )
    import yaml

    read = StudyConfig.from_dict(yaml.safe_load(written(config, "two\nlines")))
    assert read == config and isinstance(read.agent, AgentConfig)

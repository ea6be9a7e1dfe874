"""`automl slim` and `automl exits`: a study file's network trained at many sizes, and written."""

from __future__ import annotations

import json

import pytest
import torch

from automl.dynamic.sized_folder import read_folder
from automl.zoo import create
from tests.cli.conftest import DIGITS, automl

STUDY = f"""
name: many
model:
  name: small_cnn
  weights: {DIGITS.with_name("small_cnn.safetensors")}
data: {{name: digits, validation_size: 300, calibration_size: 128}}
budget: macs <= 50%
finish:
  training: {{epochs: 2, samples: 512, batch_size: 64}}
"""


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "many.yaml"
    path.write_text(STUDY)
    return path


def test_slim_writes_a_network_of_several_widths(file, tmp_path):
    done = automl("slim", file, "--widths", "0.5,0.75", "--out", tmp_path / "out", "--no-onnx")
    assert done.code == 0, done.err
    assert "epoch 2 of 2" in done.out and done.out.count("macs") == 0 and "  0.75 " in done.out
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["manifest.json", "model.safetensors"]
    network = read_folder(tmp_path / "out", create("small_cnn"))
    told = json.loads((tmp_path / "out" / "manifest.json").read_text())["sizes"]["measurements"]
    assert network.widths == (0.5, 0.75, 1.0) and told["1"]["accuracy"] > 0.9 and told["0.5"]["accuracy"] > 0.5
    with torch.no_grad():
        assert network.at(0.5, torch.zeros(1, 1, 8, 8)).shape == (1, 10)


def test_exits_write_a_network_with_a_curve(file, tmp_path):
    done = automl("exits", file, "--at", "0.3,0.7", "--hidden", "8", "--out", tmp_path / "out", "--no-onnx")
    assert done.code == 0, done.err
    assert "all at exit 2" in done.out
    network = read_folder(tmp_path / "out", create("small_cnn"))
    curve = json.loads((tmp_path / "out" / "manifest.json").read_text())["sizes"]["curve"]
    assert network.exits == 3 and network.hidden == 8 and curve[-1]["right"] > 0.9
    assert all(len(one["thresholds"]) == 2 for one in curve)


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (("slim", "--widths", "half"), "--widths is a list of numbers such as 0.25,0.5, got 'half'"),
        (("slim", "--widths", "2"), "widths are parts of the whole"),
        (("exits", "--at", "9"), "expected exits at places of their own"),
    ],
)
def test_what_cannot_be_is_refused_in_a_sentence(file, tmp_path, arguments, why):
    refused = automl(arguments[0], file, *arguments[1:], "--out", tmp_path / "out")
    assert refused.code == 1 and why in refused.err and "Traceback" not in refused.err

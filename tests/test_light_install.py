"""Without Ray and ONNX a study runs and is exported all the same; what needs one of them says so at once."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from packaging.utils import canonicalize_name

from automl.config.study import StudyConfig
from automl.errors import MissingPackageError
from automl.study.setup import Setup
from automl.util import extras
from automl.util.extras import EXTRAS
from tests.cli.conftest import ROOT
from tests.test_packaging import PROJECT, requirements

WITHOUT = f"""
import sys

class Without:
    '''A finder that does not find some packages.'''

    def __init__(self, finder):
        self.finder = finder

    def __getattr__(self, name):
        return getattr(self.finder, name)

    def find_spec(self, name, path=None, target=None):
        return None if name.partition(".")[0] in {set(EXTRAS)} else self.finder.find_spec(name, path, target)

sys.meta_path[:] = [Without(finder) for finder in sys.meta_path]

import automl, torch
from automl.errors import MissingPackageError
from torch import nn

torch.manual_seed(0)
batches = [(torch.randn(32, 8), torch.randint(3, (32,))) for _ in range(4)]
model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 3))
result = automl.compress(model, batches, batches, budget="macs <= 60%", trials=2, agent="random", baselines=())
result.export("w", formats=["safetensors", "pt2"])
try:
    result.export("v")
except MissingPackageError as error:
    print(error)
"""


def test_a_study_needs_neither_ray_nor_onnx(tmp_path):
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", WITHOUT]
    ran = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    assert {path.name for path in (tmp_path / "w").iterdir()} >= {"model.safetensors", "model.pt2", "manifest.json"}
    assert ran.stdout.startswith("the format onnx needs the package onnx") and not (tmp_path / "v").exists()


@pytest.mark.parametrize(
    ("settings", "there", "message"),
    [
        ({"runner": {"workers": 2}}, (), r"a sweep over Ray workers needs the package ray.*automl-compress\[ray\]"),
        (
            *({"budget": "latency <= 50% on openvino"}, ()),
            r"latency on openvino needs the package onnx.*automl-compress\[onnx\]",
        ),
        (
            *({"budget": "latency <= 50% on openvino"}, ("onnx", "onnxscript", "onnxruntime")),
            r"latency on openvino needs the package openvino.*automl-compress\[openvino\]",
        ),
    ],
)
def test_a_search_that_needs_one_says_so_before_it_begins(settings, there, message, monkeypatch):
    monkeypatch.setattr(extras, "find_spec", lambda name: name if name in there else None)
    config = StudyConfig.from_dict(
        {"name": "s", "model": "small_cnn", "data": "digits", "budget": "macs <= 50%", **settings}
    )
    with pytest.raises(MissingPackageError, match=message):
        Setup(config)


def test_each_of_these_packages_comes_with_its_extra():
    for package, extra in EXTRAS.items():
        assert canonicalize_name(package) in requirements(PROJECT["optional-dependencies"][extra])

"""LiteRT's files: a sample a pass, in float32 and with integers. Its converter goes into an environment of its own."""

import json
from importlib.util import find_spec
from typing import ClassVar

import numpy as np
import pytest
import torch
from torch import nn

from automl.errors import MissingPackageError
from automl.export import export
from automl.measures.backends.lite_rt import LITERT, LITERT_INT8
from automl.testing.format_kit import FormatConformance
from automl.testing.small_export import IMAGES, outputs_of, small_network
from automl.util import extras
from search_spaces import Plan

installed = pytest.mark.skipif(find_spec("litert_torch") is None, reason="the extra litert is not installed")


def test_what_it_needs_is_named(monkeypatch, tmp_path):
    monkeypatch.setattr(extras, "find_spec", lambda name: None if name == "litert_torch" else name)
    with pytest.raises(MissingPackageError, match=r"the format tflite needs .*automl-compress\[litert\]"):
        export(small_network(), (IMAGES,), Plan(), tmp_path, ["tflite"], manifest={})


@installed
class TestTflite(FormatConformance):
    format_name: ClassVar[str] = "tflite"


@installed
class TestIntegerTflite(FormatConformance):
    format_name: ClassVar[str] = "tflite-int8"


class Told(nn.Module):
    """Tokens and a table that is the same for all samples -> two outputs, by names."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding, self.head = nn.Embedding(7, 4), nn.Linear(4, 2)

    def forward(self, tokens, table):
        read = self.embedding(tokens).mean(1) @ table
        return {"told": self.head(read), "beside": [read.abs()]}


@installed
def test_inputs_and_outputs_are_those_of_the_network_in_their_order(tmp_path):
    torch.manual_seed(0)
    network, inputs = Told().eval(), (torch.randint(0, 7, (3, 5)), torch.randn(4, 4))
    export(network, inputs, Plan(), tmp_path, ["tflite"], manifest={})
    run = LITERT.loaded(tmp_path / "model.tflite", threads=1)
    for samples in (1, 2, 9):
        tokens = torch.randint(0, 7, (samples, 5))
        told = network(tokens, inputs[1])
        for found, expected in zip(
            run([tokens.numpy(), inputs[1].numpy()]), (told["told"], *told["beside"]), strict=True
        ):
            np.testing.assert_allclose(found, expected.detach(), rtol=1e-4, atol=1e-5)


@installed
def test_integers_are_in_the_file_and_floats_go_in_and_come_out(tmp_path):
    images = torch.randn(64, 3, 8, 8)
    batches = [(images[i : i + 16],) for i in range(0, 64, 16)]
    told = {"manifest": {}, "calibration": batches}
    export(small_network(width=512), (IMAGES,), Plan(), tmp_path, ["tflite", "tflite-int8"], **told)
    small, large = (tmp_path / name for name in ("model-int8.tflite", "model.tflite"))
    assert small.stat().st_size < 0.5 * large.stat().st_size
    (found,) = LITERT_INT8.loaded(small, threads=1)([images.numpy()])
    expected = outputs_of(small_network(width=512), images).numpy()
    assert found.dtype == np.float32
    assert 0 < np.square(found - expected).mean() < 0.02 * np.square(expected).mean()
    assert json.loads((tmp_path / "manifest.json").read_text())["files"]["tflite-int8"]["samples"] == 1

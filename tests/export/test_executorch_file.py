"""ExecuTorch's files: written as every format is, for batches up to a number that the manifest says."""

import json
from typing import ClassVar

import numpy as np
import pytest
import torch
from torch import nn

from automl.errors import MissingPackageError
from automl.export import export
from automl.export.executorch_file import MOST_SAMPLES
from automl.measures.backends.execu_torch import EXECUTORCH
from automl.testing.format_kit import FormatConformance
from automl.testing.small_export import IMAGES, outputs_of, small_network
from automl.util import extras
from search_spaces import Plan


class TestExecutorch(FormatConformance):
    format_name: ClassVar[str] = "executorch"


def test_a_file_takes_batches_up_to_the_number_in_the_manifest(tmp_path):
    export(small_network(), (IMAGES,), Plan(), tmp_path, ["executorch"], manifest={})
    entry = json.loads((tmp_path / "manifest.json").read_text())["files"]["executorch"]
    assert entry["most_samples"] == MOST_SAMPLES
    run = EXECUTORCH.loaded(tmp_path / entry["file"], threads=1)
    images = IMAGES[np.arange(MOST_SAMPLES + 1) % len(IMAGES)]
    (found,) = run([images[:MOST_SAMPLES].numpy()])
    np.testing.assert_allclose(found, outputs_of(small_network(), images[:MOST_SAMPLES]), rtol=1e-4, atol=1e-5)
    with pytest.raises(RuntimeError):
        run([images.numpy()])


def test_what_it_needs_is_named(monkeypatch, tmp_path):
    monkeypatch.setattr(extras, "find_spec", lambda name: None if name == "executorch" else name)
    with pytest.raises(MissingPackageError, match=r"the format executorch needs .*automl-compress\[executorch\]"):
        export(small_network(), (IMAGES,), Plan(), tmp_path, ["executorch"], manifest={})


class Halves(nn.Module):
    """A unit of ShuffleNetV2: one half of the channels passes a layer, the other none."""

    def __init__(self) -> None:
        super().__init__()
        self.before, self.layer = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(4, 4, 1)

    def forward(self, x):
        left, right = self.before(x).relu().chunk(2, dim=1)
        return torch.cat((left, self.layer(right)), 1)


def test_a_network_that_splits_its_channels_runs_on_every_batch(tmp_path):
    export(Halves().eval(), (IMAGES,), Plan(), tmp_path, ["executorch"], manifest={})

"""The safetensors file and the manifest rebuild the compressed network from the original's structure."""

from __future__ import annotations

import json

import pytest
import torch
from torch import nn

from automl.errors import ExportError
from automl.export import export, load
from search_spaces import channel_space


class Residual(nn.Module):
    """A residual add, a depthwise convolution and a block used twice."""

    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, width, 3, padding=1)
        self.bn = nn.BatchNorm2d(width)
        self.inner = nn.Conv2d(width, 12, 1)
        self.depthwise = nn.Conv2d(12, 12, 3, padding=1, groups=12)
        self.outer = nn.Conv2d(12, width, 1, bias=False)
        self.mix = nn.Conv2d(width, width, 1)
        self.head = nn.Linear(width, 5)

    def forward(self, x):
        x = torch.relu(self.bn(self.stem(x)))
        x = x + self.outer(torch.relu(self.depthwise(self.inner(x))))
        x = self.mix(torch.relu(self.mix(x)))
        return self.head(x.mean((2, 3)))


IMAGES = torch.arange(2 * 3 * 6 * 6, dtype=torch.float32).reshape(2, 3, 6, 6).cos()


@pytest.fixture(scope="module")
def winner(tmp_path_factory):
    """(original, compressed network with weights of its own, folder of its export)."""
    torch.manual_seed(0)
    original = Residual().eval()
    space = channel_space(original, (IMAGES,), min_keep=0.3)
    plan = space.plan(space.point(space.lowest.tolist()))
    network = space.build(plan).eval()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.mul_(1.1)  # as after reconstruction: not what the plan alone would give
    out = tmp_path_factory.mktemp("winner")
    export(network, (IMAGES,), plan, out, ["safetensors", "pt2", "onnx"], manifest={})
    return original, network, out


def test_load_rebuilds_the_network_exactly(winner):
    original, network, out = winner
    before = {key: value.clone() for key, value in original.state_dict().items()}
    rebuilt = load(out, Residual().half().train())  # its weights, type and mode do not matter
    assert not rebuilt.training
    assert torch.equal(rebuilt(IMAGES), network(IMAGES))
    assert sum(p.numel() for p in rebuilt.parameters()) < sum(p.numel() for p in original.parameters())
    assert all(torch.equal(before[key], value) for key, value in original.state_dict().items())


def other_head() -> nn.Module:
    model = Residual()
    model.head = nn.Linear(8, 7)
    return model


class Sigmoid(Residual):
    """The same weights, put to another use."""

    def forward(self, x):
        return torch.sigmoid(super().forward(x))


@pytest.mark.parametrize(
    ("other", "message"), [(other_head, "does not fit the model"), (Sigmoid, "does not compute what was exported")]
)
def test_another_original_is_refused(other, message, winner):
    _, _, out = winner
    with pytest.raises(ExportError, match=message):
        load(out, other())


def copied(out, folder):
    for path in out.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    return folder


def test_a_file_that_is_not_the_one_described_is_refused(winner, tmp_path):
    original, _, out = winner
    folder = copied(out, tmp_path)
    content = bytearray((folder / "model.safetensors").read_bytes())
    content[-1] ^= 1
    (folder / "model.safetensors").write_bytes(content)
    with pytest.raises(ExportError, match="is not the file the manifest describes"):
        load(folder, original)
    (folder / "model.safetensors").unlink()
    with pytest.raises(ExportError, match="is missing"):
        load(folder, original)


@pytest.mark.parametrize(
    ("text", "message"),
    [(None, "Export the study first"), ("[]", "is not the manifest"), ('{"manifest_version": 99}', "has version 99")],
)
def test_a_folder_without_a_readable_manifest_is_refused(text, message, winner, tmp_path):
    original, _, out = winner
    folder = copied(out, tmp_path)
    (folder / "manifest.json").unlink()
    if text is not None:
        (folder / "manifest.json").write_text(text)
    with pytest.raises(ExportError, match=message):
        load(folder, original)


def test_an_export_without_safetensors_cannot_be_rebuilt(winner, tmp_path):
    original, _, out = winner
    folder = copied(out, tmp_path)
    manifest = json.loads((folder / "manifest.json").read_text())
    del manifest["files"]["safetensors"]
    (folder / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(ExportError, match="export again with format safetensors"):
        load(folder, original)

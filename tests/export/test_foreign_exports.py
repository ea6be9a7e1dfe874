"""An exported folder is somebody else's: its manifest and its files are checked before anything is made of them."""

from __future__ import annotations

import copy
import hashlib
import json
import shutil
from collections import OrderedDict

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from automl.errors import ExportError, StudyError
from automl.export import export, load, unpack
from automl.study.artifacts import PLAN, read_plan, read_weights
from search_spaces import channel_space
from search_spaces.codecs import packing
from search_spaces.codecs.header import KEY

IMAGES = torch.arange(2 * 3 * 4 * 4, dtype=torch.float32).reshape(2, 3, 4, 4).cos()
BYTES = torch.zeros(4, dtype=torch.uint8)
RANS = torch.tensor([2, 15, 0, 0, 0, 128, *[0] * 100], dtype=torch.uint8)
"""The head of a stream of 2^31 symbols of 4 bits, and hardly anything after it."""


def network() -> nn.Module:
    torch.manual_seed(0)
    layers = {"a": nn.Conv2d(3, 8, 3), "b": nn.ReLU(), "c": nn.Conv2d(8, 5, 1), "d": nn.Flatten()}
    return nn.Sequential(OrderedDict(layers)).eval()


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """The folder of an export."""
    space = channel_space(network(), (IMAGES,), min_keep=0.5)
    plan = space.plan(space.point(space.lowest.tolist()))
    out = tmp_path_factory.mktemp("exported") / "winner"
    export(space.build(plan).eval(), (IMAGES,), plan, out, ["safetensors"], manifest={})
    assert load(out, network())(IMAGES).shape == (2, 20)
    return out


@pytest.fixture
def folder(exported, tmp_path):
    """A copy of it, to be spoilt."""
    shutil.copytree(exported, tmp_path / "winner")
    return tmp_path / "winner"


def say(folder, *path_and_value):
    """Have the manifest say something else at a place."""
    *path, last, value = path_and_value
    manifest = json.loads((folder / "manifest.json").read_text())
    place = manifest
    for key in path:
        place = place[key]
    place[last] = value
    (folder / "manifest.json").write_text(json.dumps(manifest))


def put(folder, tensors, metadata=None):
    """Put a file of these tensors there, and have the manifest describe it."""
    file = folder / "model.safetensors"
    save_file(tensors, file, metadata)
    content = file.read_bytes()
    say(folder, "files", "safetensors", "sha256", hashlib.sha256(content).hexdigest())
    say(folder, "files", "safetensors", "bytes", len(content))


def refused(folder) -> str:
    with pytest.raises(ExportError) as error:
        load(folder, network())
    assert "\n" not in str(error.value)
    return str(error.value)


SAID = {
    ("files",): [[], 7, None, {"safetensors": 7}, {"safetensors": {}}],
    ("files", "safetensors", "file"): ["../secret", "/etc/passwd", "/dev/zero", "..", "", "a\0b", 7, None, ["x"]],
    ("files", "safetensors", "bytes"): [0, -1, 1.5, True, "7", None, 10**30],
    ("files", "safetensors", "sha256"): ["", "0" * 64, 7, None],
    ("inputs",): [None, 7, [], [7], [{}], {}],
    ("inputs", 0, "example"): [[10**12], [2**16] * 4, [-1, 3, 4, 4], [0, 3, 4, 4], "x", [2.5], [True], [], None],
    ("inputs", 0, "dtype"): ["save", "nope", "float32.__class__", 7, None],
    ("plan",): [None, 7, "x", [7], [{}], [None], [{"operator": "exec"}], [{"operator": "channels"}]],
    ("plan", 0): [
        {"operator": "channels", "kept": k} for k in (7, None, {"a": 7}, {"a": [99]}, {"a": ["x"]}, {"x": [0]})
    ]
    + [{"operator": "rank", "ranks": r} for r in (7, {"a": 10**9}, {"a": -1}, {"a": "x"}, {"x": 1})]
    + [{"operator": "sparsity", "counts": c} for c in (7, {"a.weight": 10**12}, {"x": 1}, {"a.weight": "x"})]
    + [{"operator": "code", "formats": f} for f in (7, {"a": 10**6}, {"a": "x"}, {"x": 4})]
    + [{"operator": "depth", "removed": 7, "skips": []}, {"operator": "depth", "removed": [[7]], "skips": [[1]]}],
    ("aliases",): [None, [], {"a": 7}, {"a": "b"}, 7],
    ("probe",): [None, 7, [], [7], [["x"]], [[None] * 32], [[[]]], [[1e400] * 32], [[0.0] * 32], [{}], [[]]],
    ("manifest_version",): ["1", None, [], True, 99],
}


@pytest.mark.parametrize(
    ("path", "value"), [(p, v) for p, values in SAID.items() for v in values], ids=lambda x: f"{x!r:.40}"
)
def test_a_manifest_that_says_what_is_not_so_is_refused(path, value, folder):
    say(folder, *path, value)
    refused(folder)


@pytest.mark.parametrize("text", ["", "{", "[" * 10**5, '{"manifest_version": 1}', "\x00", '"x"', "null"])
def test_what_is_no_manifest_is_refused(text, folder):
    (folder / "manifest.json").write_text(text)
    refused(folder)


@pytest.mark.parametrize(
    "name", ["../model.safetensors", "{parent}/model.safetensors", "model.safetensors", "in/model"]
)
def test_a_file_outside_the_folder_is_not_read(name, folder):
    moved = (folder / "model.safetensors").rename(folder.parent / "model.safetensors")
    (folder / "model.safetensors").symlink_to(moved)
    (folder / "in").symlink_to(folder.parent)
    say(folder, "files", "safetensors", "file", name.format(parent=folder.parent))
    refused(folder)


@pytest.mark.parametrize("bad", [float("nan"), 3e38])
def test_a_network_that_gives_nan_is_refused(bad, folder):
    put(folder, {name: torch.full_like(t, bad) for name, t in load_file(folder / "model.safetensors").items()})
    for probe in ([0.0] * 32, [None] * 32, [None, *[0.0] * 31]):
        say(folder, "probe", [probe])
        refused(folder)


PACKED = {
    "integers of a huge shape": ({"shapes": {"w": [10**6, 10**6]}, "bits": {"w": 4}}, {"w.integers": BYTES}),
    "a mask of a huge shape": ({"shapes": {"w": [10**6, 10**6]}}, {"w.values": torch.zeros(1), "w.mask": BYTES}),
    "a negative shape": ({"shapes": {"w": [-2, -16]}}, {"w.values": torch.zeros(0), "w.mask": BYTES}),
    "an empty huge shape": ({"shapes": {"w": [0, 10**30]}}, {"w.values": torch.zeros(0), "w.mask": BYTES[:0]}),
    "infinity": ({"shapes": {"w": [1e400]}}, {"w.values": torch.zeros(0), "w.mask": BYTES}),
    "many bits": ({"shapes": {"w": [2, 2]}, "bits": {"w": 10**9}}, {"w.integers": BYTES}),
    "a half": ({"shapes": {"w": [2, 2]}, "bits": {"w": 4.5}}, {"w.integers": BYTES}),
    "a mask of floats": ({"shapes": {"w": [2, 16]}}, {"w.values": torch.zeros(0), "w.mask": BYTES.bfloat16()}),
    "a mask of two rows": ({"shapes": {"w": [2, 16]}}, {"w.values": torch.zeros(0), "w.mask": BYTES.view(2, 2)}),
    "values of two rows": ({"shapes": {"w": [1, 8]}}, {"w.values": torch.zeros(1, 1), "w.mask": BYTES[:1] + 1}),
    "integers as floats": ({"shapes": {"w": [2, 2]}, "bits": {"w": 8}}, {"w.integers": torch.zeros(4)}),
    "no integers": ({"shapes": {"w": [2, 2]}, "bits": {"w": 8}}, {"w": BYTES}),
    "grids": ({"shapes": {"w": [2, 2]}, "grids": {"w": [1, 2, 3, 4, 5]}}, {"w.integers": BYTES}),
    "coded integers of a huge shape": (
        {"shapes": {"w": [2**15, 2**16]}, "bits": {"w": 4}, "coded": True},
        {"w.integers": RANS},
    ),
    "gaps of a huge shape": (
        {"shapes": {"w": [10**6, 10**6]}, "coded": True},
        {"w.values": torch.zeros(0), "w.gaps": RANS},
    ),
    "a coded mask that is none": (
        {"shapes": {"w": [2, 2]}, "coded": True},
        {"w.values": torch.zeros(4), "w.mask": BYTES},
    ),
    "gaps of floats": ({"shapes": {"w": [2, 2]}, "coded": True}, {"w.values": torch.zeros(4), "w.gaps": torch.ones(9)}),
    "no shapes": ({"shapes": 7}, {"w": BYTES}),
    "a list": ([1], {"w": BYTES}),
}


@pytest.mark.parametrize("what", PACKED)
def test_a_packed_file_that_is_none_is_refused(what, folder):
    metadata, tensors = copy.deepcopy(PACKED[what])
    put(folder, {**tensors, "w_scale": torch.ones(2)}, {KEY: json.dumps(metadata)})
    refused(folder)
    with pytest.raises(ExportError, match="cannot read the weights"):
        unpack(folder / "model.safetensors")


@pytest.mark.parametrize("metadata", ["{", "7", '[{"operator": "exec"}]', '[{"operator": "channels", "kept": 7}]'])
def test_recorded_weights_that_are_none_are_refused(metadata, tmp_path):
    path = tmp_path / "x.safetensors"
    save_file({"w": torch.zeros(1)}, path, {PLAN: metadata})
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    with pytest.raises(StudyError, match="are not those of this network"):
        read_plan(path, digest)
    with pytest.raises(StudyError, match="are not those of this network"):
        read_weights(network(), path, digest)


def test_nothing_is_allocated_for_a_shape_that_is_refused(folder):
    put(
        folder,
        {"w.integers": BYTES, "w_scale": torch.ones(2)},
        {KEY: json.dumps(PACKED["integers of a huge shape"][0])},
    )
    with pytest.raises(ValueError, match="do not fill a tensor"):  # and not that memory is short
        packing.unpack(folder / "model.safetensors")

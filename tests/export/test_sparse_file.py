"""Packed files: exact to the bit, as long as counted, read by the loader of an export."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch import nn

from automl.errors import ExportError
from automl.export import export, load, unpack
from automl.export.packed import pack
from automl.measures import size_bytes
from automl.measures.counts import state_tensors
from search_spaces import SparsityStep, weight_space
from search_spaces.codecs.packing import pack_open

IMAGES = torch.arange(2 * 3 * 6 * 6, dtype=torch.float32).reshape(2, 3, 6, 6).cos()
SHARED = "again.weight"


class Network(nn.Module):
    def __init__(self, width: int = 24) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, width, 3, padding=1, bias=False), nn.BatchNorm2d(width)
        self.inner, self.again = nn.Conv2d(width, width, 3, padding=1), nn.Conv2d(width, width, 3, padding=1)
        self.again.weight = self.inner.weight
        self.head = nn.Linear(width, 40)

    def forward(self, x):
        x = self.again(torch.relu(self.inner(torch.relu(self.norm(self.conv(x))))))
        return self.head(x.mean((2, 3)))


def same_bits(a: torch.Tensor, b: torch.Tensor) -> bool:
    return a.dtype == b.dtype and a.shape == b.shape and a.numpy(force=True).tobytes() == b.numpy(force=True).tobytes()


@pytest.fixture(scope="module")
def sparse():
    """(original, space, plan, network with about a fifth of the weights)."""
    torch.manual_seed(0)
    original = Network().eval()
    space = weight_space(original, (IMAGES,))
    plan = space.plan(space.decode(torch.tensor([0.15, 0.2, 0.97]).numpy()))
    return original, space, plan, space.build(plan).eval()


def test_what_is_packed_comes_back_bit_for_bit_and_the_file_is_as_long_as_counted(sparse, tmp_path):
    network = sparse[3]
    path = tmp_path / "packed.safetensors"
    path.write_bytes(pack(network))
    assert path.stat().st_size == len(pack(network)) < 0.4 * size_bytes(network)
    state = {name: tensor for name, tensor in network.state_dict().items() if name != SHARED}
    got = unpack(path)
    assert got.keys() == state.keys()
    assert all(same_bits(got[name], tensor) for name, tensor in state.items())
    assert pack(network) == path.read_bytes()


def test_each_tensor_has_the_smaller_form_and_the_header_says_how_to_unpack(sparse, tmp_path):
    path = tmp_path / "packed.safetensors"
    path.write_bytes(pack_open(state_tensors(sparse[3])[0]))
    content = load_file(path)
    assert {"conv.weight.values", "conv.weight.gaps", "inner.weight.values", "inner.weight.gaps"} <= content.keys()
    assert {"head.weight", "head.bias", "norm.running_mean", "norm.num_batches_tracked"} <= content.keys()
    assert content["inner.weight.gaps"].dtype == torch.uint8 and len(content["inner.weight.gaps"]) < 24 * 24 * 9 // 8
    assert (content["inner.weight.values"] != 0).all() and content["inner.weight.values"].dtype == torch.float32
    with safe_open(path, framework="pt") as file:
        told = json.loads(file.metadata()["packing"])
    assert told["shapes"] == {"conv.weight": [24, 3, 3, 3], "inner.weight": [24, 24, 3, 3]}
    assert "NAME.mask" in told["note"]


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16, torch.float8_e4m3fn, torch.int8])
def test_any_type_of_number_and_negative_zeros_survive(dtype, tmp_path):
    layer = nn.Module()
    weight = torch.zeros(37, 53)
    weight[torch.rand(weight.shape, generator=torch.Generator().manual_seed(0)) < 0.1] = 3
    weight[0, :3] = torch.tensor([-0.0, 1e-3, -2])
    layer.register_buffer("weight", weight.to(dtype))
    layer.register_buffer("nothing", torch.zeros(64, 64, dtype=dtype))
    layer.register_buffer("empty", torch.zeros(0, 3, dtype=dtype))
    path = tmp_path / "packed.safetensors"
    path.write_bytes(pack(layer))
    got = unpack(path)
    assert path.stat().st_size == len(pack(layer)) < 37 * 53 * layer.weight.element_size()
    for name, tensor in layer.state_dict().items():
        assert got[name].dtype == dtype and got[name].shape == tensor.shape
        assert torch.equal(got[name].view(torch.uint8), tensor.view(torch.uint8))


def test_a_name_that_is_taken_leaves_the_tensor_as_it_is(tmp_path):
    layer = nn.Module()
    layer.register_buffer("weight", torch.zeros(64, 64))
    layer.weight[0, 0] = 1
    holder = nn.Module()
    holder.register_buffer("mask", torch.ones(2))
    layer.add_module("weight_", holder)
    layer._modules["weight"] = layer._modules.pop("weight_")
    path = tmp_path / "packed.safetensors"
    path.write_bytes(pack(layer))
    got = unpack(path)
    assert got.keys() == {"weight", "weight.mask"}
    assert torch.equal(got["weight"], layer._buffers["weight"]) and torch.equal(got["weight.mask"], torch.ones(2))


def test_an_export_is_loaded_as_an_ordinary_network_and_says_what_is_sparse(sparse, tmp_path):
    original, _, plan, network = sparse
    artifacts = export(network, (IMAGES,), plan, tmp_path, ["safetensors", "pt2"], manifest={})
    sizes = {artifact.kind: artifact.bytes for artifact in artifacts}
    assert sizes["safetensors"] == len(pack(network)) < sizes["pt2"]
    rebuilt = load(tmp_path, Network())
    assert torch.equal(rebuilt(IMAGES), network(IMAGES))
    assert rebuilt.inner.weight is rebuilt.again.weight
    assert all(same_bits(value, network.state_dict()[name]) for name, value in rebuilt.state_dict().items())
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    assert manifest["files"]["safetensors"]["zeros"].startswith("packed")
    assert manifest["files"]["pt2"]["zeros"].startswith("stored")
    told = manifest["sparsity"]["inner.weight"]
    assert told["weights"] == 5184 and told["zeros"] == int((network.inner.weight == 0).sum())
    assert told["sparsity"] == pytest.approx(1 - plan.get(SparsityStep).counts["inner.weight"] / 5184)
    with pytest.raises(ExportError, match="does not fit the model"):
        load(tmp_path, Network(width=20))
    assert not original.training


def test_a_broken_file_is_one_clear_error(sparse, tmp_path):
    path = tmp_path / "packed.safetensors"
    with pytest.raises(ExportError, match="Export again"):
        unpack(path)
    content = pack_open(state_tensors(sparse[3])[0])
    path.write_bytes(content[:-40])
    with pytest.raises(ExportError, match="Export again"):
        unpack(path)
    path.write_bytes(content.replace(b'\\"inner.weight\\":[24,24', b'\\"inner.weight\\":[24,99'))
    with pytest.raises(ExportError, match="do not fill a tensor"):
        unpack(path)
    path.write_bytes(content.replace(b'\\"shapes\\":', b'\\"shaped\\":'))
    with pytest.raises(ExportError, match="not those of a packed file"):
        unpack(path)

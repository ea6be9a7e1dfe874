"""Each exported file, read by the library it is for, computes what the network computes."""

from __future__ import annotations

import copy
import hashlib
import json

import numpy as np
import onnx
import onnxruntime
import openvino
import pytest
import torch
from safetensors.torch import load_file
from torch import fx, nn

from automl.errors import ExportError
from automl.export import FORMATS, export
from automl.measures import size_bytes
from search_spaces import ChannelsStep, Plan, Point

PLAN = Plan((ChannelsStep({"conv": (0, 2, 3)}),))


class Chain(nn.Module):
    """Convolution, batch norm, pooling, flatten, linear."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 5, 3, padding=1, bias=False)
        self.bn = nn.BatchNorm2d(5)
        self.fc = nn.Linear(5 * 4 * 4, 4)

    def forward(self, x):
        x = nn.functional.max_pool2d(torch.relu(self.bn(self.conv(x))), 2)
        return self.fc(x.flatten(1))


class TwoInputs(nn.Module):
    """Two inputs that vary with the sample, a table that does not, and two outputs."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(7, 6)
        self.fc = nn.Linear(6, 3)

    def forward(self, ids, scale, table):
        hidden = self.embed(ids).mean(1) * scale
        return {"logits": self.fc(hidden) @ table, "hidden": hidden}


class Shared(nn.Module):
    """One convolution under two names, and a weight tied to another layer."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(4, 4, 3, padding=1)
        self.again = self.first
        self.left = nn.Linear(4, 4)
        self.right = nn.Linear(4, 4)
        self.right.weight = self.left.weight

    def forward(self, x):
        return self.right(torch.relu(self.left(self.again(torch.relu(self.first(x))).mean((2, 3)))))


class Biased(nn.Module):
    """Attention as in BEiT: a learnt bias for each pair of tokens, heads of a width that is left by a cut."""

    def __init__(self) -> None:
        super().__init__()
        self.qkv, self.out = nn.Linear(12, 3 * 2 * 5), nn.Linear(2 * 5, 12)
        self.bias = nn.Parameter(torch.randn(2, 7, 7))

    def forward(self, x):
        q, k, v = self.qkv(x).view(x.shape[0], 7, 3, 2, 5).permute(2, 0, 3, 1, 4)
        made = nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=self.bias[None])
        return self.out(made.transpose(1, 2).reshape(x.shape[0], 7, 10))


class Windows(nn.Module):
    """Attention within windows, which are a dimension of their own, as in Hiera."""

    def __init__(self) -> None:
        super().__init__()
        self.qkv, self.out = nn.Linear(12, 3 * 2 * 5), nn.Linear(2 * 5, 12)

    def forward(self, x):
        q, k, v = self.qkv(x).view(x.shape[0], 3, 2, 3, 2, 5).permute(3, 0, 4, 1, 2, 5)
        made = nn.functional.scaled_dot_product_attention(q, k, v)  # [n, heads, windows, tokens, 5]
        return self.out(made.permute(0, 2, 3, 1, 4).reshape(x.shape[0], 6, 10))


class Folded(nn.Module):
    """Attention whose heads are part of the batch, with a bias of each, as in SAM."""

    def __init__(self) -> None:
        super().__init__()
        self.qkv, self.out = nn.Linear(12, 3 * 2 * 5), nn.Linear(2 * 5, 12)
        self.rows = nn.Parameter(torch.randn(7, 5))

    def forward(self, x):
        n = x.shape[0]
        q, k, v = self.qkv(x).view(n, 7, 3, 2, 5).permute(2, 0, 3, 1, 4).reshape(3, 2 * n, 7, 5).unbind(0)
        made = nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=q @ self.rows.T)  # [n * heads, 7, 5]
        return self.out(made.view(n, 2, 7, 5).transpose(1, 2).reshape(n, 7, 10))


def chain() -> nn.Module:
    torch.manual_seed(1)
    network = Chain()
    network(torch.randn(16, 3, 8, 8))  # running statistics other than the initial ones
    return network.eval()


IMAGES = (torch.arange(2 * 3 * 8 * 8, dtype=torch.float32).reshape(2, 3, 8, 8).sin(),)
CASES = {
    "chain": (chain, IMAGES),
    "one_sample": (chain, (IMAGES[0][:1],)),
    "two_inputs": (TwoInputs, (torch.tensor([[0, 1, 2], [3, 4, 6]]), torch.rand(2, 1), torch.rand(3, 5))),
    "attention": (Biased, (torch.randn(2, 7, 12),)),
    "windows": (Windows, (torch.randn(2, 6, 12),)),
    "folded": (Folded, (torch.randn(2, 7, 12),)),
    "shared": (lambda: fx.symbolic_trace(Shared()), (torch.randn(3, 4, 6, 6),)),
}


SLOW, LOWERED = ("executorch", "tflite", "tflite-int8"), ("chain", "attention")
"""Formats that take seconds to lower a network of any size, and the cases that they take."""


def flat(value) -> list[torch.Tensor]:
    if isinstance(value, dict):
        return list(value.values())
    return list(value) if isinstance(value, tuple) else [value]


@pytest.mark.parametrize("case", CASES)
def test_every_format_computes_what_the_network_computes(case, tmp_path):
    make, inputs = CASES[case]
    network = make().eval()
    formats = {n: kind for n, kind in FORMATS.items() if kind.installed and (case in LOWERED or n not in SLOW)}
    artifacts = export(network, inputs, PLAN, tmp_path / "winner", list(formats), manifest={})

    files = [(name, file) for name, kind in formats.items() for file in kind.files]
    assert [(a.kind, a.path.name) for a in artifacts] == [*files, ("manifest", "manifest.json")]
    assert {p.name for p in (tmp_path / "winner").iterdir()} == {a.path.name for a in artifacts} | {"measure.pyz"}
    for artifact in artifacts:
        content = artifact.path.read_bytes()
        assert (artifact.sha256, artifact.bytes) == (hashlib.sha256(content).hexdigest(), len(content))
    paths = {a.kind: a.path for a in reversed(artifacts)}
    assert len({path.stat().st_mode for path in paths.values()}) == 1  # none is private to the one who exported
    manifest = json.loads(paths["manifest"].read_text())
    told = [
        (kind, file, digest)
        for kind, entry in manifest["files"].items()
        for file, digest in {entry["file"]: entry["sha256"], **entry.get("beside", {})}.items()
    ]
    assert told == [(a.kind, a.path.name, a.sha256) for a in artifacts[:-1]]

    five = tuple(torch.cat([x, x, x, x, x])[:5] if len(x) == len(inputs[0]) else x for x in inputs)
    with torch.no_grad():
        expected = flat(network(*five))
        from_pt2 = flat(torch.export.load(paths["pt2"]).module()(*five))
    onnx.checker.check_model(paths["onnx"], full_check=True)
    session = onnxruntime.InferenceSession(paths["onnx"], providers=["CPUExecutionProvider"])
    feed = {x["name"]: value.numpy() for x, value in zip(manifest["inputs"], five, strict=True)}
    from_onnx = session.run([x["name"] for x in manifest["outputs"]], feed)
    assert session.get_inputs()[0].shape[0] == "batch"
    compiled = openvino.Core().compile_model(paths["openvino"], "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    assert [port.any_name for port in compiled.inputs] == [x["name"] for x in manifest["inputs"]]
    from_openvino = [compiled(feed)[x["name"]] for x in manifest["outputs"]]
    for ours, pt2, ort, other in zip(expected, from_pt2, from_onnx, from_openvino, strict=True):
        torch.testing.assert_close(pt2, ours, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(ort, ours.numpy(), rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(other, ours.numpy(), rtol=1e-4, atol=1e-5)

    assert paths["safetensors"].stat().st_size == size_bytes(network)
    tensors = load_file(paths["safetensors"])
    whole = {**tensors, **{key: tensors[kept] for key, kept in manifest["aliases"].items()}}
    state = network.state_dict()
    assert whole.keys() == state.keys()
    assert all(torch.equal(whole[key], state[key]) for key in state)


def test_a_shared_tensor_is_written_once(tmp_path):
    export(Shared(), (torch.randn(2, 4, 6, 6),), PLAN, tmp_path, ["safetensors"], manifest={})
    aliases = json.loads((tmp_path / "manifest.json").read_text())["aliases"]
    assert aliases == {
        "again.weight": "first.weight",
        "again.bias": "first.bias",
        "right.weight": "left.weight",
    }
    assert not aliases.keys() & load_file(tmp_path / "model.safetensors").keys()


def test_the_network_is_not_changed_and_the_files_are_float32_in_eval_mode(tmp_path):
    network = chain().double().to(memory_format=torch.channels_last).train()
    before = copy.deepcopy(network.state_dict())
    export(network, (IMAGES[0].double(),), PLAN, tmp_path, ["safetensors", "pt2"], manifest={})
    assert network.training
    after = network.state_dict()
    assert all(torch.equal(before[key], after[key]) and before[key].dtype == after[key].dtype for key in before)

    reference = copy.deepcopy(network).float().eval()
    module = torch.export.load(tmp_path / "model.pt2").module()
    torch.testing.assert_close(module(*IMAGES), reference(*IMAGES), rtol=1e-5, atol=1e-6)
    assert {x.dtype for x in load_file(tmp_path / "model.safetensors").values()} <= {torch.float32, torch.int64}


def test_no_sample_of_the_user_ends_up_in_a_file(tmp_path):
    export(chain(), IMAGES, PLAN, tmp_path, ["pt2"], manifest={})
    (kept,), _ = torch.export.load(tmp_path / "model.pt2").example_inputs
    assert kept.count_nonzero() == 0


def test_the_manifest_says_what_was_done(tmp_path):
    more = {"study": "s", "point": Point({"conv": 3}), "measurements": {"accuracy": np.float64(0.5)}, "plan": "no"}
    export(chain(), IMAGES, PLAN, tmp_path, ["onnx"], manifest=more)
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    assert manifest["study"] == "s"
    assert manifest["point"] == {"conv": 3}
    assert manifest["measurements"] == {"accuracy": 0.5}
    assert manifest["plan"] == [{"operator": "channels", "kept": {"conv": [0, 2, 3]}}]
    assert manifest["inputs"] == [
        {"name": "x", "shape": ["batch", 3, 8, 8], "dtype": "float32", "example": [2, 3, 8, 8]}
    ]
    assert manifest["outputs"][0]["shape"] == ["batch", 4]
    assert manifest["layers"]["conv"] == {"kind": "Conv2d", "weight": [5, 3, 3, 3]}
    assert manifest["compared_on_batches_of"] == [2, 3, 1]
    assert manifest["files"]["onnx"]["largest_difference"] <= manifest["files"]["onnx"]["tolerance"]
    assert manifest["libraries"]["torch"] == torch.__version__


class Noisy(Chain):
    """Never computes the same twice."""

    def forward(self, x):
        return nn.functional.dropout(super().forward(x), 0.5, training=True)


class FixedBatch(Chain):
    """Works with any batch, but says its size in numbers where that size is two."""

    def forward(self, x):
        return super().forward(x) if x.shape[0] != 2 else super().forward(x).reshape(2, 4)


class OnlyTwo(Chain):
    """Fails with any batch but one of two."""

    def forward(self, x):
        return super().forward(x).reshape(2, 4)


def nan_chain() -> nn.Module:
    network = chain()
    network.fc.bias.data[0] = float("nan")
    return network


@pytest.mark.parametrize(
    ("network", "formats", "message"),
    [
        (Noisy(), ["safetensors"], r"safetensors file does not compute .* largest difference is"),
        (Noisy(), ["onnx"], r"onnx file does not compute .* largest difference is"),
        (FixedBatch(), ["pt2"], "free batch size"),
        (OnlyTwo(), ["safetensors"], "another batch size"),
        (nan_chain(), ["safetensors"], "NaN"),
        (chain(), ["onx"], "unknown export format 'onx'; did you mean 'onnx'"),
        (chain(), [], "no export format"),
    ],
)
def test_what_cannot_be_exported_is_one_clear_error_and_leaves_nothing(network, formats, message, tmp_path):
    with pytest.raises(ExportError, match=message):
        export(network, IMAGES, PLAN, tmp_path, formats, manifest={})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("inputs", [(), ([1.0, 2.0],), (torch.tensor(1.0),), (torch.empty(0, 3, 8, 8),)])
def test_example_inputs_that_are_no_batch_are_refused(inputs, tmp_path):
    with pytest.raises(ExportError, match="example inputs"):
        export(chain(), inputs, PLAN, tmp_path, ["safetensors"], manifest={})


def test_a_failed_export_leaves_the_earlier_one_whole(tmp_path):
    export(chain(), IMAGES, PLAN, tmp_path, ["safetensors"], manifest={"study": "first"})
    before = {p.name: p.read_bytes() for p in tmp_path.iterdir()}
    with pytest.raises(ExportError):
        export(Noisy(), IMAGES, PLAN, tmp_path, ["safetensors"], manifest={"study": "second"})
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == before

    export(chain(), IMAGES, PLAN, tmp_path, ["safetensors"], manifest={"study": "third"})
    assert json.loads((tmp_path / "manifest.json").read_text())["study"] == "third"


def test_a_file_of_another_network_is_not_left_beside_the_new_manifest(tmp_path):
    export(chain(), IMAGES, PLAN, tmp_path, ["safetensors", "pt2"], manifest={})
    with pytest.raises(ExportError, match=r"still holds model\.pt2"):
        export(chain(), IMAGES, PLAN, tmp_path, ["safetensors"], manifest={})


def test_a_folder_that_cannot_be_made_is_an_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ExportError, match="Choose another folder"):
        export(chain(), IMAGES, PLAN, tmp_path / "file" / "winner", ["safetensors"], manifest={})

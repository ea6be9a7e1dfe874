"""8-bit ONNX files: integers where ONNX Runtime has kernels, near the network, and the very ones that `code` chose."""

import json
from collections import Counter

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import nn

import automl
from automl.errors import ExportError
from automl.export import export, load
from automl.export.code_in_onnx import with_quantized_inputs
from automl.fit.ranges import set_ranges
from search_spaces import Code, CodeStep, NetworkSpace, Plan, trace


class Residual(nn.Module):
    """A strided convolution, two blocks with a sum, pooling and a linear layer."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.stem = nn.Conv2d(3, 16, 3, 2, 1)
        self.convs = nn.ModuleList(nn.Conv2d(16, 16, 3, padding=1, bias=False) for _ in range(2))
        self.norms = nn.ModuleList(nn.BatchNorm2d(16) for _ in range(2))
        self.linear = nn.Linear(16, 10)

    def forward(self, x):
        x = torch.relu(self.stem(x))
        for conv, norm in zip(self.convs, self.norms, strict=True):
            x = torch.relu(x + norm(conv(x)))
        return self.linear(x.mean((2, 3)))


def residual() -> nn.Module:
    network = Residual()
    for norm in network.norms:
        nn.init.normal_(norm.weight)  # some below 0, which turn a channel's integers round
    network(images(64))
    return network.eval()


def images(samples: int) -> torch.Tensor:
    return torch.randn(samples, 3, 16, 16, generator=torch.Generator().manual_seed(1))


def with_ranges(x):
    """The residual network in integers that reads inputs of 8 bits, as judged, and its plan."""
    space = NetworkSpace(residual(), (x[:2],), {"code": {"inputs": "int8"}})
    plan = space.plan(space.point([4, 8, 8]))
    network = space.build(plan).eval()
    set_ranges(network, [((x,), torch.zeros(len(x)))])
    return network, plan


def run(path, x):
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return session.run(None, {session.get_inputs()[0].name: x.numpy()})[0]


def test_sums_pooling_and_layers_are_integers_and_scores_are_not(tmp_path):
    network, x = residual(), images(40)
    export(network, (x[:2],), Plan(), tmp_path, ["onnx-int8"], manifest={}, calibration=[(x[:32],)])
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "optimized.onnx")
    options.log_severity_level = 3
    onnxruntime.InferenceSession(tmp_path / "model-int8.onnx", options, providers=["CPUExecutionProvider"])
    kinds = Counter(node.op_type for node in onnx.load(tmp_path / "optimized.onnx").graph.node)
    assert kinds["QLinearConv"] == 3 and kinds["QLinearAdd"] == 2 and kinds["QLinearGlobalAveragePool"] == 1
    assert kinds["Conv"] + kinds["Add"] + kinds["Gemm"] == 0
    with torch.no_grad():
        expected = network(x).numpy()
    got = run(tmp_path / "model-int8.onnx", x)
    assert np.sqrt(((got - expected) ** 2).mean() / (expected**2).mean()) < 0.05
    assert len(np.unique(got)) > 256  # scores have more values than 8 bits
    (entry,) = json.loads((tmp_path / "manifest.json").read_text())["files"].values()
    assert entry["scheme"] in entry["times_ms"] and len(entry["times_ms"]) == 6
    assert entry["top1_agreement"] > 0.9 and entry["compared_samples"] == 32


@pytest.mark.parametrize("form", ["int8", "int4"])
def test_integers_that_code_chose_are_those_in_the_file(form, tmp_path):
    x = images(16)
    formats = {"stem": form, "convs.0": form, "linear": form}
    coded = Code.rebuild(trace(residual(), (x[:2],)), CodeStep(formats)).eval()  # norms that turn channels round stay
    export(coded, (x[:2],), Plan((CodeStep(formats),)), tmp_path, ["onnx-int8"], manifest={}, calibration=[(x,)])
    tensors = {
        one.name: onnx.numpy_helper.to_array(one) for one in onnx.load(tmp_path / "model-int8.onnx").graph.initializer
    }
    for name in formats:
        layer = coded.get_submodule(name)
        integers = (layer.weight / layer.weight_scale.view(-1, *[1] * (layer.weight.ndim - 1))).round().detach().numpy()
        written = tensors[f"{name}.weight_quantized"]
        assert written.dtype == np.int8
        signs = np.sign((written * integers).reshape(len(integers), -1).sum(1)).reshape(-1, *[1] * (integers.ndim - 1))
        np.testing.assert_array_equal(written, signs * integers)
        assert name != "convs.0" or (signs < 0).any()
    (entry,) = json.loads((tmp_path / "manifest.json").read_text())["files"].values()
    assert entry["layers_of_code"] == entry["layers_as_rounded"] == 3
    assert entry["scheme"].endswith("S8 per channel")


def test_a_network_without_anything_to_quantize_is_told_so(tmp_path):
    with pytest.raises(ExportError, match="onnx-int8"):
        export(nn.Softmax(1), (torch.randn(2, 4),), Plan(), tmp_path, ["onnx-int8"], manifest={})


def test_what_reads_8_bits_is_exported_as_it_was_judged(tmp_path):
    x = images(64)
    network, plan = with_ranges(x)
    formats = ["safetensors", "pt2", "onnx", "onnx-int8"]
    export(network, (x[:2],), plan, tmp_path, formats, manifest={}, calibration=[(x[:32],)])
    with torch.no_grad():
        expected = network(x).numpy()
        assert np.abs(expected - residual()(x).numpy()).max() > 1e-3  # rounding shows
    for name, layers in (("model.onnx", 3), ("model-int8.onnx", 6)):
        kinds = Counter(node.op_type for node in onnx.load(tmp_path / name).graph.node)
        assert kinds["QuantizeLinear"] == 3 and kinds["DequantizeLinear"] == layers
        assert kinds["Round"] + kinds["Div"] + kinds["Clip"] == 0
        got = run(tmp_path / name, x)
        assert np.abs(got - expected).max() < 1e-3 and (got.argmax(1) == expected.argmax(1)).mean() > 0.98
    entry = json.loads((tmp_path / "manifest.json").read_text())["files"]["onnx-int8"]
    assert entry["scheme"] == "U8S8 per channel, as judged" and entry["layers_as_rounded"] == 3
    assert entry["top1_agreement"] > 0.95 and entry["rounding"] == 0.25
    again = load(tmp_path, residual())
    with torch.no_grad():
        assert np.array_equal(again(x).numpy(), expected)


@pytest.mark.parametrize(("low", "high", "factor"), [(-3, 3, 0.5), (-128, 127, 0.25), (-128, 127, 0.5)])
def test_only_rounding_to_8_bits_by_one_scale_is_written_as_that(low, high, factor):
    kinds = ("Div", ["x", "scale"]), ("Round", ["0"]), ("Clip", ["1", "low", "high"]), ("Mul", ["2", "factor"])
    nodes = [onnx.helper.make_node(kind, reads, [str(i)]) for i, (kind, reads) in enumerate(kinds)]
    ends = [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [4]) for name in ("x", "3")]
    constants = {"scale": 0.5, "low": low, "high": high, "factor": factor}
    made = [onnx.numpy_helper.from_array(np.array(value, np.float32), name) for name, value in constants.items()]
    graph = onnx.helper.make_graph(nodes, "rounds", ends[:1], ends[1:], made)
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 18)], ir_version=10)
    x = torch.tensor([-1.3, 0.2, 0.3, 80.0])
    before = run(model.SerializeToString(), x)
    with_quantized_inputs(model)
    onnx.checker.check_model(model, full_check=True)
    found = [node.op_type for node in model.graph.node]
    same = high - low == 255 and factor == 0.5
    assert found == (["QuantizeLinear", "DequantizeLinear"] if same else ["Div", "Round", "Clip", "Mul"])
    assert np.array_equal(run(model.SerializeToString(), x), before)


def test_a_result_in_python_finds_the_ranges_on_its_training_data(tmp_path):
    """Two example inputs would do for shapes, and not for what activations reach."""
    batches = [(images(40), torch.randint(0, 10, (40,)))]
    result = automl.compress(
        *(residual(), batches, batches, "macs <= 80%"), agent="uniform", baselines=[], trials=1, progress=False
    )
    result.export(tmp_path, formats=["onnx-int8"])
    (entry,) = json.loads((tmp_path / "manifest.json").read_text())["files"].values()
    assert entry["compared_samples"] == 40

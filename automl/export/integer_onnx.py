"""ONNX with 8-bit weights and inputs: the float file's graph with quantized tensors (QDQ), by ONNX Runtime's quantizer.

Ranges of activations are static: what the calibration batches reach. Weights have a scale an output channel, or one a
tensor; sums, products and pooling are quantized too; biases are 32-bit integers. Of unsigned and signed inputs and
weights some are several times slower than others on a processor, and slower than float32, so that every scheme is tried
and the fastest on this machine is written, of those that are about as exact as the best.

Weights that `code` has rounded keep their very integers (`automl.export.code_in_onnx`). Where it has rounded inputs
too, nothing else is quantized, so that the file computes what was judged.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from automl.errors import ExportError
from automl.export.code_in_onnx import Kept, as_rounded, integers_kept, with_integers
from automl.export.onnx_file import write_onnx
from automl.export.subject import Subject, quiet
from automl.measures.backends.onnx_runtime import running, session
from automl.measures.backends.side_by_side import Effort, side_by_side
from search_spaces.graph.inputs import quantized_inputs

QUANTIZED = (
    *("Conv", "ConvTranspose", "Gemm", "MatMul", "Add", "Mul", "Concat", "MaxPool", "AveragePool", "GlobalAveragePool"),
    *("Relu", "LeakyRelu", "Clip", "Sigmoid", "Pad", "Resize", "Slice", "Split"),
    *("Reshape", "Transpose", "Squeeze", "Unsqueeze", "Flatten"),
)
"""The operations of which ONNX Runtime has integer kernels, or which only move values. Norms and softmax stay float."""
SAMPLES = 256
"""Calibration samples that the ranges are found on."""
AS_EXACT, NEGLIGIBLE = 1.5, 0.02
"""A scheme whose error is within the first factor of the least may be chosen for its speed, or of at most the second:
what is below that is the calibration samples' own, of which a slow scheme may have the least by chance."""
AS_FAST = 1.05
"""Of schemes within this factor of the fastest the first in `SCHEMES` is chosen."""
AS_JUDGED = "U8S8 per channel, as judged"
"""The scheme of a network whose inputs `code` has rounded."""
EFFORT = Effort(rounds=40, seconds=2.0, half_width=0.02)


@dataclass(frozen=True)
class Scheme:
    """Types of inputs and weights, and whether a weight has a scale an output channel."""

    inputs: str
    weights: str
    per_channel: bool

    @property
    def name(self) -> str:
        """As it is usually called, such as "U8S8 per channel"."""
        short = {"QUInt8": "U8", "QInt8": "S8"}
        return f"{short[self.inputs]}{short[self.weights]} per {'channel' if self.per_channel else 'tensor'}"


SCHEMES = tuple(
    Scheme(*types, per_channel)
    for types in (("QUInt8", "QInt8"), ("QInt8", "QInt8"), ("QUInt8", "QUInt8"))
    for per_channel in (True, False)
)


def write_integer_onnx(subject: Subject, path: Path) -> dict[str, Any]:
    """Write the network with integers, in the scheme that is fastest here; what the manifest says of it.

    Errors: `ExportError` if there is nothing to quantize; whatever the quantizer raises.
    """
    import onnx

    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "float.onnx"
        write_onnx(subject, source)
        model = onnx.shape_inference.infer_shapes(onnx.load(source))
        _pool(model)
        model = onnx.shape_inference.infer_shapes(model)
        onnx.save(model, source)
        kept = integers_kept(subject.network, model)
        if any(quantized_inputs(subject.network)):
            content = with_integers(model, kept).SerializeToString()
            path.write_bytes(content)
            return {"scheme": AS_JUDGED, **_worth(_error(subject, content), subject, kept, content)}
        ranges = _ranges(subject.calibration, source, Path(folder))
    # Only signed weights with a scale a channel can be those that `code` has chosen.
    schemes = [s for s in SCHEMES if not kept or (s.per_channel and s.weights == "QInt8")]
    files = {scheme.name: _quantized(model, ranges, scheme, kept) for scheme in schemes}
    if not any(node.op_type == "QuantizeLinear" for node in onnx.load_from_string(files[schemes[0].name]).graph.node):
        raise ExportError("nothing in this network can be computed with integers: leave onnx-int8 out of the formats")
    times, errors = _times(subject, files), {name: _error(subject, content) for name, content in files.items()}
    name = _chosen(times, {name: error for name, (error, _) in errors.items()})
    path.write_bytes(files[name])
    return {"scheme": name, "times_ms": times, **_worth(errors[name], subject, kept, files[name])}


def _worth(error: tuple[float, float | None], subject: Subject, kept: Kept, content: bytes) -> dict[str, Any]:
    """What the manifest says of how near the file is to the network."""
    return {
        "mean_error": error[0],
        "top1_agreement": error[1],
        "compared_samples": sum(len(batch[0]) for batch in subject.calibration),
        **({"layers_of_code": len(kept), "layers_as_rounded": as_rounded(content, kept)} if kept else {}),
    }


def quantized_alone(model: Any, inputs: np.ndarray, scheme: Scheme) -> bytes:
    """A model of one input quantized in a scheme, with the ranges that it has on `inputs`: for timing."""
    import onnx

    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "float.onnx"
        onnx.save(model, source)
        ranges = _ranges([(torch.from_numpy(inputs),)], source, Path(folder))
    return _quantized(model, ranges, scheme, {})


def mean_error(got: Sequence[Tensor], expected: Sequence[Tensor]) -> float:
    """The root mean square difference of outputs, relative to the root mean square of what is expected."""
    worst = 0.0
    for ours, theirs in zip(got, expected, strict=True):
        if not theirs.is_floating_point():
            continue
        apart, scale = ((x.double().square().mean().sqrt()).item() for x in (ours - theirs, theirs))
        worst = max(worst, apart / (scale or 1.0))
    return worst


def _chosen(times: Mapping[str, float], errors: Mapping[str, float]) -> str:
    """The first of those that are as good as the fastest, of those that are about as exact as the best."""
    most = max(NEGLIGIBLE, AS_EXACT * min(errors.values()))
    exact = [name for name, error in errors.items() if error <= most]
    fastest = min(times[name] for name in exact)
    return next(name for name in exact if times[name] <= AS_FAST * fastest)


def _quantized(model: Any, ranges: Any, scheme: Scheme, kept: Kept) -> bytes:
    """The content of the file in one scheme."""
    import onnx
    from onnxruntime.quantization import QuantType
    from onnxruntime.quantization.qdq_quantizer import QDQQuantizer

    def given(scale: float) -> dict[str, Any]:
        signed = {"quant_type": QuantType.QInt8, "zero_point": np.array(0, np.int8)}
        return {"axis": 0, "scale": np.array(scale, np.float32), **signed}

    overrides = {name: [given(value) for value in scale.tolist()] for name, (_, scale) in kept.items()}
    copied = onnx.ModelProto()
    copied.CopyFrom(model)
    types = (QuantType[scheme.weights], QuantType[scheme.inputs])
    with quiet():
        quantizer = QDQQuantizer(
            *(copied, scheme.per_channel, False, *types, ranges),
            *([], _of_two_inputs(copied), QUANTIZED, {"TensorQuantOverrides": overrides}),
        )
        quantizer.quantize_model()
    _with_float_scores(quantizer.model.model)
    quantizer.model.topological_sort()
    content: bytes = quantizer.model.model.SerializeToString()
    return content


def _of_two_inputs(model: Any) -> list[str]:
    """The products of two activations, as in attention. They stay float: ONNX Runtime 1.31 computes some of them
    wrongly once it has fused what stands around them (windows of attention, an error of 0.7)."""
    constants = {one.name for one in model.graph.initializer}
    return [node.name for node in model.graph.node if node.op_type == "MatMul" and not constants & {*node.input}]


def _ranges(batches: Sequence[tuple[Tensor, ...]], source: Path, folder: Path) -> Any:
    """What each tensor of the graph reaches on the batches."""
    from onnxruntime.quantization.calibrate import CalibrationDataReader, create_calibrator

    class Batches(CalibrationDataReader):  # type: ignore[misc]  # the library has no annotations
        def __init__(self, names: Sequence[str]) -> None:
            self.left = iter([{k: x.numpy() for k, x in zip(names, batch, strict=True)} for batch in batches])

        def get_next(self) -> dict[str, np.ndarray] | None:
            return next(self.left, None)

    with quiet():
        calibrator = create_calibrator(source, QUANTIZED, augmented_model_path=str(folder / "augmented.onnx"))
        calibrator.collect_data(Batches([one.name for one in calibrator.model.graph.input]))
        return calibrator.compute_data()


def _pool(model: Any) -> None:
    """Write means over height and width as pooling, of which there is an integer kernel."""
    import onnx

    constants = {one.name: onnx.numpy_helper.to_array(one) for one in model.graph.initializer}
    ranks = {one.name: len(one.type.tensor_type.shape.dim) for one in model.graph.value_info}
    nodes = []
    for node in model.graph.node:
        axes = constants.get(node.input[1]) if node.op_type == "ReduceMean" and len(node.input) > 1 else None
        if axes is None or ranks.get(node.input[0]) != 4 or sorted(int(axis) % 4 for axis in axes.flat) != [2, 3]:
            nodes.append(node)
            continue
        keeps = all(one.i for one in node.attribute if one.name == "keepdims")
        made = node.output[0] if keeps else f"{node.output[0]}_pooled"
        nodes.append(onnx.helper.make_node("GlobalAveragePool", node.input[:1], [made], f"{node.name}_pool"))
        if not keeps:
            nodes.append(onnx.helper.make_node("Flatten", [made], node.output[:1], f"{node.name}_flatten", axis=1))
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    used = {name for node in nodes for name in node.input}
    for initializer in [one for one in model.graph.initializer if one.name not in used]:
        model.graph.initializer.remove(initializer)


def _with_float_scores(model: Any) -> None:
    """Let a linear layer that makes an output of the network make it in float: 256 values would tie where scores do."""
    nodes = {output: node for node in model.graph.node for output in node.output}
    for output in model.graph.output:
        dequantize = nodes.get(output.name)
        quantize = nodes.get(dequantize.input[0]) if dequantize and dequantize.op_type == "DequantizeLinear" else None
        layer = nodes.get(quantize.input[0]) if quantize is not None else None
        if quantize is None or layer is None or layer.op_type not in ("Gemm", "MatMul", "Add"):
            continue
        of_scores = {layer.output[0], quantize.output[0], output.name}
        if sum(bool(of_scores & {*node.input}) for node in model.graph.node) > 2:  # somebody else reads them
            continue
        layer.output[0] = output.name
        model.graph.node.remove(quantize)
        model.graph.node.remove(dequantize)


def _times(subject: Subject, files: Mapping[str, bytes]) -> dict[str, float]:
    """Scheme -> the median time of one sample on one thread, in ms, all in turn."""
    sample = [x.numpy() for x in subject.resized(1)]
    runs: dict[str, Callable[[], object]] = {
        name: partial(running(session(content, 1)), sample) for name, content in files.items()
    }
    compared = side_by_side(runs, EFFORT, time.thread_time)
    return {name: float(np.median(times)) for name, times in compared.rounds_ms.items()}


def _error(subject: Subject, content: bytes) -> tuple[float, float | None]:
    """The mean error over the calibration batches, and how often the largest score is of the same class.

    The second is None unless the network has one output, with scores along its second dimension.
    """
    network = running(session(content, torch.get_num_threads()))
    errors, same = [], []
    for batch in subject.calibration:
        expected = subject.run(batch)
        got = [torch.from_numpy(out) for out in network([x.numpy() for x in batch])]
        errors.append(mean_error(got, expected))
        if len(expected) == 1 and expected[0].ndim >= 2 and expected[0].shape[1] > 1:
            same.append((got[0].argmax(1) == expected[0].argmax(1)).double().flatten())
    return float(np.mean(errors)), float(torch.cat(same).mean()) if same else None

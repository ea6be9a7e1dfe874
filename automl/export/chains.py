"""Layers of one shape in a row, as a backend really runs them: what a piece of a network takes is measured on these.

A layer from `read` to `made` channels is followed by one back, four times over, each with its activation, so that what
a network alone pays at its ends (inputs brought into the library's own order) is shared among eight.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from automl.errors import BackendError
from automl.export.integer_onnx import SCHEMES, quantized_alone
from automl.export.subject import Subject
from automl.export.timing import by_a_file
from automl.measures.backends.onnx_runtime import running, session
from automl.measures.backends.registry import backend_of
from automl.measures.backends.side_by_side import Run
from automl.measures.pieces import Shape

PAIRS = 4
OPSET = 20
WRITTEN = ("onnx", "onnx-int8")
"""The formats in which a chain is put together without PyTorch."""


def chain_runner(backend: str, batch: int, threads: int) -> Callable[[Shape, int, int], tuple[Run, int]]:
    """What makes for a shape and its widths, read and made, a run on the backend, and says of how many layers it is."""
    if backend == "compile":
        raise BackendError("pieces are not timed on compile, which takes a minute each: limit the latency on eager")
    if backend == "eager":
        return partial(_eager, batch)
    return partial(_from_onnx if backend_of(backend).format in WRITTEN else _from_file, backend, batch, threads)


def _widths(shape: Shape, read: int, made: int) -> list[tuple[int, int]]:
    """What each layer of a chain reads and makes."""
    if shape.groups > 1:  # a grouped layer makes what it reads
        return [(made, made)] * (2 * PAIRS)
    return [(read, made), (made, read)] * PAIRS


def _padding(shape: Shape) -> tuple[int, int]:
    return shape.kernel[0] // 2, shape.kernel[1] // 2


def _eager(batch: int, shape: Shape, read: int, made: int) -> tuple[Run, int]:
    network, x, layers = _network(batch, shape, read, made)

    def run() -> object:
        with torch.inference_mode():
            return network(x)

    run()
    return run, layers


def _network(batch: int, shape: Shape, read: int, made: int) -> tuple[nn.Module, torch.Tensor, int]:
    """The chain in PyTorch, its input, and of how many layers it is."""
    widths = _widths(shape, read, made)
    if not shape.height:
        layers: list[nn.Module] = [nn.Linear(a, b) for a, b in widths]
        x = torch.zeros(batch, *([shape.width] if shape.width > 1 else []), widths[0][0])
    else:
        padding = _padding(shape)
        layers = [nn.Conv2d(a, b, shape.kernel, padding=padding, groups=shape.grouped(a)) for a, b in widths]
        x = torch.zeros(batch, widths[0][0], shape.height, shape.width)
    return nn.Sequential(*(part for layer in layers for part in (layer, nn.ReLU()))).eval(), x, len(widths)


def _from_file(name: str, batch: int, threads: int, shape: Shape, read: int, made: int) -> tuple[Run, int]:
    """By the format of the backend, which may be that of a package."""
    network, x, layers = _network(batch, shape, read, made)
    return by_a_file(backend_of(name), Subject(network, (x,)), threads)[0], layers


def _from_onnx(name: str, batch: int, threads: int, shape: Shape, read: int, made: int) -> tuple[Run, int]:
    """By an ONNX model put together here, since PyTorch's exporter takes seconds for each."""
    import onnx

    backend = backend_of(name)
    model, x = _onnx(batch, shape, read, made)
    content = model.SerializeToString()
    if backend.format == "onnx-int8":
        content = quantized_alone(onnx.shape_inference.infer_shapes(model), x, SCHEMES[0])
    if backend.package == "onnxruntime":
        run = partial(running(session(content, threads)), [x])
    else:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "chain.onnx"
            path.write_bytes(content)
            run = partial(backend.loaded(path, threads), [x])
    run()
    return run, len(_widths(shape, read, made))


def _onnx(batch: int, shape: Shape, read: int, made: int) -> tuple[Any, np.ndarray]:
    """The chain as an ONNX model, and its input."""
    from onnx import TensorProto, helper, numpy_helper

    rng, widths = np.random.default_rng(0), _widths(shape, read, made)
    size = (batch, widths[0][0], shape.height, shape.width) if shape.height else (batch * shape.width, widths[0][0])
    nodes, weights, last = [], [], "x"
    for i, (a, b) in enumerate(widths):
        if shape.height:
            groups, (top, left) = shape.grouped(a), _padding(shape)
            weight = rng.normal(size=(b, a // groups, *shape.kernel)) / np.sqrt(a // groups * np.prod(shape.kernel))
            told: dict[str, Any] = {"kernel_shape": shape.kernel, "group": groups, "pads": (top, left, top, left)}
            nodes.append(helper.make_node("Conv", [last, f"w{i}", f"b{i}"], [f"y{i}"], f"conv{i}", **told))
        else:
            weight = rng.normal(size=(b, a)) / np.sqrt(a)
            nodes.append(helper.make_node("Gemm", [last, f"w{i}", f"b{i}"], [f"y{i}"], f"linear{i}", transB=1))
        last = f"z{i}"
        nodes.append(helper.make_node("Relu", [f"y{i}"], [last], f"relu{i}"))
        weights += [numpy_helper.from_array(weight.astype(np.float32), f"w{i}")]
        weights += [numpy_helper.from_array(np.full(b, 0.1, np.float32), f"b{i}")]
    made_size = [*size[:1], widths[-1][1], *size[2:]]
    if shape.height:  # of an even kernel the output is one larger, which the last layer need not say
        made_size[2:] = [None, None]
    x, y = (helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in (("x", size), (last, made_size)))
    graph = helper.make_graph(nodes, "chain", [x], [y], weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=10)
    return model, rng.normal(size=size).astype(np.float32)

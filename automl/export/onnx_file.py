"""ONNX: written with a free batch size, and run from the file by ONNX Runtime."""

from __future__ import annotations

import tempfile
from functools import partial
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from automl.export.code_in_onnx import with_quantized_inputs
from automl.export.one_batch import with_one_batch
from automl.export.subject import Run, Subject, quiet
from automl.measures.backends.base import Network
from automl.measures.backends.onnx_runtime import running, session
from search_spaces.graph.inputs import quantized_inputs


def write_onnx(subject: Subject, path: Path) -> None:
    """Write the network in float32 as one file, whose checksum covers the weights."""
    if subject.onnx is None:
        subject.onnx = onnx_content(subject)
    path.write_bytes(subject.onnx)


def onnx_content(subject: Subject) -> bytes:
    """The content of the file, which takes seconds to make and is the start of others. Errors: `ExportError`."""
    with_one_batch(subject.program)
    # The exporter decomposes twice; attention has the same order of memory both times by this kernel alone.
    with quiet(), sdpa_kernel(SDPBackend.MATH), tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        torch.onnx.export(
            subject.program,
            (),
            path,
            dynamo=True,
            verbose=False,
            external_data=False,
            input_names=subject.input_names,
            output_names=subject.output_names,
            dynamic_shapes=subject.dynamic_shapes,
        )
        content = path.read_bytes()
    return _with_quantized_inputs(content) if any(quantized_inputs(subject.network)) else content


def _with_quantized_inputs(content: bytes) -> bytes:
    import onnx

    model = onnx.load_from_string(content)
    with_quantized_inputs(model)
    found: bytes = model.SerializeToString()
    return found


def read_onnx(subject: Subject, path: Path) -> Run:
    """Check the file, and run it on as many threads as PyTorch has."""
    import onnx

    onnx.checker.check_model(path, full_check=True)
    return partial(run_with_tensors, running(session(str(path), torch.get_num_threads())))


def run_with_tensors(network: Network, inputs: tuple[Tensor, ...]) -> list[Tensor]:
    """Run a network of arrays with tensors."""
    return [torch.from_numpy(out) for out in network([x.numpy() for x in inputs])]

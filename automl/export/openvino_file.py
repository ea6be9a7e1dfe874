"""OpenVINO's own format (IR): the graph as XML, and the weights in a `.bin` of the same name beside it."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import torch

from automl.export.onnx_file import onnx_content, run_with_tensors
from automl.export.subject import Run, Subject
from automl.measures.backends.open_vino import OPENVINO

WEIGHTS = ".bin"
"""The ending of the file of weights, which OpenVINO looks for by the name of the XML."""


def write_openvino(subject: Subject, path: Path) -> None:
    """Write the network as OpenVINO reads it from ONNX, with weights in float32."""
    import openvino

    if subject.onnx is None:
        subject.onnx = onnx_content(subject)
    # `openvino.convert_model` would report its use to the maker, and write the name of this machine's folder.
    model = openvino.Core().read_model(model=subject.onnx)
    openvino.save_model(model, path, compress_to_fp16=False)


def read_openvino(subject: Subject, path: Path) -> Run:
    """Compile the files for the processor in float32, for as many threads as PyTorch has."""
    return partial(run_with_tensors, OPENVINO.load(path, torch.get_num_threads()))

"""The formats: how each is written, and how it is run again from its file alone."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import save
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from automl.errors import ExportError
from automl.export.one_batch import with_one_batch
from automl.export.packed import pack, unpack
from automl.export.subject import Run, Subject, quiet, run_module
from automl.measures import state_tensors


@dataclass(frozen=True)
class Format:
    """One kind of file."""

    file: str
    tolerance: float
    """The largest difference allowed between file and network, relative to the network's largest output."""
    write: Callable[[Subject, Path], None]
    read: Callable[[Subject, Path], Run]
    """Load the file anew and return what runs it."""


def load_tensors(network: nn.Module, path: Path, aliases: dict[str, str]) -> None:
    """Load a safetensors file, packed or not, strictly into `network`: every key and every shape must match."""
    tensors = unpack(path)
    if missing := sorted({*aliases.values()} - tensors.keys()):
        raise ExportError(f"{path} has no tensor {missing[0]!r:.80}, which another shares. Export again")
    network.load_state_dict({**tensors, **{key: tensors[kept] for key, kept in aliases.items()}}, strict=True)


def _write_safetensors(subject: Subject, path: Path) -> None:
    path.write_bytes(save(state_tensors(subject.network)[0]))


def _write_packed(subject: Subject, path: Path) -> None:
    path.write_bytes(pack(subject.network))


def _read_safetensors(subject: Subject, path: Path) -> Run:
    empty = copy.deepcopy(subject.network)
    with torch.no_grad():
        for tensor in empty.state_dict().values():  # what the file does not bring would show
            tensor.fill_(float("nan") if tensor.is_floating_point() else 0)
    load_tensors(empty, path, state_tensors(subject.network)[1])
    return lambda inputs: run_module(empty, inputs)


def _write_pt2(subject: Subject, path: Path) -> None:
    with quiet():
        torch.export.save(subject.program, path)


def _read_pt2(subject: Subject, path: Path) -> Run:
    with quiet():
        module = torch.export.load(path).module()
    return lambda inputs: run_module(module, inputs)


def _write_onnx(subject: Subject, path: Path) -> None:
    with_one_batch(subject.program)
    # The exporter decomposes twice; attention has the same order of memory both times by this kernel alone.
    with quiet(), sdpa_kernel(SDPBackend.MATH):
        torch.onnx.export(
            subject.program,
            (),
            path,
            dynamo=True,
            verbose=False,
            external_data=False,  # one file, whose checksum covers the weights
            input_names=subject.input_names,
            output_names=subject.output_names,
            dynamic_shapes=subject.dynamic_shapes,
        )


def _read_onnx(subject: Subject, path: Path) -> Run:
    import onnx
    import onnxruntime

    onnx.checker.check_model(path, full_check=True)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors only
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])

    def run(inputs: tuple[Tensor, ...]) -> list[Tensor]:
        feed = {name: x.numpy() for name, x in zip(subject.input_names, inputs, strict=True)}
        return [torch.from_numpy(out) for out in session.run(None, feed)]

    return run


FORMATS: dict[str, Format] = {
    "safetensors": Format("model.safetensors", 0.0, _write_safetensors, _read_safetensors),
    "pt2": Format("model.pt2", 1e-5, _write_pt2, _read_pt2),
    "onnx": Format("model.onnx", 1e-4, _write_onnx, _read_onnx),
}
"""Name -> format. The tolerances leave room for another order of additions (pt2) and another library (onnx)."""

PACKED = Format("model.safetensors", 0.0, _write_packed, _read_safetensors)
"""What `safetensors` means for a network with zeros; the other formats store the zeros."""

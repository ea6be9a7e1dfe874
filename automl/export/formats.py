"""The formats: how each is written, and how it is run again from its file alone."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import nn

from automl.errors import ExportError
from automl.export.executorch_file import read_executorch, write_executorch
from automl.export.integer_onnx import mean_error, write_integer_onnx
from automl.export.onnx_file import read_onnx, write_onnx
from automl.export.openvino_file import WEIGHTS, read_openvino, write_openvino
from automl.export.packed import pack, unpack
from automl.export.subject import Difference, Run, Subject, largest_difference, quiet, run_module
from automl.export.tflite_file import PACKAGES, PACKAGES_INT8, read_tflite, write_integer_tflite, write_tflite
from automl.measures import state_tensors
from automl.util.names import nearest
from search_spaces import Offered


@dataclass(frozen=True)
class Format:
    """One kind of file."""

    file: str
    tolerance: float
    """The largest difference allowed between file and network."""
    write: Callable[[Subject, Path], Mapping[str, Any] | None]
    """Write the file; returns what else the manifest says of it."""
    read: Callable[[Subject, Path], Run]
    """Load the file anew and return what runs it."""
    difference: Difference = largest_difference
    """How far outputs are apart: by default the largest difference, relative to the network's largest output."""
    packages: tuple[str, ...] = ()
    """What must be installed beside PyTorch."""
    beside: tuple[str, ...] = ()
    """The endings of the files that belong to `file` and are called as it is, such as `.bin`."""

    @property
    def files(self) -> list[str]:
        """The names of all its files, `file` first."""
        return [self.file, *(str(Path(self.file).with_suffix(ending)) for ending in self.beside)]

    @property
    def installed(self) -> bool:
        """Whether what it needs is there."""
        return all(map(find_spec, self.packages))


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


WRITES_ONNX = ("onnx", "onnxscript")
ONNX = (*WRITES_ONNX, "onnxruntime")

FORMATS: dict[str, Format] = {
    "safetensors": Format("model.safetensors", 0.0, _write_safetensors, _read_safetensors),
    "pt2": Format("model.pt2", 1e-5, _write_pt2, _read_pt2),
    "onnx": Format("model.onnx", 1e-4, write_onnx, read_onnx, packages=ONNX),
    "onnx-int8": Format("model-int8.onnx", 0.5, write_integer_onnx, read_onnx, mean_error, ONNX),
    "openvino": Format(
        *("model.xml", 1e-4, write_openvino, read_openvino),
        packages=(*WRITES_ONNX, "openvino"),
        beside=(WEIGHTS,),
    ),
    "executorch": Format("model.pte", 1e-4, write_executorch, read_executorch, packages=("executorch",)),
    "tflite": Format("model.tflite", 1e-4, write_tflite, read_tflite, packages=PACKAGES),
    "tflite-int8": Format(
        "model-int8.tflite", 0.5, write_integer_tflite, read_tflite, mean_error, packages=PACKAGES_INT8
    ),
}
"""Name -> format. The tolerances leave room for another order of additions (pt2) and another library (onnx, openvino,
executorch, tflite). That of integers only tells a network from noise: what they are worth is in the manifest, and in
the metrics of the network."""

_FILE = re.compile(r"model[\w.-]*\.\w+")


def _is_format(name: str, found: object) -> bool:
    """Whether it is a format, whose file stands in the folder under a name that no other has."""
    ours = {file for kind in FORMATS.values() for file in kind.files}
    return isinstance(found, Format) and all(_FILE.fullmatch(file) and file not in ours for file in found.files)


OFFERED: Offered[Format] = Offered(
    "automl.formats",
    "a Format whose file is called model..., as none of ours is",
    _is_format,
    lambda: FORMATS,
    ExportError,
)
"""Those that packages bring."""


def format_names() -> list[str]:
    """The names of all formats."""
    return [*FORMATS, *OFFERED.names()]


def format_of(name: str) -> Format:
    """The format of this name, whether or not what it needs is installed. Errors: `ExportError`."""
    if name in FORMATS:
        return FORMATS[name]
    if name not in OFFERED.names():
        raise ExportError(f"unknown export format {name!r}{nearest(name, format_names())}")
    return OFFERED.load(name)


def formats_known() -> dict[str, Format]:
    """Name -> format, of all but those of packages that are broken, which are told of."""
    return {**FORMATS, **OFFERED.sound()}


PACKED = Format("model.safetensors", 0.0, _write_packed, _read_safetensors)
"""What `safetensors` means for a network with zeros; the other formats store the zeros."""

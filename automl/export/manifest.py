"""The manifest of an export, read as somebody else's: what it must hold for a network to be rebuilt, and its bounds.

Nothing is allocated by what it says before all of it has been checked, the files by their sizes and checksums too.
"""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch

from automl.errors import ExportError
from automl.util.file_names import file_within
from search_spaces import Plan

T = TypeVar("T")

MANIFEST = "manifest.json"
MANIFEST_VERSION = 1
LONGEST = 2**26
"""How many bytes a manifest may have; it holds indices of what is kept, and no weights."""
MOST_INPUT_BYTES = 2**30
"""What the example inputs may take: a batch on which the network is recorded, two samples as a rule."""

_DTYPES = {
    str(dtype).removeprefix("torch."): dtype
    for dtype in (torch.float32, torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8, torch.bool)
}
"""The types of inputs: an export is in float32."""


@dataclass(frozen=True)
class Input:
    """An example of one argument of the forward."""

    shape: tuple[int, ...]
    dtype: torch.dtype


@dataclass(frozen=True)
class Rebuilding:
    """What a manifest says that a network is rebuilt from, checked."""

    inputs: tuple[Input, ...]
    plan: Plan
    aliases: dict[str, str]
    """Tensor that the file leaves out -> the one that it shares its memory with."""
    probe: tuple[tuple[float, ...], ...]
    """The first values of each output on made-up inputs, NaN where the network gives NaN."""
    weights: Path
    """The safetensors file, which is the one described."""


def read_manifest(out: str | Path) -> dict[str, Any]:
    """The manifest of the export in `out`; an `ExportError` if there is none that this version can read."""
    path = Path(out) / MANIFEST
    try:
        if not path.is_file():
            raise ValueError("there is no such file")
        if path.stat().st_size > LONGEST:
            raise ValueError(f"it has more than {LONGEST:,} bytes")
        manifest: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        version = manifest["manifest_version"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise ExportError(f"{path} is not the manifest of an export: {error}. Export the study first") from error
    if version != MANIFEST_VERSION or isinstance(version, bool):
        raise ExportError(f"{path} has version {version!r:.80}, this program reads {MANIFEST_VERSION}: export again")
    return manifest


def rebuilding(out: Path) -> Rebuilding:
    """What the network of the export in `out` is rebuilt from. Errors: `ExportError`."""
    manifest = read_manifest(out)
    try:
        return Rebuilding(
            _inputs(manifest["inputs"]),
            _plan(manifest["plan"]),
            _aliases(manifest["aliases"]),
            _probe(manifest["probe"]),
            _weights(out, manifest["files"]),
        )
    except ExportError:
        raise
    except (ValueError, KeyError, TypeError, AttributeError, IndexError) as error:  # steps read as they like
        detail = f"it has no {error}" if isinstance(error, KeyError) else error
        raise ExportError(
            f"{out / MANIFEST} is not the manifest of an export: {detail}. Export the study again"
        ) from error


def sha256(path: Path) -> str:
    """The checksum of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _inputs(told: Any) -> tuple[Input, ...]:
    inputs = []
    for one in _of(list, told, "inputs"):
        _of(dict, one, "an input")
        shape = tuple(_whole(size, "a shape of its inputs") for size in _of(list, one["example"], "a shape"))
        if _of(str, one["dtype"], "a type") not in _DTYPES:
            raise ValueError(f"an input has the type {one['dtype']!r:.80}, expected one of {', '.join(_DTYPES)}")
        inputs.append(Input(shape, _DTYPES[one["dtype"]]))
    taken = sum(math.prod(one.shape) * one.dtype.itemsize for one in inputs)
    if not 0 < taken <= MOST_INPUT_BYTES:
        raise ValueError(f"its inputs take {taken:,} bytes, expected 1 to {MOST_INPUT_BYTES:,}")
    return tuple(inputs)


def _plan(told: Any) -> Plan:
    for step in _of((list, dict), told, "its plan"):
        _of((dict, str), step, "a step of its plan")  # a name in the one object that earlier versions wrote
    return Plan.from_json(json.dumps(told))


def _aliases(told: Any) -> dict[str, str]:
    return {_of(str, name, "an alias"): _of(str, kept, "an alias") for name, kept in _of(dict, told, "aliases").items()}


def _probe(told: Any) -> tuple[tuple[float, ...], ...]:
    outputs = []
    for values in _of(list, told, "probe"):
        numbers = tuple(_number(value) for value in _of(list, values, "a probe"))
        if not any(map(math.isfinite, numbers)):
            raise ValueError("an output of its probe has no number")
        outputs.append(numbers)
    return tuple(outputs)


def _number(value: Any) -> float:
    return math.nan if value is None else float(_of((int, float), value, "a probe"))


def _weights(out: Path, told: Any) -> Path:
    """The safetensors file in `out`, if it is the one described. Other files are named, and may have been left out."""
    described = {}
    for name, entry in _of(dict, told, "files").items():
        _of(dict, entry, f"what it says of {name}")
        file, digest = _of(str, entry["file"], "a file"), _of(str, entry["sha256"], "a checksum")
        described[name] = (file, _whole(entry["bytes"], "the size of a file"), digest)
    if "safetensors" not in described:
        raise ExportError(f"{out} holds no safetensors file to rebuild from: export again with format safetensors")
    file, size, digest = described["safetensors"]
    path = file_within(out, file, "the weights", ExportError)
    if path.stat().st_size != size or sha256(path) != digest:
        raise ExportError(f"{path} is not the file the manifest describes: export again")
    return path


def _of(kind: type[T] | tuple[type[T], ...], value: Any, what: str) -> T:
    """`value`, if it is of this kind."""
    if not isinstance(value, kind) or isinstance(value, bool):
        raise ValueError(f"{what} cannot be {value!r:.80}")
    return value


def _whole(value: Any, what: str) -> int:
    """`value`, if it is a whole number of at least 0."""
    if _of(int, value, what) < 0:
        raise ValueError(f"{what} cannot be {value!r:.80}")
    return int(value)

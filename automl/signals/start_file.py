"""The file of what signals share: a start, or a network and the code of its latents. Its sha256 names it.

An .npz file of arrays alone, not compressed, so that NumPy reads it. A signal that was stored with its help says the
first bytes of the sha256, and cannot be drawn without it.
"""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch

from automl.errors import DataError, in_a_line
from automl.signals.latent_code import LatentCode
from automl.signals.latent_reader import ABOUT, FREQUENCIES, LEVELS, SHARED, arrays_of
from automl.signals.meta import Tensors
from automl.signals.modulations import MAP, hidden_biases
from automl.signals.siren import Siren
from automl.util.files import replacing

VERSION = 1
SUFFIX = ".npz"
RATE, MASK = "rate.", "mask."
FormName = Literal["whole", "sparse", "gated", "latent"]
FORMS: tuple[FormName, ...] = ("whole", "sparse", "gated", "latent")
MOST_BYTES = 2**28
"""Of a file: longer ones are refused unread."""


@dataclass(frozen=True)
class Shape:
    """The architecture of the network that draws signals."""

    inputs: int
    outputs: int
    width: int
    depth: int
    w0: float

    def network(self) -> Siren:
        """The network, its weights drawn at random."""
        return Siren(self.inputs, self.outputs, self.width, self.depth, self.w0)


@dataclass(frozen=True)
class Start:
    """What signals share, as meta-learning found it."""

    form: FormName
    """How a signal differs from it: in every number, in those where a sparse start has any, in few, or by a latent."""
    shape: Shape
    shared: Tensors
    """Parameters of the network by name; of form `latent` the map to shifts too, of form `gated` where gates begin."""
    rates: Tensors = field(default_factory=dict)
    """Of the inner steps: [steps, *shape] or [steps], by name of what is adapted."""
    masks: Tensors = field(default_factory=dict)
    """Of form `sparse`: 1 where a weight is, by name."""
    code: LatentCode | None = None
    """Of form `latent`."""
    patch: tuple[int, ...] = ()
    """Of form `latent`: the lengths of the axes of what has one latent."""
    density: float = 1.0
    """Of form `gated`: the part of all numbers that a signal may change."""

    def network(self) -> Siren:
        """The network with the shared parameters in it."""
        network = self.shape.network()
        network.load_state_dict({name: self.shared[name] for name, _ in network.named_parameters()})
        return network


def content(start: Start) -> bytes:
    """The file of `start`; the same start gives the same bytes."""
    about = {
        "automl start": VERSION,
        "form": start.form,
        "shape": asdict(start.shape),
        "patch": list(start.patch),
        "density": start.density,
    }
    arrays: dict[str, npt.NDArray[Any]] = {ABOUT: np.frombuffer(json.dumps(about).encode(), dtype=np.uint8)}
    for prefix, tensors in ((SHARED, start.shared), (RATE, start.rates)):
        arrays |= {prefix + name: tensor.detach().numpy() for name, tensor in tensors.items()}
    arrays |= {MASK + name: mask.numpy().astype(bool) for name, mask in start.masks.items()}
    if start.code is not None:
        arrays |= {LEVELS: start.code.levels, FREQUENCIES: start.code.frequencies.astype(np.uint16)}
    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=False, **arrays)
    return buffer.getvalue()


def save_start(start: Start, path: Path) -> str:
    """Write `start` to `path`; its sha256. Errors: `DataError`."""
    body = content(start)
    with replacing(path, "the start", DataError) as partial:
        partial.write_bytes(body)
    return hashlib.sha256(body).hexdigest()


def load_start(path: Path) -> tuple[Start, bytes]:
    """The start in a file, and the file's content. Errors: `DataError` if it is no such file."""
    try:
        if path.stat().st_size > MOST_BYTES:
            raise ValueError(f"it has {path.stat().st_size:,} bytes, more than {MOST_BYTES:,}")
        body = path.read_bytes()
        return _start_of(arrays_of(body)), body
    except (OSError, ValueError, KeyError, TypeError, EOFError, RecursionError, zipfile.BadZipFile) as error:
        raise DataError(
            f"expected in {path} a start that `automl learn-start` wrote, got another file or a part of one "
            f"({in_a_line(error)}). Learn it again, or copy it whole"
        ) from error


def _start_of(arrays: Mapping[str, npt.NDArray[Any]]) -> Start:
    about = json.loads(arrays[ABOUT].tobytes())
    if about["automl start"] != VERSION or about["form"] not in FORMS:
        raise ValueError(f"version {about['automl start']!r:.20}, form {about['form']!r:.20}")
    shape = Shape(**about["shape"])
    wanted = dict(shape.network().named_parameters()) if _plausible(shape, arrays) else {}
    start = Start(
        about["form"],
        shape,
        _floats(arrays, SHARED),
        _floats(arrays, RATE),
        {name: torch.from_numpy(mask.astype(np.float32)) for name, mask in _of(arrays, MASK).items()},
        _code(arrays) if about["form"] == "latent" else None,
        tuple(int(length) for length in about["patch"]),
        float(about["density"]),
    )
    for name, parameter in wanted.items():
        if start.shared[name].shape != parameter.shape:
            raise ValueError(f"{name} has the shape {list(start.shared[name].shape)}")
    if start.form == "latent":
        units = sum(bias.numel() for bias in hidden_biases(shape.network()).values())
        if start.shared[MAP].ndim != 2 or len(start.shared[MAP]) != units or len(start.patch) != shape.inputs:
            raise ValueError(f"the map to {units} shifts has the shape {list(start.shared[MAP].shape)}")
    return start


def _plausible(shape: Shape, arrays: Mapping[str, npt.NDArray[Any]]) -> bool:
    """True if the network has as many layers and units as there are arrays. Errors: `ValueError` if not."""
    sizes = (shape.inputs, shape.outputs, shape.width, shape.depth)
    if any(type(size) is not int or size < 1 for size in sizes) or not np.isfinite(shape.w0):
        raise ValueError(f"the network {shape!r:.120}")
    layers = sum(name.startswith(f"{SHARED}layers.") and name.endswith(".weight") for name in arrays)
    last = arrays[f"{SHARED}layers.{shape.depth}.weight"]
    if layers != shape.depth + 1 or last.shape != (shape.outputs, shape.width):
        raise ValueError(f"the network {shape!r:.120}")
    return True


def _floats(arrays: Mapping[str, npt.NDArray[Any]], prefix: str) -> Tensors:
    found = _of(arrays, prefix)
    for name, array in found.items():
        if array.dtype != np.float32 or not np.isfinite(array).all():
            raise ValueError(f"{name!r:.80} is not of finite float32 numbers")
    return {name: torch.from_numpy(array) for name, array in found.items()}


def _of(arrays: Mapping[str, npt.NDArray[Any]], prefix: str) -> dict[str, npt.NDArray[Any]]:
    return {name.removeprefix(prefix): array for name, array in arrays.items() if name.startswith(prefix)}


def _code(arrays: Mapping[str, npt.NDArray[Any]]) -> LatentCode:
    levels, frequencies = arrays[LEVELS], arrays[FREQUENCIES].astype(np.int64)
    if levels.dtype != np.float32 or not 2 <= len(levels) <= 256 or levels.shape != frequencies.shape:
        raise ValueError(f"levels of shape {list(levels.shape)}")
    if frequencies.min() < 1 or frequencies.sum() != 4096 or not (np.diff(levels) >= 0).all():
        raise ValueError("levels or frequencies that are none")
    return LatentCode(levels, frequencies)

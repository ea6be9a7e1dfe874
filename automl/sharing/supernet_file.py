"""A trained supernet in a file, from which any study of the same space takes its networks."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import load, save
from torch import Tensor

from automl.errors import StudyError
from automl.util.files import replacing
from search_spaces import Supernet

TOLD = "supernet"
"""The key under which a file says how it was made."""


@dataclass(frozen=True)
class Made:
    """How a supernet was made."""

    seconds: float
    """What its training took."""
    samples: int
    """How many training samples it saw, all epochs together."""
    rule: str
    space: Mapping[str, Any]
    """The options of the space of cells, as a study file has them."""


def write_supernet(weights: Supernet, made: Made, path: Path) -> str:
    """Write `weights` as safetensors, whole or not at all; the file's SHA-256. Errors: `StudyError`."""
    tensors = {name: tensor.contiguous() for name, tensor in weights.state_dict().items()}
    content = save(tensors, {TOLD: json.dumps(vars(made))})
    with replacing(path, "the supernet", make_folder=True) as partial:
        partial.write_bytes(content)
    return hashlib.sha256(content).hexdigest()


def read_supernet(weights: Supernet, path: Path, sha256: str | None = None) -> tuple[Made, str]:
    """Load what `write_supernet` wrote into `weights`; how it was made, and the file's SHA-256.

    `StudyError` for a file that cannot be read, is not the one that was recorded, or is of another space.
    """
    content = _content(path)
    digest = hashlib.sha256(content).hexdigest()
    if sha256 is not None and digest != sha256:
        raise StudyError(f"the supernet {path} is not the one that was recorded. Put the file back as it was")
    made, tensors = made_of(path), load(content)
    difference = _difference(weights.state_dict(), tensors)
    if difference:
        raise StudyError(
            f"the supernet {path} is of another space: {difference}. Search the space that it was trained for, with "
            f"other budgets if you like"
        )
    weights.load_state_dict(tensors)
    return made, digest


def made_of(path: Path) -> Made:
    """How the supernet in a file was made. `StudyError` for a file that cannot be read or is none."""
    _content(path)
    try:
        with safe_open(path, "pt") as file:
            told: dict[str, Any] = json.loads((file.metadata() or {})[TOLD])
        made = Made(float(told["seconds"]), int(told["samples"]), str(told["rule"]), dict(told["space"]))
    except (SafetensorError, ValueError, KeyError, TypeError) as error:
        raise StudyError(f"{path} is no supernet: give a file that a study has trained as one") from error
    return made


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise StudyError(f"the supernet {path} cannot be read: {error.strerror}. Put the file back") from error


def _difference(wanted: dict[str, Tensor], found: dict[str, Tensor]) -> str:
    """The first tensor that tells two supernets apart, in words; "" if there is none."""
    for name in sorted(wanted.keys() | found.keys()):
        if name not in found:
            return f"it has no {name}"
        if name not in wanted:
            return f"it has {name}, which no network of this space needs"
        if wanted[name].shape != found[name].shape:
            return f"its {name} is {list(found[name].shape)}, expected {list(wanted[name].shape)}"
    return ""

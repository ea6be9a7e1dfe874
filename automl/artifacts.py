"""Trained weights in files beside the database: what cannot be rebuilt from the record is kept whole, and checked."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from safetensors.torch import load, save
from torch import nn

from automl.config import StudyConfig
from automl.errors import StudyError
from automl.measures import state_tensors
from automl.store import Store


def artifacts_folder(store: Store, config: StudyConfig) -> Path:
    """Where a study keeps its files: the folder it names, or one beside the database file or in the working folder."""
    if config.artifacts is not None:
        return Path(config.artifacts) / config.name
    if store.url.startswith("sqlite"):
        return Path(f"{store.name}.artifacts") / config.name
    return Path.cwd() / f"{config.name}.artifacts"


def write_weights(network: nn.Module, path: Path) -> str:
    """Write the state of `network` as safetensors, whole or not at all; the file's SHA-256. Errors: `StudyError`."""
    content = save(state_tensors(network)[0])
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial.write_bytes(content)
        partial.replace(path)
    except OSError as error:
        raise StudyError(
            f"cannot write the trained weights {path}: {error}. Make room, or its folder writable"
        ) from error
    finally:
        partial.unlink(missing_ok=True)
    return hashlib.sha256(content).hexdigest()


def read_weights(network: nn.Module, path: Path, sha256: str) -> None:
    """Load what `write_weights` wrote into a network of the same structure. Errors: `StudyError`."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise StudyError(f"the trained weights {path} cannot be read: {error.strerror}. Put the file back") from error
    if hashlib.sha256(content).hexdigest() != sha256:
        raise StudyError(f"the trained weights {path} are not those that were recorded. Put the file back as it was")
    tensors = load(content)
    aliases = state_tensors(network)[1]
    network.load_state_dict({**tensors, **{key: tensors[kept] for key, kept in aliases.items()}})

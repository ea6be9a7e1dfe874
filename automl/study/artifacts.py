"""Trained weights in files beside the database: what cannot be rebuilt from the record is kept whole, and checked."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import load, save
from torch import nn

from automl.config.study import StudyConfig
from automl.errors import StudyError, in_a_line
from automl.measures import state_tensors
from automl.store import ArtifactRecord, Store, StudyRecord, is_ours
from automl.util.file_names import file_name, file_within
from automl.util.files import replacing
from search_spaces import Plan

PLAN = "plan"
"""The key under which a file of weights says which channels they belong to."""


def artifacts_folder(store: Store, config: StudyConfig) -> Path:
    """Where a study keeps its files: the folder it names, or one beside the database file or in the working folder."""
    name = file_name(config.name)
    if config.artifacts is not None:
        return Path(config.artifacts) / name
    if store.url.startswith("sqlite"):
        return Path(f"{store.name}.artifacts") / name
    return Path.cwd() / f"{name}.artifacts"


def file_of(study: StudyRecord, artifact: ArtifactRecord, folder: Path) -> Path:
    """Where the file of an artifact lies: as recorded, or in `folder` if the database has moved with its files.

    A study from elsewhere has files in `folder` alone. Errors: `StudyError`.
    """
    recorded = Path(artifact.path)
    if is_ours(study) and recorded.exists():
        return recorded
    where = "" if is_ours(study) else " of a study from elsewhere (in the folder that --artifacts names)"
    return file_within(folder, recorded.name, f"the trained weights{where}")


def write_weights(network: nn.Module, plan: Plan, path: Path) -> str:
    """Write the state of `network`, which `plan` made, as safetensors, whole or not at all; the file's SHA-256.

    Errors: `StudyError`.
    """
    content = save(state_tensors(network)[0], {PLAN: plan.to_json()})
    with replacing(path, "the trained weights", make_folder=True) as partial:
        partial.write_bytes(content)
    return hashlib.sha256(content).hexdigest()


def read_plan(path: Path, sha256: str) -> Plan | None:
    """What the network whose weights `write_weights` wrote was built from; None in a file of an earlier version, which
    has the plan of its Point. Errors: `StudyError`."""
    _content(path, sha256)
    with _understood(path), safe_open(path, "pt") as file:
        metadata = file.metadata() or {}
        return Plan.from_json(metadata[PLAN]) if PLAN in metadata else None


def read_weights(network: nn.Module, path: Path, sha256: str) -> None:
    """Load what `write_weights` wrote into a network of the same structure. Errors: `StudyError`."""
    content, aliases = _content(path, sha256), state_tensors(network)[1]
    with _understood(path):
        tensors = load(content)
        network.load_state_dict({**tensors, **{key: tensors[kept] for key, kept in aliases.items()}})


@contextmanager
def _understood(path: Path) -> Iterator[None]:
    """Say of a recorded file that is not what it should be that it is not: it may be somebody else's."""
    try:
        yield
    except (SafetensorError, ValueError, KeyError, TypeError, AttributeError, RuntimeError) as error:
        raise StudyError(
            f"the trained weights {path} are not those of this network: {in_a_line(error)}. Put the "
            f"right file and record back, or remove the study"
        ) from error


def _content(path: Path, sha256: str) -> bytes:
    """The bytes of a file of weights, if they are those that were recorded."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise StudyError(f"the trained weights {path} cannot be read: {error.strerror}. Put the file back") from error
    if hashlib.sha256(content).hexdigest() != sha256:
        raise StudyError(f"the trained weights {path} are not those that were recorded. Put the file back as it was")
    return content

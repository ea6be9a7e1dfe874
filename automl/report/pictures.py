"""Pictures of a study: where they lie, and how they go on record."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from automl.errors import ExportError
from automl.store import Store, StudyRecord
from automl.util.file_names import file_name
from search_spaces import Knob

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def picture_path(store: Store, study: StudyRecord, kind: str) -> Path:
    """Where it goes: beside the database file, or to the working directory for a database server."""
    beside = Path(store.name).parent if store.url.startswith("sqlite") else Path.cwd()
    return beside / f"{file_name(study.name)}-{kind}.png"


def fraction_kept(knobs: Sequence[Knob], compared: str) -> str:
    """What the axis of `Knob.keep` is called: of what, if all knobs are of one unit. `compared`: what the study's first
    network is called; where that is no original, nothing is kept of it."""
    if compared != "original":
        return "part of the most that there may be"
    units = {knob.unit for knob in knobs}
    return f"fraction of {units.pop()} kept" if len(units) == 1 else "fraction kept, of the original"


def knob_title(knob: Knob) -> str:
    """What stands at a knob's place: its name, and what its levels are fractions of."""
    return f"{knob.name} (choice of {len(knob.levels)})" if knob.kind == "choice" else f"{knob.name} ({knob.size})"


def record_picture(store: Store, study: StudyRecord, trial_id: int | None, path: Path, figure: Figure) -> None:
    """Write `figure` to `path` and record the file, unless it is on record as it is. Errors: `ExportError`."""
    try:
        figure.savefig(path, dpi=120)
    except OSError as error:
        raise ExportError(f"cannot write the picture {path}: {error.strerror}. Make its folder writable") from error
    except ValueError as error:  # an ending that names no format
        raise ExportError(f"cannot write the picture {path}: {error}. Name it .png") from error
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    known = {(artifact.path, artifact.sha256) for artifact in store.artifacts(study.id)}
    if (str(path), digest) not in known:
        store.add_artifact(study.id, trial_id, "picture", path, digest)

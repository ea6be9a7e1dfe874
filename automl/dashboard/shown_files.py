"""The files that a study shows in the dashboard: its report and its picture, made when they are asked for.

Optuna's tables only say that there is a file of a name; what it holds is made from the record, so that it is never old,
nothing more is written to a disk, and no path that stands in a database is ever opened.
"""

from __future__ import annotations

import io
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from automl.report.html.report_page import report_page
from automl.store import Store, StoreError, open_store

if TYPE_CHECKING:
    import optuna


def _page(store: Store, name: str) -> bytes:
    return report_page(store, name).encode()


def _curves(store: Store, name: str) -> bytes:
    from automl.report.curves import Search, picture  # loads torch

    made = io.BytesIO()
    picture(Search.read(store, store.study(name))).savefig(made, dpi=100, format="png")
    return made.getvalue()


MADE: Mapping[str, Callable[[Store, str], bytes]] = {"report.html": _page, "curves.png": _curves}
"""File -> how it is made of a study."""


class ShownFiles:
    """What Optuna calls an artifact store: an id for each file of each study, and what the file holds now."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._files: dict[str, tuple[str, str]] = {}  # id -> study and file

    def offer(self, name: str, shown: optuna.Study) -> None:
        """Have Optuna's study `shown` name the files of the study `name`, those that it does not name yet."""
        from optuna.artifacts import get_all_artifact_meta, upload_artifact

        there = {meta.filename: meta.artifact_id for meta in get_all_artifact_meta(shown)}
        with tempfile.TemporaryDirectory() as folder:
            for file in MADE:
                if file not in there:
                    empty = Path(folder) / file
                    empty.touch()
                    there[file] = upload_artifact(artifact_store=self, file_path=str(empty), study_or_trial=shown)
                self._files[there[file]] = (name, file)

    def open_reader(self, artifact_id: str) -> BinaryIO:
        """The file as it is now. `ArtifactNotFound` for an id that this server has not given out."""
        from optuna.artifacts.exceptions import ArtifactNotFound

        if artifact_id not in self._files:
            raise ArtifactNotFound("this file is none of the report's")
        name, file = self._files[artifact_id]
        try:
            with open_store(self._url, create=False) as store:
                return io.BytesIO(MADE[file](store, name))
        except (StoreError, ValueError) as error:  # nothing to draw yet, or the study is gone
            raise ArtifactNotFound(str(error)) from error

    def write(self, artifact_id: str, content_body: BinaryIO) -> None:
        """Nothing: files are made when they are asked for."""

    def remove(self, artifact_id: str) -> None:
        """Forget the file."""
        self._files.pop(artifact_id, None)

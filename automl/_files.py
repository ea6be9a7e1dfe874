"""Files that are whole at any moment."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from automl.errors import StudyError


@contextmanager
def replacing(path: Path, what: str) -> Iterator[BinaryIO]:
    """A file beside `path`, to be written in the block and moved there after it: a kill leaves the old file or the new.

    `what` it is, for the `StudyError` that it is if it cannot be written.
    """
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with partial.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except OSError as error:
        raise StudyError(f"cannot write {what} {path}: {error}. Make room, or its folder writable") from error
    finally:
        partial.unlink(missing_ok=True)

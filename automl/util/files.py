"""Files that are whole at any moment."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from automl.errors import AutomlError, StudyError


@contextmanager
def replacing(path: Path, what: str, failure: type[AutomlError] = StudyError) -> Iterator[Path]:
    """The name of a file beside `path`, to be written in the block and moved there after it, once it is on the disk: a
    kill leaves the old file or the new.

    `what` it is, for the `failure` that it is if it cannot be written.
    """
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
    try:
        yield partial
        with partial.open("rb") as written:
            os.fsync(written.fileno())
        partial.replace(path)
    except OSError as error:
        raise failure(f"cannot write {what} {path}: {error}. Make room, or its folder writable") from error
    finally:
        partial.unlink(missing_ok=True)

"""What a function of the user's may not do: end the program that called it."""

from __future__ import annotations

import contextlib
import traceback
from collections.abc import Iterator

from automl.errors import StudyError


@contextlib.contextmanager
def no_exit() -> Iterator[None]:
    """A block in which a call of `exit` becomes a `StudyError`: a study would end half-way, as if all were well."""
    try:
        yield
    except SystemExit as error:
        frames = [f for f in traceback.extract_tb(error.__traceback__) if not f.filename.endswith("_sitebuiltins.py")]
        place = f"{frames[-1].name} ({frames[-1].filename}, line {frames[-1].lineno})"
        raise StudyError(
            f"a function that the study calls ends the program: {place} exits with {error.code!r}. Raise an error "
            f"there, and run the study again"
        ) from error

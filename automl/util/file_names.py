"""Names that become names of files: what they may be, and the files they lead to."""

from __future__ import annotations

import re
from pathlib import Path

from automl.errors import AutomlError, StudyError

LONGEST = 200
_NAME = re.compile(r"\w([\w.+=,@% -]*[\w.+=,@%-])?")


def file_name(name: object, failure: type[AutomlError] = StudyError) -> str:
    """The name of a study as a file may have it, which is the name itself; a `failure` unless it may be one.

    Every study's name is checked by this, wherever it comes from, and every path with such a name in it is made by
    this. So no name leads out of its folder, is taken for an option, or writes to a terminal.
    """
    if not isinstance(name, str) or len(name) > LONGEST or not _NAME.fullmatch(name):
        raise failure(
            f"a study's name has 1 to {LONGEST} letters, digits, spaces and `._-+=,@%`, the first a letter, a digit or "
            f"`_`, got {name!r:.80}. Give it another name"
        )
    return name


def file_within(folder: Path, name: object, what: str, failure: type[AutomlError] = StudyError) -> Path:
    """The file called `name` in `folder` itself; a `failure` about `what` unless it is there, a plain file and no link.

    For names that come from a file of somebody else's.
    """
    if not isinstance(name, str) or name in ("", ".", "..") or "\0" in name or Path(name).name != name:
        raise failure(f"expected {what} to be a file in {folder}, got {name!r:.80}: its name may not lead elsewhere")
    path = folder / name
    if path.is_symlink() or not path.is_file():
        raise failure(f"{what} {path} cannot be read: it is missing, or no plain file. Put the file back")
    return path

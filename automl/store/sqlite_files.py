"""An SQLite file: found or made, a copy of it in use, and what is done when it is deleted or replaced under its user.

A deleted file lives on for as long as a process has it open. SQLite writes to it without a word, and all of it is gone
when that process ends.
"""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing, suppress
from pathlib import Path

import sqlalchemy as sa

from automl.store.errors import StoreError
from automl.util.files import make_private, replacing

Identity = tuple[int, int] | None
"""Which file a path leads to; None if to none."""


def found(url: sa.URL, create: bool) -> sa.URL:
    """The URL of an SQLite file that is there, or that `create` lets be made, by its owner alone to be read.

    `StoreError` says clearly what SQLite only calls "unable to open database file".
    """
    assert url.database is not None
    if url.database.startswith("file:"):  # SQLite's own form of a name, with its modes
        return url if create or "mode" in url.query else url.update_query_dict({"mode": "rw"})
    path = Path(url.database)
    if path.is_dir():
        raise StoreError(f"{path} is a folder, expected a database file. Name one with --storage, e.g. {path}/study.db")
    if not path.parent.is_dir():
        raise StoreError(f"the folder {path.parent} of the database does not exist. Create it, or correct --storage")
    if not create and not path.exists():
        raise StoreError(f"there is no database {path}. Name the right one with --storage, or run `automl search`")
    with suppress(OSError):  # it is there, or SQLite will say what is wrong; its log gets the mode of the file
        make_private(path)
    return url


def identity(path: Path) -> Identity:
    """Device and inode of the file at `path`."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def copy(connection: sqlite3.Connection, to: Path, what: str) -> None:
    """One state of the database of `connection`, which is in no transaction, as a file that a store can be opened on.

    `what` it is, for the `StoreError` that it is if it cannot be written.
    """
    with replacing(to, what, StoreError) as partial:
        try:
            connection.execute("VACUUM INTO ?", (str(partial),))
            with closing(sqlite3.connect(partial)) as made:
                made.execute("PRAGMA journal_mode=WAL")
                made.execute("SELECT version FROM automl_schema")  # all was lost if it has no tables
        except sqlite3.Error as error:
            raise StoreError(f"cannot write {what} {to}: {error}. Name a file on a disk that has room") from error


def gone(path: Path, held: sqlite3.Connection | None) -> StoreError:
    """The error that the database of `path` has been deleted, moved or replaced since it was opened.

    `held`: a connection to what it was, outside a transaction; it is copied to a file beside `path`. Where only the
    database was replaced and not the files of its log, they may have lost its latest records.
    """
    happened = f"{path} was deleted, moved or replaced while it was in use, and nothing more is recorded"
    if held is None:
        return StoreError(f"{happened}. Put the file back, and start again")
    rescued = path.with_name(f"{path.name}.rescued-{os.getpid()}")
    if not rescued.exists():
        try:
            copy(held, rescued, "what it held to")
        except StoreError as error:
            return StoreError(f"{happened}. {error}. Put the file back from a copy, and go on with `automl resume`")
    return StoreError(f"{happened}. What it held is in {rescued}: move that to {path}, and go on with `automl resume`")

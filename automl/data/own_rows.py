"""Rows of a table and signals of the user's own, by what a study says of its data."""

from __future__ import annotations

from pathlib import Path

from automl.data.held_rows import OwnRows
from automl.data.own_images import ARRAYS, TABLE
from automl.data.row_arrays import read_rows
from automl.data.table_file import read_table
from automl.errors import DataError


def rows_of(name: str, root: str | None, target: str | None, task: str | None, split_seed: int) -> OwnRows | None:
    """The samples that data of this name have in the file `root`; None: they are images. Errors: `DataError`."""
    if name not in (ARRAYS, TABLE):
        return None
    if root is None:
        raise DataError(f"data {name!r} need a root: the {'.npz' if name == ARRAYS else 'CSV'} file")
    path = Path(root).expanduser()
    if not path.is_file():
        raise DataError(f"there is no file at {path}: name the {'.npz' if name == ARRAYS else 'CSV'} file")
    if name == ARRAYS:
        return read_rows(path, task)
    assert target is not None
    return read_table(path, target, task, split_seed)

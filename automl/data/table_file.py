"""A table of the user's own: a CSV file, one row a sample, one column of which is to be predicted.

Networks read numbers, so that a column of texts is read as one column a text, 1 where it stands and 0 elsewhere, if
there are few. What is missing is an error: what to put there is for those to say who know why it is missing.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from automl.data.held_rows import OwnRows, Rows, with_test
from automl.errors import DataError
from automl.util.names import nearest

if TYPE_CHECKING:
    import pandas as pd


MOST_TEXTS = 20
"""How many different texts a column may have to become columns of numbers."""
MOST_CLASSES = 20
"""Up to so many different whole numbers to be predicted are taken for classes, unless the task is named."""
MISSING = ["", "?", "NA", "N/A", "n/a", "NaN", "nan", "NULL", "null"]
"""What stands where a value is missing. `None` is a text: it says that there is no pool, rather than nothing of it."""
FEWEST = 12
"""Rows, of which a sixth is held out to judge networks by, and a sixth for the end."""


def read_table(path: Path, target: str, task: str | None, split_seed: int) -> OwnRows:
    """The rows of the CSV file at `path`, `target` the column to predict; a sixth of them is held out for the end.

    `task` None: classes if the column has texts, or few whole numbers; numbers otherwise. Errors: `DataError`.
    """
    table = _read(path)
    if target not in table.columns:
        raise DataError(f"{path} has no column {target!r} to predict{nearest(target, list(table.columns))}")
    _require_complete(path, table)
    if len(table) < FEWEST:
        raise DataError(f"{path} has {len(table)} rows, expected {FEWEST} or more to learn from and to judge by")
    x, inputs = _inputs(path, table.drop(columns=target))
    column = table[target]
    named: dict[str, Any] = {"inputs": inputs, "target": target}
    if task == "regression" or (task is None and not _are_classes(column)):
        if not _is_numeric(column):
            raise DataError(
                f"{path}: column {target!r} has texts, which are classes and no numbers: set the other task"
            )
        y = torch.from_numpy(column.to_numpy(np.float32)[:, None])
        classes = None
    else:
        kinds = np.unique(column.astype(str) if not _is_numeric(column) else column.to_numpy())
        y = torch.from_numpy(np.searchsorted(kinds, column.astype(kinds.dtype).to_numpy()).astype(np.int64))
        classes = len(kinds)
        named["classes"] = [kind.item() if hasattr(kind, "item") else str(kind) for kind in kinds]
    train, test = with_test(Rows(torch.from_numpy(x), y), split_seed)
    return OwnRows(train, test, classes, named)


def columns_of(path: Path) -> str:
    """The names of the columns of the file at `path`, for people. Errors: `DataError`."""
    return "one of " + ", ".join(map(repr, _read(path).columns))


def _read(path: Path) -> pd.DataFrame:
    import pandas as pd  # takes a second to load

    try:
        table = pd.read_csv(
            path,
            sep="\t" if ".tsv" in path.name else ",",
            skipinitialspace=True,
            keep_default_na=False,
            na_values=MISSING,
        )
    except (OSError, ValueError, UnicodeDecodeError) as error:  # the errors of pandas are ValueErrors
        raise DataError(
            f"{path} cannot be read as a table: {error}. Write one with commas and a line of names"
        ) from error
    table.columns = [str(name) for name in table.columns]
    if len(table.columns) < 2 or not len(table):
        raise DataError(
            f"{path} must have a line of names, two columns or more with commas between, and rows, got "
            f"{len(table.columns)} columns and {len(table)} rows"
        )
    return table


def _require_complete(path: Path, table: pd.DataFrame) -> None:
    missing = table.isna().sum()
    if missing.any():
        found = [f"{name} ({count} of {len(table)} rows)" for name, count in missing.items() if count]
        raise DataError(
            f"{path} lacks values in {', '.join(found[:5])}{', ...' if len(found) > 5 else ''}: fill them in, with the "
            f"column's mean or what the lack of a value means, or drop those rows or columns"
        )


def _inputs(path: Path, table: pd.DataFrame) -> tuple[np.ndarray, list[dict[str, str]]]:
    """The inputs, float32 [n, columns], and what each column is: the file's column, and the text that it stands for."""
    columns, names = [], []
    for name, column in table.items():
        if _is_numeric(column):
            columns.append(_float32(column))
            names.append({"column": str(name)})
            continue
        texts = sorted(column.astype(str).unique())
        if len(texts) > MOST_TEXTS:
            raise DataError(
                f"{path}: column {name!r} has {len(texts)} different texts, such as {texts[0]!r}, and at most "
                f"{MOST_TEXTS} become columns of numbers: drop it, or write what matters of it as numbers"
            )
        for text in texts:
            columns.append((column.astype(str) == text).to_numpy(np.float32))
            names.append({"column": str(name), "is": text})
    x = np.stack(columns, axis=1)
    if not np.isfinite(x).all():
        worst = names[int(np.flatnonzero(~np.isfinite(x).all(axis=0))[0])]["column"]
        raise DataError(f"{path}: column {worst!r} has numbers that are not finite in float32: mend or drop them")
    return x, names


def _float32(column: pd.Series) -> np.ndarray:
    with np.errstate(over="ignore"):  # infinity is refused
        values: np.ndarray = column.to_numpy(np.float32)
        return values


def _are_classes(column: pd.Series) -> bool:
    """Whether a column to predict looks like classes."""
    if not _is_numeric(column) or column.dtype.kind == "b":
        return True
    whole = bool((column == column.round()).all())
    return whole and column.nunique() <= MOST_CLASSES


def _is_numeric(column: pd.Series) -> bool:
    return column.dtype.kind in "biuf"

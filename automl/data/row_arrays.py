"""Tables and signals in an .npz file: `x` [n, columns] or [n, channels, length], and `y`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch

from automl.data.held_rows import OwnRows, Rows
from automl.data.own_images import NAMES, open_arrays, require_pair
from automl.errors import DataError


def read_rows(path: Path, task: str | None = None) -> OwnRows | None:
    """The samples of the file at `path`, with those held out for the end if it has any; None: it holds images.

    Images are uint8 of three dimensions, or have four. `task`: with `regression` whole numbers are numbers, not
    classes. Errors: `DataError`.
    """
    arrays = open_arrays(path)
    x_name, _ = require_pair(path, arrays)
    if arrays[x_name].ndim > 3 or (arrays[x_name].ndim == 3 and arrays[x_name].dtype == np.uint8):
        return None
    train = _rows(path, arrays, "train", task)
    assert train is not None
    test = _rows(path, arrays, "test", task)
    if test is not None and (test.x.shape[1:] != train.x.shape[1:] or test.y.shape[1:] != train.y.shape[1:]):
        raise DataError(
            f"{path}: test samples of {list(test.x.shape[1:])} with targets of {list(test.y.shape[1:])} are not like "
            f"those of training, {list(train.x.shape[1:])} and {list(train.y.shape[1:])}"
        )
    if train.y.is_floating_point():
        return OwnRows(train, test)
    return OwnRows(train, test, 1 + int(max(rows.y.max() for rows in (train, test) if rows is not None)))


def _rows(path: Path, arrays: Mapping[str, np.ndarray], split: str, task: str | None) -> Rows | None:
    names = next((pair for pair in NAMES[split] if set(pair) <= arrays.keys()), None)
    if names is None:
        return None
    (x_name, y_name), (x, y) = names, (arrays[name] for name in names)
    if x.ndim not in (2, 3) or x.dtype.kind not in "biuf" or not len(x) or not x.size:
        raise DataError(
            f"{path}: {x_name} must be numbers [n, columns] of a table, [n, channels, length] of signals, or uint8 "
            f"images, got {x.dtype} {list(x.shape)}"
        )
    if not np.isfinite(x).all():
        raise DataError(f"{path}: {x_name} has NaN or infinity: fill them in, or drop those samples")
    whole = y.dtype.kind in "biu" and y.ndim == 1 and task != "regression"
    if len(y) != len(x) or y.ndim not in (1, 2) or y.dtype.kind not in "biuf" or (whole and y.min() < 0):
        raise DataError(
            f"{path}: {y_name} must be one whole number from 0 for each of {len(x)} samples, its class, or numbers in "
            f"floating point, [n] or [n, how many], got {y.dtype} {list(y.shape)}"
        )
    if not np.isfinite(y).all():
        raise DataError(f"{path}: {y_name} has NaN or infinity: drop those samples")
    targets = torch.from_numpy(y.astype(np.int64) if whole else y.astype(np.float32).reshape(len(y), -1))
    return Rows(torch.from_numpy(x.astype(np.float32)), targets)

"""An exported folder as data of somebody's: its files, checked, and inputs of the shapes that its networks take."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from automl.errors import BackendError
from automl.util.file_names import file_within

LONGEST = 2**26
"""How many bytes a manifest may have."""
MOST_BYTES = 2**32
"""What the inputs of a pass may take."""
DTYPES = ("float32", "int64", "int32", "int16", "int8", "uint8", "bool")


@dataclass(frozen=True)
class Exported:
    """A folder that `automl.export.export` wrote."""

    folder: Path

    @cached_property
    def manifest(self) -> dict[str, Any]:
        """What the export says of itself. Errors: `BackendError`."""
        path = self.folder / "manifest.json"
        try:
            if path.stat().st_size > LONGEST:
                raise ValueError(f"it has more than {LONGEST:,} bytes")
            manifest = json.loads(path.read_text(encoding="utf-8"))
            if not isinstance(manifest, dict) or not isinstance(manifest["files"], dict):
                raise ValueError("it names no files")
        except (OSError, ValueError, KeyError, RecursionError) as error:
            raise BackendError(f"{path} is not the manifest of an export: {error}. Export a study first") from error
        return manifest

    def entry(self, format: str, original: bool = False) -> Mapping[str, Any] | None:
        """What the manifest says of the file in this format, of the network or the original, if there is one."""
        entries = self.manifest.get("original" if original else "files")
        entry = entries.get(format) if isinstance(entries, dict) else None
        return entry if isinstance(entry, dict) else None

    def file(self, format: str, original: bool = False) -> Path:
        """The file in this format, which is the one described. Errors: `BackendError`."""
        entry = self.entry(format, original)
        if entry is None:
            raise BackendError(f"{self.folder} holds no file of the format {format}: export again with that format")
        path = self._checked(entry.get("file"), entry.get("sha256"))
        beside = entry.get("beside", {})
        for name, digest in beside.items() if isinstance(beside, dict) else [(beside, None)]:
            self._checked(name, digest)
        return path

    def _checked(self, name: object, digest: object) -> Path:
        """The file of this name, which has this checksum. Errors: `BackendError`."""
        path = file_within(self.folder, name, "the network", BackendError)
        with path.open("rb") as file:
            if hashlib.file_digest(file, "sha256").hexdigest() != digest:
                raise BackendError(f"{path} is not the file the manifest describes: export again")
        return path

    def inputs(self, batch: int | None) -> list[np.ndarray]:
        """Made-up inputs with `batch` samples, [batch, ...] each; None: of the shapes that were exported.

        With those of the export's shapes the outputs are those that the manifest has the first values of.
        """
        try:
            told = [(one["shape"], one["dtype"], one["example"]) for one in self.manifest["inputs"]]
            return [_made_up(_shape(shape, example, batch), dtype) for shape, dtype, example in told]
        except (KeyError, TypeError, ValueError) as error:
            raise BackendError(
                f"{self.folder} does not say what its network takes: {error}. Export the study again"
            ) from error

    def difference(self, outputs: Sequence[np.ndarray]) -> float:
        """How far `outputs` for `inputs(None)` are from those recorded at the export, relative to the largest value."""
        worst = 0.0
        try:
            for found, values in zip(outputs, self.manifest["probe"], strict=True):
                recorded = np.array([math.nan if value is None else value for value in values], dtype=np.float64)
                first = found.reshape(-1)[: len(recorded)].astype(np.float64)
                known = np.isfinite(recorded)
                if first.shape != recorded.shape or not np.isfinite(first[known]).all():
                    return math.inf
                scale = np.abs(recorded[known]).max(initial=0.0)
                worst = max(worst, float(np.abs(first - recorded)[known].max(initial=0.0) / (scale or 1.0)))
        except (KeyError, TypeError, ValueError) as error:
            raise BackendError(f"{self.folder} has no outputs to compare with: {error}. Export again") from error
        return worst


def _shape(shape: Sequence[Any], example: Sequence[int], batch: int | None) -> tuple[int, ...]:
    sizes = [int(size) for size in example]
    if batch is not None and shape and shape[0] == "batch":
        sizes[0] = batch
    if min(sizes, default=1) < 0 or math.prod(sizes) * 8 > MOST_BYTES:
        raise ValueError(f"an input has the shape {sizes}")
    return tuple(sizes)


def _made_up(shape: tuple[int, ...], dtype: str) -> np.ndarray:
    """The same values as at the export: cosines, or zeros where whole numbers are wanted."""
    if dtype not in DTYPES:
        raise ValueError(f"an input has the type {dtype!r:.80}, expected one of {', '.join(DTYPES)}")
    if dtype != "float32":
        return np.zeros(shape, dtype)
    return np.cos(np.arange(math.prod(shape), dtype=np.float32)).reshape(shape)

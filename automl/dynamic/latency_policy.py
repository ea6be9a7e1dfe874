"""How long each size of a network takes on a backend, measured, and which to run where so many milliseconds are left.

Sizes are timed in turn (`automl.measures.backends.side_by_side`); one fits if the upper end of its 95 % interval does.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from automl.dynamic.multi_exit import MultiExit
from automl.dynamic.sized_folder import ONNX_FILE, choices, leaving_at, read_sizes
from automl.dynamic.slimmable import Slimmable
from automl.errors import BudgetError, ExportError
from automl.export.manifest import sha256
from automl.measures.backends.intervals import Estimate
from automl.measures.backends.onnx_runtime import session
from automl.measures.backends.side_by_side import Effort, Run, side_by_side
from automl.measures.latency import device_of
from automl.util.file_names import file_within
from automl.util.threads import pinned_threads


@dataclass(frozen=True)
class LatencyTable:
    """What each size takes on one backend and device."""

    times: Mapping[float, Estimate]
    """Width, or number of the exit from 0 -> milliseconds of a pass, ascending by size."""
    backend: str
    device: str

    @property
    def costs(self) -> tuple[float, ...]:
        """The upper ends of the intervals, in ms, never falling: of exits the costs that thresholds are set by."""
        highs = [one.high for one in self.times.values()]
        return tuple(float(x) for x in np.maximum.accumulate(highs))

    def choose(self, ms: float) -> float:
        """The largest size that takes at most `ms`; a `BudgetError` if none does."""
        fitting = [size for size, one in self.times.items() if one.high <= ms]
        if not fitting:
            least = min(one.high for one in self.times.values())
            raise BudgetError(
                f"no size takes at most {ms:g} ms on {self.backend} ({self.device}): the fastest takes {least:.3g} ms"
            )
        return max(fitting)

    def to_record(self) -> dict[str, Any]:
        """Plain data for JSON."""
        times = {f"{size:g}": one.to_record() for size, one in self.times.items()}
        return {"backend": self.backend, "device": self.device, "times": times}

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> LatencyTable:
        """The inverse of `to_record`."""
        times = {float(size): Estimate(**one) for size, one in record["times"].items()}
        return cls(times, record["backend"], record["device"])


def time_sizes(
    network: Slimmable | MultiExit, inputs: Sequence[Tensor], *, threads: int = 1, effort: Effort | None = None
) -> LatencyTable:
    """How long every width, or way to an exit with all heads before it, takes in eager PyTorch for `inputs`."""
    network.eval()
    runs: dict[float, Run] = {}
    if isinstance(network, Slimmable):
        # What is run again and again at one width keeps its weights, so it is timed as that.
        plain = {width: network.plain(width).eval() for width in network.widths}
        runs = {width: partial(one, *inputs) for width, one in plain.items()}
    else:
        runs = {k: partial(network.early, leaving_at(k, network.exits), *inputs) for k in range(network.exits)}
    with torch.inference_mode(), pinned_threads(threads):
        return _timed(runs, "eager", threads, effort)


def time_folder(
    out: str | Path, inputs: Sequence[Tensor], *, threads: int = 1, effort: Effort | None = None
) -> LatencyTable:
    """The same of the ONNX file in a folder, by ONNX Runtime. A file that is not the one described: `ExportError`."""
    asked = choices(read_sizes(out))
    opened = open_sizes(out, threads)
    names = [one.name for one in opened.get_inputs()]
    runs = {}
    for size, value in asked.items():
        given = [*(x.numpy() for x in inputs), np.array(value, dtype=np.float32)]
        runs[size] = partial(opened.run, None, dict(zip(names, given, strict=True)))
    return _timed(runs, "onnxruntime", threads, effort)


def open_sizes(out: str | Path, threads: int = 1) -> Any:
    """A session of ONNX Runtime for the file of all sizes in a folder. Errors: `ExportError`."""
    out = Path(out)
    entry = read_sizes(out).get("onnx")
    if not isinstance(entry, dict):
        raise ExportError(f"{out} holds no {ONNX_FILE}: write the folder again, with `onnx=True`")
    path = file_within(out, entry.get("file"), "the network", ExportError)
    if sha256(path) != entry.get("sha256"):
        raise ExportError(f"{path} is not the file the manifest describes: write the folder again")
    return session(str(path), threads)


def _timed(runs: Mapping[float, Run], backend: str, threads: int, effort: Effort | None) -> LatencyTable:
    """Each run, in turn. ONNX Runtime's own threads are not the one that calls it, so several take the time that
    passes."""
    clock = time.thread_time if threads == 1 else time.perf_counter
    compared = side_by_side({f"{size:g}": run for size, run in runs.items()}, effort, clock)
    times = {float(size): compared.latency_ms(f"{size:g}") for size in sorted(runs)}
    return LatencyTable(times, backend, device_of(threads))

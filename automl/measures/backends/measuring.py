"""An exported network measured on a backend: in several fresh processes, each beside the original."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from automl.errors import BackendError, in_a_line
from automl.measures.backends.base import Backend, Network
from automl.measures.backends.device import identity, versions
from automl.measures.backends.exported import Exported
from automl.measures.backends.intervals import estimated, pooled, quantiles
from automl.measures.backends.process_memory import with_peak
from automl.measures.backends.registry import backend_of, backends
from automl.measures.backends.side_by_side import Comparison, Run, side_by_side

VERSION = 1
NETWORK, ORIGINAL = "network", "original"
NOISY = 0.03
"""An interval wider than this part of its value is told of: another measurement may differ by as much."""
STUDY_KEYS = ("study", "agent", "seed", "trial")
"""What of the manifest says which trial was measured."""


@dataclass(frozen=True)
class Conditions:
    """On what, and with how much of it, a network is measured."""

    backend: str
    batch: int = 1
    threads: int = 1
    processes: int = 3

    def __post_init__(self) -> None:
        for name in ("batch", "threads", "processes"):
            if getattr(self, name) < 1:
                raise BackendError(f"{name} must be at least 1, got {getattr(self, name)}")


def measured(program: Path, folder: Path, conditions: Conditions) -> dict[str, Any]:
    """The record of one measurement. `program`: what is run anew for each process, `measure.pyz`."""
    exported, backend = Exported(folder), backend_of(conditions.backend)
    backend.require()
    files = {NETWORK: exported.file(backend.format)}
    reference = backend_of(backend.reference or backend.name)
    if exported.entry(reference.format, original=True) is not None:
        files[ORIGINAL] = exported.file(reference.format, original=True)
    told = [_in_a_process(program, folder, conditions) for _ in range(conditions.processes)]
    rounds = [{name: np.array(times) for name, times in one["rounds_ms"].items()} for one in told]
    latency = {name: pooled([estimated(one[name]) for one in rounds]) for name in files}
    ratio = None
    if ORIGINAL in files:
        ratio = pooled([Comparison(one).ratio(NETWORK) for one in rounds])
    judged = ratio or latency[NETWORK]
    return {
        "version": VERSION,
        **{key: exported.manifest.get(key) for key in STUDY_KEYS},
        **asdict(conditions),
        "device": identity(),
        "versions": versions("numpy", backend.package),
        "files": {name: _described(exported, path) for name, path in files.items()},
        "latency_ms": {name: one.to_record() for name, one in latency.items()},
        "ratio": ratio.to_record() if ratio else None,
        "quantiles_ms": {name: quantiles(np.concatenate([one[name] for one in rounds])) for name in files},
        "peak_memory_bytes": {name: _median([one["peak_memory_bytes"][name] for one in told]) for name in files},
        "difference": max(one["difference"] for one in told),
        "repeated_blocks": sum(one["thrown_away"] for one in told),
        "noise": _noise((judged.high - judged.low) / judged.value, [Comparison(one) for one in rounds]),
    }


def measure_once(folder: Path, conditions: Conditions) -> dict[str, Any]:
    """What one process measures: load the files, compare the outputs, run in turn. Errors: `BackendError`."""
    exported, backend = Exported(folder), backend_of(conditions.backend)
    reference = backend_of(backend.reference or backend.name)
    loading: dict[str, Callable[[], Network]] = {}
    if exported.entry(reference.format, original=True) is not None:
        loading[ORIGINAL] = partial(reference.loaded, exported.file(reference.format, True), conditions.threads)
    loading[NETWORK] = partial(backend.loaded, exported.file(backend.format), conditions.threads)
    difference = _compared(exported, backend, loading[NETWORK]())
    inputs = exported.inputs(conditions.batch)
    runs: dict[str, Run] = {}
    peaks: dict[str, int | None] = {}
    for name, load in loading.items():
        runs[name], peaks[name] = with_peak(partial(_ready, load, inputs))
    # A process of which nothing else is wanted: its time is that of the thread, whichever a library computes in.
    comparison = side_by_side(runs, clock=time.process_time if conditions.threads == 1 else time.perf_counter)
    return {
        "rounds_ms": {name: times.tolist() for name, times in comparison.rounds_ms.items()},
        "thrown_away": comparison.thrown_away,
        "peak_memory_bytes": peaks,
        "difference": difference,
    }


def available(folder: Path) -> list[str]:
    """The backends that are installed here and whose files are in `folder`. Errors: `BackendError` if none is."""
    exported = Exported(folder)
    found = [one.name for one in backends() if exported.entry(one.format) is not None and _installed(one)]
    if not found:
        raise BackendError(
            f"no backend that is installed here runs what is in {folder}: python -m pip install onnxruntime, and "
            f"export with format onnx"
        )
    return [name for name in found if name != "compile"]  # which takes a minute, and is measured where it is named


def _installed(backend: Backend) -> bool:
    try:
        backend.require()
    except BackendError:
        return False
    return True


def _ready(load: Callable[[], Network], inputs: list[np.ndarray]) -> Run:
    """A network that has run once on `inputs`."""
    network = load()
    network(inputs)
    return partial(network, inputs)


def _compared(exported: Exported, backend: Backend, network: Network) -> float:
    """How far the file's outputs are from those of the export. `BackendError` if that is too far."""
    entry = exported.entry(backend.format) or {}
    difference = exported.difference(network(exported.inputs(None)))
    told = (entry.get(key) or 0.0 for key in ("probe_difference", "rounding"))
    allowed = backend.tolerance + sum(map(float, told))
    if not difference <= allowed:
        raise BackendError(
            f"{entry.get('file')} does not compute on {backend.name} what was exported: the largest difference is "
            f"{difference:.3g} of the largest output, allowed is {allowed:.3g}. Choose another backend or format"
        )
    return difference


def _in_a_process(program: Path, folder: Path, conditions: Conditions) -> dict[str, Any]:
    """What `measure_once` gives in a process of its own. Errors: `BackendError`."""
    command = [sys.executable, str(program), str(folder), "--once", json.dumps(asdict(conditions))]
    # Read when the libraries of threads are loaded, before anybody can set it.
    environment = {**os.environ, "OMP_NUM_THREADS": str(conditions.threads)}
    ran = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    try:
        told: dict[str, Any] = json.loads(ran.stdout.splitlines()[-1])
    except (IndexError, ValueError) as error:
        raise BackendError(
            f"measuring on {conditions.backend} failed: {in_a_line(Exception(ran.stderr[-300:]))}. Try another backend"
        ) from error
    if "error" in told:
        raise BackendError(told["error"])
    return told


def _described(exported: Exported, path: Path) -> dict[str, Any]:
    entries = [*exported.manifest["files"].values(), *exported.manifest.get("original", {}).values()]
    (entry,) = (one for one in entries if one["file"] == path.name)
    return {key: entry[key] for key in ("file", "sha256", "bytes")}


def _median(values: list[int | None]) -> int | None:
    known = [value for value in values if value is not None]
    return int(np.median(known)) if known else None


def _noise(width: float, comparisons: list[Comparison]) -> str | None:
    """Why not to trust the figures, or None."""
    if width > NOISY:
        return (
            f"the machine is noisy: the 95 % interval is {width:.1%} of the value wide, where {NOISY:.0%} is wanted. "
            f"Measure again on an idle machine"
        )
    return next((one.unsteady for one in comparisons if one.unsteady), None)


def in_words(record: Mapping[str, Any]) -> str:
    """One line of a record for people."""
    latency = record["latency_ms"][NETWORK]
    text = f"{record['backend']}, batch {record['batch']}, {record['threads']} thread(s): {latency['value']:.3g} ms"
    text += f" ({latency['low']:.3g} to {latency['high']:.3g})"
    if (ratio := record["ratio"]) is not None:
        text += f", {ratio['value']:.1%} of the original ({ratio['low']:.1%} to {ratio['high']:.1%})"
    peak = record["peak_memory_bytes"][NETWORK]
    return text + (f", {peak / 1e6:.1f} MB at its highest" if peak is not None else "")

"""Exported networks timed: a folder in fresh processes, or networks in memory by way of files of their own."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from automl.errors import ExportError
from automl.export.formats import format_of
from automl.export.subject import Subject
from automl.measures.alone import write_program
from automl.measures.backends.base import Backend
from automl.measures.backends.device import cpu_name, versions
from automl.measures.backends.measuring import Conditions, measured
from automl.measures.backends.registry import backend_of
from automl.measures.backends.side_by_side import Effort, Run, side_by_side
from automl.measures.latency import LatencyComparison


def measure_folder(folder: Path, conditions: Conditions) -> dict[str, Any]:
    """Measure an exported folder in fresh processes, by the program that goes with exports. Errors: `BackendError`."""
    with tempfile.TemporaryDirectory() as own:  # that of a folder from elsewhere is not run
        return measured(write_program(Path(own)), folder, conditions)


def device_of(record: Mapping[str, Any]) -> str:
    """What a measurement was taken on, as the database holds it."""
    where = _place(record["device"]["processor"], record["threads"], record["backend"], record["versions"])
    return f"{where}, batch {record['batch']}"


_BESIDES = ("python", "numpy")


def place(backend: str, threads: int) -> str:
    """This processor with so many threads, and the backend with the version that is installed."""
    return _place(cpu_name(), threads, backend, versions(backend_of(backend).package))


def _place(processor: str, threads: int, backend: str, libraries: Mapping[str, str]) -> str:
    """Processor, threads, backend and the library behind it."""
    library = ", ".join(f"{name} {version}" for name, version in libraries.items() if name not in _BESIDES)
    return f"{processor}, {threads} thread{'s' if threads > 1 else ''}, {backend} ({library})"


def by_a_file(backend: Backend, subject: Subject, threads: int) -> tuple[Run, Mapping[str, Any]]:
    """Write a network in the format of a backend and load it there; a pass on its inputs, run once, and what the format
    tells of the file. Errors: `BackendError`, `ExportError`."""
    backend.require()
    form = format_of(backend.format)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / form.file
        try:
            told = form.write(subject, path)
        except ExportError:
            raise
        except Exception as error:  # the exporters raise whatever they like
            raise ExportError(f"{backend.format} cannot hold this network: {error}") from error
        run = partial(backend.loaded(path, threads), [x.numpy() for x in subject.inputs])
        run()
    return run, told or {}


@dataclass
class ComparerOnBackend:
    """Times networks in memory on a backend: each is exported and loaded by it. The first is timed as it is in float.

    A network that comes again, as the original does, is exported once, and the scheme of 8-bit integers that is fastest
    for the first is that of all.
    """

    backend: str
    inputs: Sequence[Tensor]
    """Of one pass: [n, ...] each."""
    threads: int
    effort: Effort
    _loaded: dict[int, tuple[nn.Module, Run]] = field(default_factory=dict)
    _scheme: str | None = None

    def __call__(self, networks: Mapping[str, nn.Module]) -> LatencyComparison:
        """The comparison with the first of `networks`. Errors: `BackendError`, `ExportError`."""
        runs = {name: self._run(network, first=i == 0) for i, (name, network) in enumerate(networks.items())}
        clock = time.process_time if self.threads == 1 else time.perf_counter
        return LatencyComparison(side_by_side(runs, self.effort, clock), place(self.backend, self.threads))

    def _run(self, network: nn.Module, first: bool) -> Run:
        if first and id(network) in self._loaded:
            return self._loaded[id(network)][1]
        backend = backend_of(self.backend)
        if first and backend.reference:
            backend = backend_of(backend.reference)
        run, told = by_a_file(backend, Subject(network, self.inputs, scheme=self._scheme), self.threads)
        self._scheme = self._scheme or told.get("scheme")
        if first:
            self._loaded[id(network)] = network, run
        return run

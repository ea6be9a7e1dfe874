"""What a backend is: a library that loads an exported file and runs it."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from automl.errors import BackendError, in_a_line

Network = Callable[[Sequence[np.ndarray]], list[np.ndarray]]
"""A loaded network: inputs in the order of the manifest -> outputs, with the threads that it was loaded for."""


@dataclass(frozen=True)
class Backend:
    """A library, and how it is to compute."""

    name: str
    """As a budget names it."""
    format: str
    """The exported format that it loads."""
    package: str
    """The module that it needs."""
    load: Callable[[Path, int], Network]
    """File and threads -> the network; raises whatever the library raises."""
    reference: str = ""
    """The backend that runs the original beside it: the same library in float32, as the original is before anything is
    done to it. Empty: this one."""
    tolerance: float = 1e-3
    """How far outputs may be from those recorded at the export, relative to the largest; of integers, how much further
    than they were at the export."""

    def require(self) -> None:
        """Raise `BackendError` unless the library is installed."""
        if importlib.util.find_spec(self.package) is None:
            raise BackendError(
                f"the backend {self.name!r} needs the package {self.package}, which is not installed here. "
                f"Install it: python -m pip install {self.package}"
            )

    def loaded(self, path: Path, threads: int) -> Network:
        """The network in `path`, ready to run. Errors: `BackendError`."""
        self.require()
        try:
            return self.load(path, threads)
        except Exception as error:  # the libraries raise whatever they like
            raise BackendError(
                f"{self.name} cannot load {path}: {in_a_line(error)}. Export again, or measure on another backend"
            ) from error

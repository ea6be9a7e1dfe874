"""PyTorch's compiler on a `torch.export` file; it takes a C++ compiler, and a minute before the first pass."""

from __future__ import annotations

from pathlib import Path

from automl.measures.backends.base import Backend, Network
from automl.measures.backends.eager import program, running


def _load(path: Path, threads: int) -> Network:
    import torch

    return running(torch.compile(program(path, threads)))


COMPILE = Backend("compile", "pt2", "torch", _load)

"""PyTorch, operator by operator, from a `torch.export` file."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from automl.measures.backends.base import Backend, Network


def program(path: Path, threads: int) -> Any:
    """The module in a `torch.export` file. Threads of PyTorch belong to the whole process."""
    import torch

    torch.set_num_threads(threads)
    logging.disable(logging.WARNING)  # of operators of libraries not in use
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.export.load(path).module()


def running(module: Any) -> Network:
    """Call `module` with arrays."""
    import torch
    from torch.utils._pytree import tree_leaves

    def run(inputs: Sequence[np.ndarray]) -> list[np.ndarray]:
        with torch.inference_mode():
            return [out.numpy() for out in tree_leaves(module(*map(torch.from_numpy, inputs)))]

    return run


def _load(path: Path, threads: int) -> Network:
    return running(program(path, threads))


EAGER = Backend("eager", "pt2", "torch", _load)

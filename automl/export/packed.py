"""Packed files of networks: written, and read back with one clear error for a file that cannot be."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from safetensors import SafetensorError
from torch import Tensor, nn

from automl.errors import ExportError, in_a_line
from automl.measures.counts import state_tensors
from search_spaces.codecs import packing
from search_spaces.codecs.bitmask import stored


def pack(network: nn.Module) -> bytes:
    """The state dict of `network` as the content of a packed file; shared tensors stand in it once."""
    return packing.pack(state_tensors(network)[0])


def unpack(path: Path) -> dict[str, Tensor]:
    """The state dict in a safetensors file, packed or not; an `ExportError` for a file that cannot be read."""
    try:
        return packing.unpack(path)
    except (OSError, SafetensorError, KeyError, ValueError, TypeError, OverflowError, RuntimeError) as error:
        raise ExportError(f"cannot read the weights in {path}: {in_a_line(error)}. Export again") from error


def sparsity(network: nn.Module, names: Sequence[str]) -> dict[str, dict[str, float]]:
    """For each tensor of `names`: its weights, how many of them are zero, and the fraction that is."""
    out = {}
    for name in names:
        weight = network.get_parameter(name)
        zeros = weight.numel() - int(stored(weight).sum())
        out[name] = {"weights": weight.numel(), "zeros": zeros, "sparsity": zeros / weight.numel()}
    return out

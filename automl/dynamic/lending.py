"""Weights of a whole network lent to a narrow one for the length of a pass, so that both train the same numbers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

NORMS = (nn.modules.batchnorm._NormBase, nn.GroupNorm, nn.LayerNorm, nn.RMSNorm)
"""Layers that rescale what they read, each width by statistics of its own."""


@dataclass(frozen=True)
class Slice:
    """What a narrow network has of a parameter of the whole one."""

    name: str
    """The parameter's, in both networks."""
    along: tuple[int | Tensor | None, ...]
    """For each dimension the first so many entries, the entries at these indices, or all of them (None)."""

    def of(self, whole: Tensor) -> Tensor:
        """The slice of `whole`; gradients flow back into it. First entries are a view, others a copy."""
        for dim, part in enumerate(self.along):
            if isinstance(part, Tensor):
                whole = whole.index_select(dim, part.to(whole.device))
            elif part is not None:
                whole = whole.narrow(dim, 0, part)
        return whole

    def add_to(self, counts: Tensor) -> None:
        """Add 1 to every entry of `counts`, of the shape of the whole, that the slice has."""
        masks = [torch.zeros(size, dtype=torch.bool) for size in counts.shape]
        for mask, part in zip(masks, self.along, strict=True):
            mask[slice(None) if part is None else part if isinstance(part, Tensor) else slice(part)] = True
        grid = masks[0]
        for mask in masks[1:]:
            grid = grid[..., None] & mask
        counts += grid.to(counts)


def lendable(whole: nn.Module, narrow: nn.Module, kept: Mapping[str, Sequence[np.ndarray]], own: bool) -> list[Slice]:
    """Take from `narrow` each parameter that `whole` is to lend it; where the shapes are the same both get one object.

    Args:
        whole: the network that holds the weights.
        narrow: one with the same names, cut out of it; it cannot be run by itself any more.
        kept: parameter, under the first of its names -> what `narrow` keeps of it, indices along each dimension.
        own: whether norms keep parameters of their own.
    """
    first: dict[int, str] = {}
    for name, parameter in whole.named_parameters(remove_duplicate=False):
        first.setdefault(id(parameter), name)
    slices = []
    for path, module in narrow.named_modules():
        if own and isinstance(module, NORMS):
            continue
        for attribute in list(module._parameters):
            name = f"{path}.{attribute}" if path else attribute
            small = module._parameters[attribute]
            if small is None:
                continue
            parameter = whole.get_parameter(name)
            if small.shape == parameter.shape:
                module._parameters[attribute] = parameter
                continue
            del module._parameters[attribute]
            indices = kept[first[id(parameter)]]
            parts = zip(indices, parameter.shape, strict=True)
            slices.append(Slice(name, tuple(_part(index, size) for index, size in parts)))
    return slices


def _part(index: np.ndarray, size: int) -> int | Tensor | None:
    if len(index) == size:
        return None
    return len(index) if np.array_equal(index, np.arange(len(index))) else torch.from_numpy(index)


@contextmanager
def lent(slices: Sequence[Slice], whole: nn.Module, narrow: nn.Module) -> Iterator[nn.Module]:
    """`narrow` with its slices of the weights of `whole`, for the length of a block."""
    places = [
        (narrow.get_submodule(path), attribute) for path, _, attribute in (s.name.rpartition(".") for s in slices)
    ]
    try:
        for (module, attribute), one in zip(places, slices, strict=True):
            setattr(module, attribute, one.of(whole.get_parameter(one.name)))
        yield narrow
    finally:
        for module, attribute in places:
            module.__dict__.pop(attribute, None)


def filled(slices: Sequence[Slice], whole: nn.Module, narrow: nn.Module) -> None:
    """Give `narrow` copies of its slices to keep, so that it is a network by itself."""
    for one in slices:
        path, _, attribute = one.name.rpartition(".")
        parameter = whole.get_parameter(one.name)
        kept = nn.Parameter(one.of(parameter.detach()).clone(), parameter.requires_grad)
        narrow.get_submodule(path).register_parameter(attribute, kept)

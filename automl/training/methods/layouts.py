"""How a density of the whole network is shared out among its tensors, where no plan says it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import nn

from automl.errors import ConfigError


def uniform(shapes: Mapping[str, Sequence[int]], density: float) -> dict[str, int]:
    """Tensor -> how many of its weights remain where all have the same density, in (0, 1]."""
    _require_density(density)
    return {name: max(1, round(density * _size(shape))) for name, shape in shapes.items()}


def erdos_renyi_kernel(shapes: Mapping[str, Sequence[int]], density: float) -> dict[str, int]:
    """Tensor -> how many of its weights remain by the layout ERK, which keeps more of small tensors.

    Evci et al. 2020, "Rigging the lottery", arXiv 1911.11134, section 3: the density of a tensor is proportional to
    (n_in + n_out + height + width) / (n_in n_out height width). Tensors that would have a density above 1 stay whole,
    and the others share what is left. `density` of all together, in (0, 1].
    """
    _require_density(density)
    sizes = {name: _size(shape) for name, shape in shapes.items()}
    raw = {name: sum(shape) / sizes[name] for name, shape in shapes.items()}
    whole: set[str] = set()
    while True:
        left = density * sum(sizes.values()) - sum(sizes[name] for name in whole)
        others = [name for name in shapes if name not in whole]
        scale = left / sum(raw[name] * sizes[name] for name in others) if others else 0.0
        over = {name for name in others if scale * raw[name] > 1}
        if not over:
            break
        whole |= over
    return {name: size if name in whole else max(1, round(scale * raw[name] * size)) for name, size in sizes.items()}


def by_magnitude(network: nn.Module, names: Iterable[str], density: float) -> dict[str, int]:
    """Tensor -> how many of its weights are among the largest of all these tensors together: global magnitude."""
    _require_density(density)
    magnitudes = {name: network.get_parameter(name).detach().abs().flatten() for name in names}
    together = torch.cat(list(magnitudes.values()))
    kept = torch.zeros_like(together, dtype=torch.bool)
    kept[together.topk(max(1, round(density * len(together)))).indices] = True
    parts = kept.split([len(x) for x in magnitudes.values()])
    return {name: int(part.sum()) for name, part in zip(magnitudes, parts, strict=True)}


def _size(shape: Sequence[int]) -> int:
    return int(torch.Size(shape).numel())


def _require_density(density: float) -> None:
    if not 0 < density <= 1:
        raise ConfigError(f"density is the part of the weights that remain, above 0 and at most 1, got {density}")

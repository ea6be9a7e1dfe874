"""A convolution and the patches that it reads, correlated and about a mean, as those of real networks are."""

from __future__ import annotations

import torch
from torch import Tensor


def correlated_layer(made: int, read: int, height: int, width: int) -> tuple[Tensor, Tensor, Tensor]:
    """(weight [made, read, kh, kw], rows [n, features], importance [made]), float64; the same for a shape."""
    generator = torch.Generator().manual_seed(0)
    features = read * height * width
    rows = torch.randn(400, 8, generator=generator, dtype=torch.float64)
    rows = rows @ torch.randn(8, features, generator=generator, dtype=torch.float64)
    rows = rows + 0.5 * torch.randn(400, features, generator=generator, dtype=torch.float64) + 1
    weight = torch.randn(made, read, height, width, generator=generator, dtype=torch.float64)
    return weight, rows, torch.rand(made, generator=generator, dtype=torch.float64) + 0.1

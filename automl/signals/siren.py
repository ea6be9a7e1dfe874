"""SIREN: a network of sines from the place of a point to its values.

Sitzmann et al. 2020, "Implicit neural representations with periodic activation functions", arXiv 2006.09661.
"""

from __future__ import annotations

import math
from itertools import pairwise

import torch
from torch import Tensor, nn

W0 = 30.0
"""The usual frequency of the sines (section 3.2)."""


class FourierFeatures(nn.Module):
    """Replaces each coordinate by sines and cosines of rising frequency; it has no weights.

    gamma(p) = (sin(s^0 pi p), cos(s^0 pi p), ..., sin(s^(L-1) pi p), cos(s^(L-1) pi p)) for each axis: Mildenhall et
    al. 2020, arXiv 2003.08934, equation 4, with the base s of Strümpler et al. 2022, arXiv 2112.04267, section 3.1.
    """

    def __init__(self, inputs: int, frequencies: int, base: float = 1.4) -> None:
        """`frequencies`: L, so many of each axis; `base`: s, by which one is higher than the one before."""
        super().__init__()
        self.inputs, self.frequencies, self.base = inputs, frequencies, base
        self.outputs = 2 * inputs * frequencies

    def forward(self, places: Tensor) -> Tensor:
        """[n, inputs] -> [n, outputs]: the sines of all axes and frequencies, then the cosines."""
        scale = math.pi * self.base ** torch.arange(self.frequencies, dtype=places.dtype, device=places.device)
        angles = (places[:, :, None] * scale).flatten(1)
        return torch.cat([angles.sin(), angles.cos()], 1)


class Siren(nn.Module):
    """A multilayer perceptron with sines: `depth` layers of `width` sines, and a linear layer."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        width: int,
        depth: int,
        w0: float = W0,
        features: FourierFeatures | None = None,
    ) -> None:
        """`inputs`: axes; `outputs`: channels; `w0`: what sums are multiplied by in each sine; `features`: before."""
        super().__init__()
        self.inputs, self.outputs, self.width, self.depth, self.w0 = inputs, outputs, width, depth, w0
        self.features = features
        first = inputs if features is None else features.outputs
        sizes = [first, *[width] * depth, outputs]
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(sizes))
        self._start()

    @torch.no_grad()
    def _start(self) -> None:
        """Draw weights as in section 3.2 and the supplement: the first layer's from U(-1/n, 1/n), all others' from
        U(-sqrt(6/n)/w0, sqrt(6/n)/w0); biases as PyTorch draws them, as in the authors' code."""
        for number, layer in enumerate(self.layers):
            assert isinstance(layer, nn.Linear)
            reach = 1 / layer.in_features if number == 0 else math.sqrt(6 / layer.in_features) / self.w0
            layer.weight.uniform_(-reach, reach)

    def forward(self, places: Tensor) -> Tensor:
        """The values at `places`: [n, inputs] in [-1, 1] -> [n, outputs]; nothing holds them in [0, 1]."""
        values = places if self.features is None else self.features(places)
        for layer in self.layers[:-1]:
            values = torch.sin(self.w0 * layer(values))
        found: Tensor = self.layers[-1](values)
        return found


def parameters_of(inputs: int, outputs: int, width: int, depth: int) -> int:
    """How many weights and biases such a `Siren` has; `inputs`: of its first layer."""
    return (inputs + 1) * width + (depth - 1) * (width + 1) * width + (width + 1) * outputs

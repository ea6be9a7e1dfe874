"""The first step of the inner loop as one linear map, which is the same for every signal.

All latents begin at zero, so that outputs f and Jacobian J of the network are there those of the start. The gradient of
a signal's mean squared error, 2 J^T (f - y) / numbers of y, is linear in its values y: a matrix product takes the place
of a pass through the network and one back. The matrix takes a pass back for each channel of a patch, as shifts of
hidden units at one point move no output at another.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.func import functional_call, jacrev, vmap

from automl.signals.meta import Tensors
from automl.signals.modulations import LATENT, MAP, hidden_biases, shifted
from automl.signals.signal import coordinates
from automl.signals.start_file import Start


@dataclass(frozen=True)
class FirstStep:
    """Takes the values of signals to their latents after the first inner step."""

    matrix: Tensor
    """[latent, points * channels]"""
    offset: Tensor
    """Of values that are all zero: [latent]."""

    @classmethod
    def of(cls, start: Start) -> FirstStep:
        """That of a start of form `latent`."""
        network, points, latent_to_shifts = start.network(), coordinates(start.patch), start.shared[MAP]
        own: Tensors = dict(network.named_parameters())
        names = list(hidden_biases(network))

        def at(shifts: Tensor, point: Tensor) -> Tensor:
            found: Tensor = functional_call(network, shifted(own, names, shifts), (point[None],))[0]
            return found

        with torch.no_grad():
            zeros = torch.zeros(len(latent_to_shifts))
            slopes = vmap(jacrev(at), in_dims=(None, 0))(zeros, points)  # [points, channels, hidden units]
            jacobian = slopes.flatten(0, 1) @ latent_to_shifts
            rates = start.rates[LATENT][0] * 2 / len(jacobian)  # one for each number, or one for all
            matrix = (jacobian * rates).T.contiguous()
            return cls(matrix, -matrix @ network(points).flatten())

    def __call__(self, values: Tensor) -> Tensor:
        """Values of signals, [n, points, channels] -> their latents after the step, [n, latent]."""
        return torch.addmm(self.offset, values.flatten(1), self.matrix.T)

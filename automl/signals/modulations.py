"""Signals as modulations of one network that they share: a short latent each.

Dupont et al. 2022, "COIN++: Neural compression across modalities", arXiv 2201.12904, section 3: a linear map takes the
latent of a signal to a shift of every hidden unit. A shift stands beside the bias, so a signal's network is the shared
one with other biases, and whatever draws the one draws the other. The inner loop adapts the latent alone, from zero
on. The authors' map has a bias of its own, which the biases of the network make superfluous, and is left out.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from automl.signals.learnt_start import before_learning
from automl.signals.meta import Form, Tensors

MAP = "latent_to_shifts"
"""The name of the linear map among what is shared: [hidden units, latent]."""
LATENT = "latent"


@dataclass
class Modulated(Form):
    """The latent of a signal is adapted; the network and the map are shared."""

    network: nn.Module
    latent: int
    """Numbers in a latent."""

    def first(self, generator: torch.Generator) -> Tensors:
        """What is shared before it is learnt: the network's parameters, and a map drawn as `nn.Linear` draws its."""
        units = sum(bias.numel() for bias in hidden_biases(self.network).values())
        drawn = torch.rand(units, self.latent, generator=generator) * 2 - 1
        return {**before_learning(self.network), MAP: drawn / self.latent**0.5}

    def begin(self, shared: Tensors) -> Tensors:
        """A latent of zeros."""
        return {LATENT: torch.zeros(self.latent)}

    def parameters(self, shared: Tensors, adapted: Tensors, noise: Tensors) -> Tensors:
        """The shared network, its hidden biases moved by the shifts that the latent is mapped to."""
        own = {name: tensor for name, tensor in shared.items() if name != MAP}
        return {**own, **shifted(own, list(hidden_biases(self.network)), shared[MAP] @ adapted[LATENT])}


def hidden_biases(network: nn.Module) -> dict[str, Tensor]:
    """Name -> bias of every layer but the last, in order."""
    layers = [name for name, module in network.named_modules() if isinstance(module, nn.Linear)]
    parameters = dict(network.named_parameters())
    return {f"{name}.bias": parameters[f"{name}.bias"] for name in layers[:-1]}


def shifted(parameters: Tensors, names: list[str], shifts: Tensor) -> Tensors:
    """The biases `names`, moved by `shifts`, [hidden units], one layer after the other."""
    parts = shifts.split([parameters[name].numel() for name in names])
    return {name: parameters[name] + part for name, part in zip(names, parts, strict=True)}

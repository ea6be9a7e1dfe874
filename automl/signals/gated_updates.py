"""Sparse updates of a shared start: gates, adapted to each signal, say which numbers of the start it changes.

A signal's parameters are start + update * gate. Updates begin at 0 and gates where they were learnt to begin; both are
adapted in the inner loop, so that those numbers open whose update lowers the error most: after a step the slope of a
gate is about minus the squared slope of its number. Gates are hard concrete (Louizos et al. 2018), and an open one has
a price in inner and outer loss, which rises while more are open than asked for (`DualPrice`).

L0 gates inside the inner loop, the starts of both learnt, are the idea of Schwarz & Teh 2022, "Meta-learning sparse
compression networks", arXiv 2205.08957. This is not their method under their name: how their inner loop treats the
penalty and the noise could not be established from what was at hand, and the price and the scale of gates are ours.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.func import vmap

from automl.signals.learnt_start import before_learning
from automl.signals.meta import Form, Tensors
from automl.training.methods.constrained_l0 import DualPrice
from automl.training.methods.hard_concrete import initial, open_probability, sampled, settled

GATES = "gates."
"""Stands before the name of a parameter: where its gates begin (shared), or how far they were moved (adapted)."""
PRICE_RATE = 1e-2
"""Of the ascent of the price."""


@dataclass
class GatedUpdates(Form):
    """A signal changes few numbers of the shared start."""

    network: nn.Module
    density: float
    """The part of all numbers that a signal may change, in expectation."""
    gate_scale: float = 600.0
    """A gate moves this many times as far as the number that is adapted for it: its slopes are much smaller."""

    def __post_init__(self) -> None:
        self._gates = sum(parameter.numel() for parameter in self.network.parameters())
        self._price = DualPrice({GATES: round(self.density * self._gates)}, PRICE_RATE)

    def first(self) -> Tensors:
        """What is shared before it is learnt: the network's parameters, and gates as for a dropout of a half."""
        own = before_learning(self.network)
        return {**own, **{GATES + name: torch.full_like(tensor, initial(0.5)) for name, tensor in own.items()}}

    def begin(self, shared: Tensors) -> Tensors:
        """No update, and gates where they begin."""
        return {name: torch.zeros_like(tensor) for name, tensor in shared.items()}

    def parameters(self, shared: Tensors, adapted: Tensors, noise: Tensors) -> Tensors:
        """The start and its gated update."""
        gates = self.gates(shared, adapted, noise)
        return {name: shared[name] + adapted[name] * gate for name, gate in gates.items()}

    def gates(self, shared: Tensors, adapted: Tensors, noise: Tensors) -> Tensors:
        """The gate of every number, in [0, 1]; settled where there is no `noise`."""
        moved = self._moved(shared, adapted)
        return {name: sampled(at, noise[name]) if noise else settled(at) for name, at in moved.items()}

    def noise(self, shared: Tensors, signals: int, generator: torch.Generator) -> Tensors:
        """A number from (0, 1) for every gate of every signal."""
        shapes = {name: tensor.shape for name, tensor in shared.items() if not name.startswith(GATES)}
        drawn = {name: torch.rand(signals, *shape, generator=generator) for name, shape in shapes.items()}
        return {name: tensor.clamp(1e-6, 1 - 1e-6) for name, tensor in drawn.items()}

    def penalty(self, shared: Tensors, adapted: Tensors) -> Tensor:
        """The price of the expected part of gates that are open."""
        return self._price.of(GATES, self._gates) * self.opened(shared, adapted)

    def opened(self, shared: Tensors, adapted: Tensors) -> Tensor:
        """How many gates are open, in expectation: a number."""
        moved = self._moved(shared, adapted)
        return torch.stack([open_probability(at).sum() for at in moved.values()]).sum()

    def see(self, shared: Tensors, adapted: Tensors) -> None:
        """Raise the price if more gates are open, on the mean over signals, than may be, or drop it."""
        opened = vmap(self.opened, (None, 0))(shared, adapted)
        self._price.see(GATES, opened.mean(), self._gates)

    def _moved(self, shared: Tensors, adapted: Tensors) -> Tensors:
        """The `log_alpha` of every gate."""
        names = [name for name in shared if not name.startswith(GATES)]
        return {name: shared[GATES + name] + self.gate_scale * adapted[GATES + name] for name in names}

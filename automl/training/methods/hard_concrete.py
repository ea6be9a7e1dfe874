"""The hard concrete distribution: gates in [0, 1] that are exactly 0 or 1 with some probability, and differentiable.

Louizos, Welling & Kingma 2018, "Learning sparse neural networks through L0 regularization", arXiv 1712.01312. A gate
has one parameter, `log_alpha`.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

TEMPERATURE, LOW, HIGH = 2 / 3, -0.1, 1.1
"""beta, gamma and zeta of section 4.1."""
LEAST, MOST = -8.0, math.log(100)
"""Where `log_alpha` is held. The authors' code holds it above log 0.01, where a gate is open one time in 21, so that
fewer weights than that could not be asked for; at -8 it is one time in 600."""


def initial(dropout: float) -> float:
    """The `log_alpha` of gates that are to be shut with the probability `dropout`, as in the authors' code."""
    return math.log(1 - dropout) - math.log(dropout)


def sampled(log_alpha: Tensor, uniform: Tensor) -> Tensor:
    """Gates drawn with numbers from (0, 1) (equations 10 and 11); differentiable in `log_alpha`."""
    concrete = torch.sigmoid((uniform.log() - (1 - uniform).log() + log_alpha) / TEMPERATURE)
    return (concrete * (HIGH - LOW) + LOW).clamp(0, 1)


def drawn(log_alpha: Tensor) -> Tensor:
    """Gates drawn anew, by PyTorch's default generator; differentiable in `log_alpha`."""
    return sampled(log_alpha, torch.empty_like(log_alpha).uniform_(1e-6, 1 - 1e-6))


def open_probability(log_alpha: Tensor) -> Tensor:
    """How probably each gate is not 0 (equation 12)."""
    return torch.sigmoid(log_alpha - TEMPERATURE * math.log(-LOW / HIGH))


def settled(log_alpha: Tensor) -> Tensor:
    """The gates without noise, as a finished network has them (equation 13)."""
    return (torch.sigmoid(log_alpha) * (HIGH - LOW) + LOW).clamp(0, 1)


def counted(log_alpha: Tensor) -> Tensor:
    """1 for each gate that is more probably open than shut."""
    return (open_probability(log_alpha) > 0.5).to(log_alpha)


def hold(log_alpha: Tensor) -> None:
    """Bring `log_alpha` back to where it is held, in place."""
    log_alpha.clamp_(LEAST, MOST)

"""AdaRound: whether each weight is rounded up or down is learnt from the error of the signal.

Nagel et al. 2020, "Up or down? Adaptive rounding for post-training quantization", arXiv 2004.10568; on the error of the
whole network, as Strümpler et al. 2022, arXiv 2112.04267, section 3.3, has it.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.func import functional_call

from automl.signals.fitting import Points, squared_error
from automl.signals.inr_file import set_tensors, tensors_of
from automl.signals.inr_reader import step_of
from automl.signals.quantizing import Grid
from automl.signals.signal import Signal
from automl.signals.siren import Siren

STRETCH, BELOW = 1.2, -0.1
"""zeta - gamma and gamma of equation 23."""
PRESSURE = 1.0
"""lambda of equation 21, of the mean over all weights, beside the error as a part of that of the nearest numbers."""
RATE = 1e-2
HIGHEST, LOWEST, FREE = 20.0, 2.0, 0.2
"""beta falls from the first to the second, after a part of the steps in which nothing presses (section 4)."""


def tune_rounding(network: Siren, signal: Signal, grid: Grid, steps: int, *, one_in: int = 1, seed: int = 0) -> float:
    """Put the weights of `network` on the `grid`, each up or down; the mean squared error that this leaves.

    The nearest numbers are taken where those learnt are no better.
    """
    names = [name for name, _ in network.named_parameters()]
    own = [tensor.clone() for tensor in tensors_of(network)]
    moved = [t - s for t, s in zip(own, grid.start, strict=True)] if grid.start else own
    sizes = [step_of(byte) for byte in grid.steps]
    floors = [(t / size).floor() for t, size in zip(moved, sizes, strict=True)]
    rests = [(t / size - f).clamp(1e-3, 1 - 1e-3) for t, size, f in zip(moved, sizes, floors, strict=True)]
    free = [(((rest - BELOW) / STRETCH).logit()).requires_grad_() for rest in rests]
    candidates = [grid.rounded(own)]
    set_tensors(network, candidates[0])
    scale = squared_error(network, signal)
    adam, points = torch.optim.Adam(free, RATE), Points(signal, one_in, seed)
    for number in range(steps):
        up = [_up(v) for v in free]
        values = grid.values([f + u for f, u in zip(floors, up, strict=True)])
        places, targets = points.next()
        outputs = functional_call(network, dict(zip(names, values, strict=True)), (places,))
        loss = (outputs - targets).square().mean() / scale
        progress = (number / steps - FREE) / (1 - FREE)
        if progress > 0:
            beta = HIGHEST + (LOWEST - HIGHEST) * progress
            loss = loss + PRESSURE * torch.cat([1 - (2 * u - 1).abs().flatten() ** beta for u in up]).mean()
        adam.zero_grad()
        loss.backward()
        adam.step()
    candidates.append(grid.values([f + (_up(v) >= 0.5) for f, v in zip(floors, free, strict=True)]))
    found = [(_error(network, signal, values), number) for number, values in enumerate(candidates)]
    error, best = min(found)
    set_tensors(network, candidates[best])
    return error


def _up(free: Tensor) -> Tensor:
    """h(V): how far each weight is rounded up, in [0, 1]."""
    return (free.sigmoid() * STRETCH + BELOW).clamp(0, 1)


def _error(network: Siren, signal: Signal, values: list[Tensor]) -> float:
    set_tensors(network, values)
    return squared_error(network, signal)

"""How much an error in each output of a layer costs the network."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, fx, nn

from automl.errors import NotFiniteError
from automl.fast.precision import first
from automl.fit.samples import differentiable
from automl.tasks.problem import Problem
from automl.util.modes import differentiating

SAMPLES = 512
SEED = 0


def output_fisher(network: fx.GraphModule, names: Sequence[str], problem: Problem) -> dict[str, Tensor]:
    """Layer -> sum over positions of E[g^2] for each of its outputs, g the gradient of the loss: [out], float64.

    To second order the loss rises by half of it times the squared error of the output (the diagonal of the Fisher
    matrix; Theis et al. 2018, "Faster gaze prediction", equation 7, by output instead of by weight), which puts the
    errors of all layers into one unit. Targets are drawn from what the network predicts, as the true Fisher
    matrix has it, where the problem's kind can (`Kind.drawn_loss`).
    """
    totals: dict[str, Tensor] = {}
    batches = first(problem.calibration, SAMPLES)
    generator = torch.Generator().manual_seed(SEED)

    beginnings: list[Tensor] = []

    def keep(name: str, layer: nn.Module, args: Any, output: Tensor) -> Tensor:
        if not output.requires_grad:  # no parameter has gradients, the dearest part of a backward pass: begin here
            beginnings.append(output.detach().requires_grad_())
            output = beginnings[-1].clone()  # which may be changed in place
        output.register_hook(partial(_add, totals, name, isinstance(layer, nn.Linear)))
        return output

    hooks = [network.get_submodule(name).register_forward_hook(partial(keep, name)) for name in names]
    try:
        with differentiating(network, parameters=False):
            for inputs, targets in differentiable(network, batches):
                beginnings.clear()
                loss = problem.kind.drawn_loss(network(*inputs), targets, generator)
                if loss.requires_grad:
                    torch.autograd.grad(loss, beginnings, allow_unused=True)  # the hooks see what passes
    except NotFiniteError:  # the trial of the original will say so
        return {name: torch.ones(_outputs(network, name), dtype=torch.float64) for name in names}
    finally:
        for hook in hooks:
            hook.remove()
    samples = sum(len(targets) for _, targets in batches)
    return {name: total / samples for name, total in totals.items()}


def _outputs(network: nn.Module, name: str) -> int:
    return len(network.get_parameter(f"{name}.weight"))


def _add(totals: dict[str, Tensor], name: str, channels_last: bool, gradient: Tensor) -> None:
    out = gradient.shape[-1 if channels_last else 1]
    squares = gradient.movedim(-1 if channels_last else 1, 0).reshape(out, -1).double().square().sum(1)
    totals[name] = totals.get(name, torch.zeros(())) + squares

"""Teachers of the user's own, which are learnt from in place of the original: a larger network, or an ensemble."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from automl.config.training import DistillationOptions
from automl.errors import ConfigError
from automl.tasks.problem import Problem
from automl.util.modes import evaluating
from automl.util.own_code import named_function


class Ensemble(nn.Module):
    """Several networks of which a student learns the mean outputs.

    Under a temperature T that is T * log(mean over networks of softmax(outputs / T)), so that a softmax at T gives the
    mean of the softened probabilities (Hinton et al. 2015, section 3); without one the mean of the outputs themselves
    (Bucila et al. 2006, as Ba & Caruana 2014 have it for logits).
    """

    def __init__(self, networks: Sequence[nn.Module], temperature: float | None) -> None:
        super().__init__()
        self.networks, self.temperature = nn.ModuleList(networks), temperature

    def forward(self, *inputs: Tensor) -> Tensor:
        """The outputs, [n, ...], classes along dimension 1."""
        outputs = torch.stack([network(*inputs) for network in self.networks])
        if self.temperature is None:
            return outputs.mean(0)
        logs = torch.log_softmax(outputs / self.temperature, 2)
        return self.temperature * (logs.logsumexp(0) - math.log(len(outputs)))


def own_teacher(options: DistillationOptions, problem: Problem) -> nn.Module | None:
    """The network that `options` would have a student learn from; None: the original. Errors: `ConfigError`,
    `DataError`."""
    if not options.teachers:
        return None
    networks = [_made(spec, problem) for spec in options.teachers]
    if len(networks) == 1:
        return networks[0]
    return Ensemble(networks, options.temperature if options.outputs == "softened" else None).eval()


def _made(spec: str, problem: Problem) -> nn.Module:
    """What the user's function makes, in eval mode, once its outputs are seen to be like the original's."""
    key, function = f"the teacher {spec!r}", named_function(spec, "distillation.teachers")
    try:
        network = function()
    except Exception as error:  # a user's function raises whatever it likes
        raise ConfigError(f"{key}, called without arguments, raised {type(error).__name__}: {error}") from error
    if not isinstance(network, nn.Module):
        raise ConfigError(f"{key} must return a network (torch.nn.Module), got {type(network).__name__}")
    with evaluating(network, problem.model), torch.no_grad():
        try:
            theirs = network(*problem.example_inputs)
        except Exception as error:  # a user's network raises whatever it likes
            raise ConfigError(f"{key} cannot read the inputs of this study: {type(error).__name__}: {error}") from error
        ours = problem.model(*problem.example_inputs)
    if getattr(theirs, "shape", None) != getattr(ours, "shape", ()):
        raise ConfigError(
            f"{key} must have outputs of the shape of the original's, {list(ours.shape)} on a batch, got "
            f"{list(theirs.shape) if isinstance(theirs, Tensor) else type(theirs).__name__}: classes must be the same"
        )
    return network.eval()

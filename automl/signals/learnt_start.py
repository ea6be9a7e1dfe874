"""A start that signals share: every parameter of the network begins there and is adapted (MAML).

Where the start is sparse, numbers that it lacks are never adapted, as in Meta-SparseINR (`meta_pruning.py`).
"""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import nn

from automl.signals.meta import Form, Tensors


@dataclass
class WholeStart(Form):
    """All parameters of the network are adapted, from the shared ones on."""

    network: nn.Module
    masks: Tensors = field(default_factory=dict)
    """Of parameters that are sparse: 1 where a number may be, 0 where it stays zero, in its shape."""

    def begin(self, shared: Tensors) -> Tensors:
        """The start."""
        return dict(shared)

    def parameters(self, shared: Tensors, adapted: Tensors, noise: Tensors) -> Tensors:
        """What was adapted, without what is masked: so that nothing there has a gradient."""
        return {name: now * self.masks[name] if name in self.masks else now for name, now in adapted.items()}


def before_learning(network: nn.Module) -> Tensors:
    """The parameters of `network`, with which meta-learning begins; outputs raised to the middle of [0, 1].

    The codes of COIN++ and Meta-SparseINR add 0.5 to the outputs; here the last bias has it.
    """
    parameters = {name: parameter.detach().clone() for name, parameter in network.named_parameters()}
    last = next(name for name in reversed(parameters) if name.endswith("bias"))
    return {**parameters, last: parameters[last] + 0.5}

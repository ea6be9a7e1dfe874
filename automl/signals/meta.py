"""Meta-learning over signals: what signals share is learnt so that a few steps of gradient descent fit a new one.

Finn, Abbeel & Levine 2017, "Model-agnostic meta-learning", arXiv 1703.03400. The inner loop adapts some tensors to one
signal by gradient descent; the outer loop moves what is shared by the loss that is left after it, differentiated
through the inner steps (second order), or with the inner gradients taken as constants (first order, section 5.2).
The rates of the inner steps may be learnt too, one for each number and step, as Strümpler et al. 2022, arXiv
2112.04267, do after Meta-SGD (Li et al. 2017, arXiv 1707.09835).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap

from automl.errors import NotFiniteError

Tensors = dict[str, Tensor]
"""Name -> tensor: parameters of a network, what is shared by signals, or what is adapted to one."""


@dataclass(frozen=True)
class MetaOptions:
    """How the loops run."""

    inner_steps: int = 3
    """Steps of gradient descent that adapt to one signal."""
    inner_rate: float = 1e-2
    """Rate of these steps; where rates are learnt, that at which they begin."""
    outer_steps: int = 2000
    """Steps of Adam for what is shared."""
    outer_rate: float = 3e-4
    """Rate of these steps, from which it falls to 0 along a cosine."""
    batch: int = 8
    """Signals in an outer step."""
    points: int | None = None
    """Points of each signal in an outer step, drawn anew; None for all."""
    second_order: bool = True
    """Whether the outer gradient goes through those of the inner steps."""
    learn_rates: bool = False
    """Whether the rates of the inner steps are learnt, one for each number that is adapted and each step."""
    seed: int = 0
    """Of the order of signals and of all that is drawn."""


class Form:
    """What signals share and what is adapted to each: the two loops are the same for all forms."""

    network: nn.Module
    """That which draws a signal; its own parameters are not used."""

    def begin(self, shared: Tensors) -> Tensors:
        """What is adapted to a signal, as it is before the first step."""
        raise NotImplementedError

    def parameters(self, shared: Tensors, adapted: Tensors, noise: Tensors) -> Tensors:
        """The parameters of the network that draws the signal. `noise` is empty where nothing is drawn at random."""
        raise NotImplementedError

    def noise(self, shared: Tensors, signals: int, generator: torch.Generator) -> Tensors:
        """What is drawn for one step of `signals` signals: each tensor has them as its first dimension."""
        return {}

    def penalty(self, shared: Tensors, adapted: Tensors) -> Tensor:
        """What is added to the loss of one signal, as in `loss`: a number."""
        return torch.zeros(())

    def see(self, shared: Tensors, adapted: Tensors) -> None:
        """Look at what was adapted to the signals of an outer step; its first dimension is that of the signals."""


@dataclass
class Learnt:
    """What the outer loop found."""

    shared: Tensors
    rates: Tensors
    """Of what is adapted -> its rates, [inner_steps, *shape], or [inner_steps] of one for all its numbers."""
    losses: list[float] = field(default_factory=list)
    """The mean loss after the inner steps, an outer step each."""


def loss(form: Form, shared: Tensors, adapted: Tensors, noise: Tensors, points: Tensor, values: Tensor) -> Tensor:
    """The mean squared error of one signal and the form's penalty: a number.

    `points`: [n, axes]; `values`: [n, channels].
    """
    drawn = functional_call(form.network, form.parameters(shared, adapted, noise), (points,))
    found: Tensor = (drawn - values).square().mean() + form.penalty(shared, adapted)
    return found


def adapted_to(
    form: Form,
    learnt: Learnt,
    points: Tensor,
    values: Tensor,
    *,
    noises: list[Tensors] | None = None,
    second_order: bool = True,
    begun: Tensors | None = None,
) -> Tensors:
    """What the inner loop adapts to each signal of a batch; its first dimension is that of the signals.

    `points`: [n, axes], those of every signal; `values`: [signals, n, channels]. `noises`: what is drawn for each
    step; None draws nothing, so that the same signal gives the same numbers. `begun`: what was adapted to each signal
    before; None begins as the form does.
    """
    steps = len(next(iter(learnt.rates.values())))
    noises = [{}] * steps if noises is None else noises
    slope = grad(loss, argnums=2)

    def one(values: Tensor, noises: list[Tensors], begun: Tensors) -> Tensors:
        adapted = begun or form.begin(learnt.shared)
        for step in range(steps):
            slopes = slope(form, learnt.shared, adapted, noises[step], points, values)
            if not second_order:
                slopes = {name: tensor.detach() for name, tensor in slopes.items()}
            adapted = {name: now - learnt.rates[name][step] * slopes[name] for name, now in adapted.items()}
        return adapted

    found: Tensors = vmap(one)(values, noises, begun or {})
    return found


def learn(
    form: Form,
    shared: Tensors,
    points: Tensor,
    values: Tensor,
    options: MetaOptions,
    *,
    seen: Callable[[int, float, Learnt], None] = lambda step, loss, learnt: None,
) -> Learnt:
    """Learn what signals share, from `shared` on. Errors: `NotFiniteError`.

    `points`: [n, axes]; `values`: [signals, n, channels]. `seen` is told the step, its loss and what is learnt so far.
    """
    learnt = Learnt(_leaves(shared), _first_rates(form, shared, options))
    generator = torch.Generator().manual_seed(options.seed)
    moved = [*learnt.shared.values(), *(learnt.rates.values() if options.learn_rates else ())]
    adam = torch.optim.Adam(moved, lr=options.outer_rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(adam, max(options.outer_steps, 1))
    for step in range(options.outer_steps):
        batch = values[torch.randint(len(values), (options.batch,), generator=generator)]
        seen_points = torch.randperm(len(points), generator=generator)[: options.points]
        adam.zero_grad()
        after = _outer_loss(form, learnt, points[seen_points], batch[:, seen_points], options, generator)
        after.backward()
        if not torch.isfinite(after):
            raise NotFiniteError(
                f"the loss of step {step} of meta-learning is {float(after.detach())}: take lower rates"
            )
        adam.step()
        schedule.step()
        learnt.losses.append(float(after.detach()))
        seen(step, learnt.losses[-1], learnt)
    return Learnt(_still(learnt.shared), _still(learnt.rates), learnt.losses)


def _outer_loss(
    form: Form, learnt: Learnt, points: Tensor, batch: Tensor, options: MetaOptions, generator: torch.Generator
) -> Tensor:
    """The mean loss of a batch after the inner steps, with what is drawn for it drawn anew."""
    drawn = [form.noise(learnt.shared, len(batch), generator) for _ in range(options.inner_steps + 1)]
    adapted = adapted_to(form, learnt, points, batch, noises=drawn[:-1], second_order=options.second_order)
    with torch.no_grad():
        form.see(learnt.shared, adapted)
    losses: Tensor = vmap(lambda adapted, noise, values: loss(form, learnt.shared, adapted, noise, points, values))(
        adapted, drawn[-1], batch
    )
    return losses.mean()


def _first_rates(form: Form, shared: Tensors, options: MetaOptions) -> Tensors:
    """The rates before they are learnt: of every number and step if they will be, or one a step."""
    shapes = {name: tensor.shape if options.learn_rates else () for name, tensor in form.begin(shared).items()}
    rates = {name: torch.full((options.inner_steps, *shape), options.inner_rate) for name, shape in shapes.items()}
    return {name: rate.requires_grad_(options.learn_rates) for name, rate in rates.items()}


def _leaves(tensors: Mapping[str, Tensor]) -> Tensors:
    return {name: tensor.detach().clone().requires_grad_() for name, tensor in tensors.items()}


def _still(tensors: Mapping[str, Tensor]) -> Tensors:
    return {name: tensor.detach().clone() for name, tensor in tensors.items()}

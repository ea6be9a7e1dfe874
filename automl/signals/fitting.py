"""A network fitted to one signal by Adam; the best weights seen are kept."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.func import functional_call

from automl.errors import NotFiniteError
from automl.signals.signal import Signal, coordinates, psnr_of_error
from automl.training.methods.base import Course, Method

CHUNK = 2**17
"""Points that go through the network at once: gradients of more are added up."""

LOOKS = 20
"""How often all points are looked at, where steps see a part of them."""

Through = Callable[[Mapping[str, Tensor]], Mapping[str, Tensor]]
"""Parameters by name -> what stands in their place while outputs are computed; differentiable."""
Tell = Callable[[int, float], None]
"""(steps taken, PSNR of the last in dB)"""


@dataclass(frozen=True)
class Fitted:
    """A network and how well it draws the signal."""

    network: nn.Module
    psnr: float
    """Of its outputs as they are, in dB."""
    steps: int
    seconds: float


def fit(
    network: nn.Module,
    signal: Signal,
    steps: int,
    rate: float,
    *,
    methods: Sequence[Method] = (),
    through: Through | None = None,
    l1: float = 0.0,
    keep_from: float = 0.0,
    one_in: int = 1,
    seed: int = 0,
    tell: Tell | None = None,
) -> Fitted:
    """Fit `network`, in place, to the values of `signal` by their mean squared error; it has the best weights seen.

    Adam takes `steps` steps, its rate falling from `rate` to 0 by a cosine, each on all points or on `one_in` so many,
    drawn by `seed`: then all are looked at now and then. `methods` have their turn in every step, as in any training;
    `through` stands between the parameters and the network, as fake quantization does. `l1`: of the mean magnitude of
    all parameters in the loss. What is kept is the best from the part `keep_from` of the steps on, such as from where
    gates are settled. Raises `NotFiniteError`.
    """
    began = time.perf_counter()
    points = Points(signal, one_in, seed)
    named = {name: p for name, p in network.named_parameters() if p.requires_grad}
    adam = torch.optim.Adam(named.values(), rate)
    course, best = Course(network, adam, steps), _Best(named)
    for method in methods:
        method.begin(course)

    def closure() -> Tensor:
        adam.zero_grad(set_to_none=True)
        if l1:
            (l1 * torch.cat([p.flatten() for p in named.values()]).abs().mean()).backward()
        return _gradients(network, named, *points.next(), through)

    step: Callable[[], Tensor] = closure
    for method in methods:
        step = _bound(method, course, step)
    for number in range(steps):
        course.done = number
        adam.param_groups[0]["lr"] = rate * 0.5 * (1 + math.cos(math.pi * number / steps))
        loss = float(step())
        if not math.isfinite(loss):
            raise NotFiniteError(f"the error of the fit came out as {loss} in step {number}. Lower the rate, {rate:g}")
        if number >= keep_from * steps and (one_in == 1 or number % max(steps // LOOKS, 1) == 0):
            best.see(loss if one_in == 1 else squared_error(network, signal, through=through))
        for method in methods:
            method.before_step(course)
        adam.step()
        for method in methods:
            method.after_step(course)
        if tell is not None:
            tell(number + 1, psnr_of_error(loss))
    for method in methods:
        method.end(network)
    best.see(squared_error(network, signal, through=through))
    best.restore()
    return Fitted(network, psnr_of_error(best.loss), steps, time.perf_counter() - began)


class Points:
    """The points of each step, and what the signal is there."""

    def __init__(self, signal: Signal, one_in: int, seed: int) -> None:
        self._all = coordinates(signal.shape), signal.targets
        self._one_in = min(one_in, signal.points)
        self._generator = torch.Generator().manual_seed(seed)
        self._parts: list[Tensor] = []

    def next(self) -> tuple[Tensor, Tensor]:
        """All of them, or one of each run of `one_in` in a row; each is drawn once before any is drawn again."""
        if self._one_in == 1:
            return self._all
        if not self._parts:
            runs = len(self._all[0]) // self._one_in  # a rest shorter than a run is left out
            order = torch.rand(runs, self._one_in, generator=self._generator).argsort(1)
            self._parts = list((order + self._one_in * torch.arange(runs)[:, None]).T)
        part = self._parts.pop()
        places, targets = self._all
        return places[part], targets[part]


class _Best:
    """The parameters of the least loss seen."""

    def __init__(self, named: Mapping[str, Tensor]) -> None:
        self._named = named
        self._kept: dict[str, Tensor] = {}
        self.loss = math.inf

    def see(self, loss: float) -> None:
        """Keep the parameters as they are now if their `loss` is less."""
        if loss < self.loss:
            self.loss, self._kept = loss, {name: p.detach().clone() for name, p in self._named.items()}

    @torch.no_grad()
    def restore(self) -> None:
        """Put the best back."""
        for name, kept in self._kept.items():
            self._named[name].copy_(kept)


@torch.no_grad()
def squared_error(network: nn.Module, signal: Signal, *, through: Through | None = None) -> float:
    """The mean squared error of the outputs of `network` as they are."""
    named: Mapping[str, Tensor] = dict(network.named_parameters())
    called = dict(through(named) if through is not None else named)
    total = torch.zeros((), dtype=torch.float64)
    for x, y in zip(coordinates(signal.shape).split(CHUNK), signal.targets.split(CHUNK), strict=True):
        total += (functional_call(network, called, (x,)) - y).double().square().sum()
    return float(total) / signal.values.size


def _gradients(
    network: nn.Module, named: Mapping[str, Tensor], places: Tensor, targets: Tensor, through: Through | None
) -> Tensor:
    """Leave the gradients of the mean squared error in `.grad`; the error, detached."""
    total = torch.zeros(())
    for x, y in zip(places.split(CHUNK), targets.split(CHUNK), strict=True):
        outputs = network(x) if through is None else functional_call(network, dict(through(named)), (x,))
        loss = (outputs - y).square().sum() / targets.numel()
        loss.backward()
        total += loss.detach()
    return total


def _bound(method: Method, course: Course, closure: Callable[[], Tensor]) -> Callable[[], Tensor]:
    return lambda: method.gradients(course, closure)

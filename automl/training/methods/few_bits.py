"""Weights in few bits, trained: gradients are taken where they are rounded, and move what they are rounded from."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from automl.training.methods.base import Closure, Course, Method
from automl.training.methods.multiplied import replaced
from search_spaces.codecs.entropy import fits
from search_spaces.codecs.integers import dequantized, integers_of
from search_spaces.codecs.number_formats import NumberFormat
from search_spaces.operators.code import BOOK, SCALE, nearest_integer
from search_spaces.operators.shared import nearest_centroid

WIDER = 1.01
"""By how much steps are tried wider until an entropy code has bits enough, or narrower while it has."""
EDGE = 1 + 1e-4
"""Numbers that were clipped to the end of a grid are on it, whatever a product is rounded to."""
LEAST = 0.01
"""Of the step of a channel at the beginning: none gets smaller."""


class FewBits(Method):
    """Trains weights that are integers times a step for each output channel, or numbers of a codebook.

    The optimizer moves numbers in between, which the passes see rounded; gradients go straight through the rounding to
    those within the grid. Steps are learnt along (Esser et al. 2020, "Learned step size quantization", arXiv
    1902.08153, equations 3 and 5, with its scale of gradients, 1 / sqrt(N Q)), a step for each output channel and not
    for each layer. Numbers of two levels that went beyond are clipped after each step (Courbariaux et al. 2015,
    "BinaryConnect", arXiv 1511.00363, algorithm 1), so that signs can change again; of more levels they are not, as
    steps learn from them. Numbers that weights share have the sum of their gradients
    (Han et al. 2016, "Deep compression", section 3.3), scaled likewise, and weights keep their places in the book.
    Formats for an entropy code are rounded by steps so wide that it has bits enough, whatever weights have become.
    """

    def __init__(self, formats: Mapping[str, NumberFormat], *, pruned: bool) -> None:
        """`formats`: layer -> that of its weight. `pruned`: whether weights that are 0 stay so."""
        self._formats, self._pruned = dict(formats), pruned
        self._held: dict[str, _Held] = {}

    def begin(self, course: Course) -> None:
        """Take up steps and codebooks as they are, to be trained along."""
        for name, form in self._formats.items():
            layer = course.network.get_submodule(name)
            weight = layer.get_parameter("weight").detach()
            if form.centroids:
                self._held[name] = _OnBook(weight, layer.get_buffer(BOOK))
            elif integers_of(weight.cpu(), layer.get_buffer(SCALE).cpu()) is not None:  # else rounded by nobody
                self._held[name] = _OnGrid(weight, layer.get_buffer(SCALE), form, pruned=self._pruned)
        if self._held:
            tables = [held.table for held in self._held.values()]
            course.optimizer.add_param_group({"params": tables, "weight_decay": 0.0})

    def gradients(self, course: Course, closure: Closure) -> Tensor:
        """Forward and backward with rounded weights."""
        weights = {name: _weight(course.network, name) for name in self._held}
        rounded = [self._held[name].rounded(weight.detach()) for name, weight in weights.items()]
        with replaced(list(weights.values()), rounded):
            loss = closure()
        with torch.no_grad():
            for name, weight in weights.items():
                if weight.grad is not None:
                    weight.grad = self._held[name].passed(weight.detach(), weight.grad)
        return loss

    def after_step(self, course: Course) -> None:
        """Clip what may not be so large or so small."""
        with torch.no_grad():
            for name, held in self._held.items():
                held.clip(_weight(course.network, name))

    def state(self) -> dict[str, Any]:
        """The steps and codebooks."""
        return {name: held.state() for name, held in self._held.items()}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from there."""
        for name, held in self._held.items():
            held.restore(state[name])

    def end(self, network: nn.Module) -> None:
        """Weights that are rounded, and the scale or codebook that they are told by."""
        with torch.no_grad():
            for name, held in self._held.items():
                held.hand_over(network.get_submodule(name))


def _weight(network: nn.Module, layer: str) -> Tensor:
    return network.get_submodule(layer).get_parameter("weight")


class _Held(ABC):
    """How one weight is rounded, and what is learnt of that."""

    table: Tensor
    """What is learnt."""

    @abstractmethod
    def rounded(self, weight: Tensor) -> Tensor:
        """What the passes see."""

    @abstractmethod
    def passed(self, weight: Tensor, gradient: Tensor) -> Tensor | None:
        """The gradient of the weight, given that of what it is rounded to; notes that of the table."""

    @abstractmethod
    def hand_over(self, layer: nn.Module) -> None:
        """Round the layer's weight, and give it the table."""

    @abstractmethod
    def clip(self, weight: Tensor) -> None:
        """Keep weight and table within bounds."""

    def state(self) -> dict[str, Any]:
        """What a checkpoint holds."""
        return {"table": self.table.detach()}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from there."""
        with torch.no_grad():
            self.table.copy_(state["table"])


class _OnGrid(_Held):
    """Integers times a step for each output channel."""

    def __init__(self, weight: Tensor, step: Tensor, form: NumberFormat, *, pruned: bool) -> None:
        """`weight`: [out, ...], on the grid; `step`: [out], above 0."""
        self.table = step.detach().clone().requires_grad_()
        self._least = LEAST * self.table.detach()
        self._form, self._stays = form, (weight == 0) & pruned
        self._rate = 1 / math.sqrt(weight[0].numel() * form.highest)
        self._wider = 1.0
        """What steps are multiplied by so that an entropy code has bits enough."""

    def rounded(self, weight: Tensor) -> Tensor:
        """The nearest integers times the steps."""
        self._wider = self._enough(weight, self._wider)
        along = self._along(weight, self._wider)
        return self._integers(weight, along) * along

    def passed(self, weight: Tensor, gradient: Tensor) -> Tensor:
        """That of numbers within the grid; the step's as LSQ has it."""
        along = self._along(weight, self._wider)
        ratio, integers = weight / along, self._integers(weight, along)
        within = ratio.abs() <= self._form.highest * EDGE
        of_step = torch.where(within, integers - ratio, integers).masked_fill(self._stays, 0.0)
        self.table.grad = self._rate * (gradient * of_step).flatten(1).sum(1)
        return gradient * within.masked_fill(self._stays, False)

    def clip(self, weight: Tensor) -> None:
        """To the ends of the grid, if these are all there is of it."""
        self.table.clamp_(min=self._least)
        if len(self._form.grid) > 2:
            return
        reach = self._form.highest * self._along(weight, self._wider)
        weight.copy_(torch.maximum(torch.minimum(weight, reach), -reach))

    def hand_over(self, layer: nn.Module) -> None:
        """Integers times a scale, bit for bit."""
        weight, scale = layer.get_parameter("weight"), layer.get_buffer(SCALE)
        wider = self._enough(weight, self._wider)
        integers = self._integers(weight, self._along(weight, wider)).to(torch.int8)
        scale.copy_(self.table * wider)
        weight.copy_(dequantized(integers, scale))

    def state(self) -> dict[str, Any]:
        """The steps, and by how much they are wider."""
        return {**super().state(), "wider": self._wider}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from there."""
        super().restore(state)
        self._wider = state["wider"]

    def _enough(self, weight: Tensor, wider: float) -> float:
        """By how much steps are to be wider: a little less than `wider`, if that does, or as much more as is needed."""
        if not self._form.coded:
            return 1.0
        if wider > 1.0 and self._fits(weight, wider / WIDER):
            return max(1.0, wider / WIDER)
        while not self._fits(weight, wider):
            wider *= WIDER
        return wider

    def _fits(self, weight: Tensor, wider: float) -> bool:
        integers = self._integers(weight, self._along(weight, wider))
        return fits(integers.cpu(), self._form, ~self._stays.cpu())

    def _integers(self, weight: Tensor, along: Tensor) -> Tensor:
        return nearest_integer(weight / along, self._form).masked_fill(self._stays, 0.0)

    def _along(self, weight: Tensor, wider: float) -> Tensor:
        """The steps in a shape that multiplies the weight's."""
        return (self.table.detach() * wider).view(-1, *[1] * (weight.ndim - 1))


class _OnBook(_Held):
    """Numbers that weights share."""

    def __init__(self, weight: Tensor, book: Tensor) -> None:
        """`weight`: of numbers of `book`: [centroids]."""
        self.table = book.detach().clone().requires_grad_()
        self._places = nearest_centroid(weight, book)
        self._users = torch.bincount(self._places.flatten(), minlength=len(book)).clamp_min(1)

    def rounded(self, weight: Tensor) -> Tensor:
        """The number at each weight's place."""
        return self.table.detach()[self._places]

    def passed(self, weight: Tensor, gradient: Tensor) -> None:
        """None of the weight's, which stays where it is; the sum of each number's."""
        summed = torch.zeros_like(self.table).index_add_(0, self._places.flatten(), gradient.flatten())
        self.table.grad = summed / self._users.sqrt()

    def clip(self, weight: Tensor) -> None:
        """Nothing."""

    def hand_over(self, layer: nn.Module) -> None:
        """Those numbers, and the book."""
        layer.get_parameter("weight").copy_(self.table[self._places])
        layer.get_buffer(BOOK).copy_(self.table)

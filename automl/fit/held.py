"""Weights that gradients move while they stay what an operator made of them: on the grid of a format, or zero."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Mapping

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from search_spaces.codecs.integers import dequantized, integers_of
from search_spaces.codecs.number_formats import NumberFormat
from search_spaces.operators.code import BOOK, SCALE, nearest_integer
from search_spaces.operators.shared import nearest_centroid

SPAN = 10.0
"""How many steps of a grid a parameter of 1 stands for: at the learning rates that suit weights, a weight that wants to
be the next integer is there after some fifty steps of Adam."""


class OnGrid(nn.Module):
    """Makes integers times a scale of numbers that are moved as if they were not rounded (straight-through gradients:
    Bengio et al. 2013, arXiv 1308.3432), with scales that move too, by factors.

    Integers that were chosen to be few bits in an entropy code stay as they are, and only scales move."""

    began: Tensor
    stays: Tensor
    settled: Tensor | None

    def __init__(self, integers: Tensor, scale: Tensor, form: NumberFormat, *, pruned: bool) -> None:
        """`integers`: the weight so far, [out, ...]; 0 stays if weights were `pruned`. `scale`: [out]."""
        super().__init__()
        self.form = form
        self.register_buffer("began", scale.clone())
        self.register_buffer("stays", (integers == 0) & pruned)
        self.register_buffer("settled", integers.float() if form.coded else None)
        self.stretch = nn.Parameter(torch.zeros_like(scale))  # the logarithm of what the scale is multiplied by

    @property
    def scale(self) -> Tensor:
        """That of each output channel now: [out]."""
        return self.began * self.stretch.exp()

    def integers(self, parameter: Tensor) -> Tensor:
        """Those that the parameter stands for, as floats: [out, ...]."""
        if self.settled is not None:
            return self.settled
        return nearest_integer(parameter * SPAN, self.form).masked_fill(self.stays, 0.0)

    def forward(self, parameter: Tensor) -> Tensor:
        """The weight: [out, ...]."""
        if self.settled is not None:
            return self.settled * self._along(parameter)
        reach = (parameter * SPAN).clamp(-self.form.highest, self.form.highest).masked_fill(self.stays, 0.0)
        integers = reach + (self.integers(parameter) - reach).detach()
        return integers * self._along(parameter)

    def _along(self, parameter: Tensor) -> Tensor:
        """The scales in a shape that multiplies the parameter's."""
        return self.scale.view(-1, *[1] * (parameter.ndim - 1))

    def right_inverse(self, weight: Tensor) -> Tensor:
        """The parameter that stands for a weight on the grid."""
        return weight / self.began.view(-1, *[1] * (weight.ndim - 1)) / SPAN


class InBook(nn.Module):
    """Makes weights that share the numbers of a codebook, which move by factors while each weight keeps its place: the
    gradient of a centroid is the sum over its weights (Han et al. 2016, "Deep Compression", section 3.3)."""

    began: Tensor
    places: Tensor

    def __init__(self, weight: Tensor, book: Tensor) -> None:
        """`weight`: [out, ...], of numbers of `book`: [centroids]."""
        super().__init__()
        self.register_buffer("began", book.clone())
        self.register_buffer("places", nearest_centroid(weight, book))
        self.stretch = nn.Parameter(torch.zeros_like(book))  # the logarithm of what each is multiplied by

    @property
    def book(self) -> Tensor:
        """The numbers now: [centroids]."""
        return self.began * self.stretch.exp()

    def forward(self, parameter: Tensor) -> Tensor:
        """The weight: [out, ...]."""
        return self.book[self.places]

    def right_inverse(self, weight: Tensor) -> Tensor:
        """The parameter, which plays no part."""
        return weight


@contextlib.contextmanager
def in_book(network: nn.Module, names: Iterable[str]) -> Iterator[None]:
    """While it lasts, the numbers that the weights of each of these layers share can be moved."""
    held: dict[str, InBook] = {}
    for name in names:
        layer = network.get_submodule(name)
        held[name] = InBook(layer.get_parameter("weight").detach(), layer.get_buffer(BOOK))
        parametrize.register_parametrization(layer, "weight", held[name])
    try:
        yield
    finally:
        for name, shared in held.items():
            layer, book = network.get_submodule(name), shared.book.detach()
            _let_go(layer, book[shared.places])
            layer.get_buffer(BOOK).copy_(book)


def _let_go(layer: nn.Module, weight: Tensor) -> None:
    """Give the layer this weight, made by nothing any more."""
    names = ["weight", *(other for other, _ in layer.named_parameters(recurse=False))]
    with torch.no_grad():
        parametrize.remove_parametrizations(layer, "weight")
        layer.get_parameter("weight").copy_(weight)
    for other in names:  # in the order in which they were, which is that of files
        layer.register_parameter(other, layer._parameters.pop(other))


@contextlib.contextmanager
def on_grid(network: nn.Module, formats: Mapping[str, NumberFormat], *, pruned: bool) -> Iterator[None]:
    """While it lasts, the integer weights of these layers and their scales can be moved; after it they are integers and
    scales again. `pruned`: whether those that are 0 stay so."""
    held: dict[str, OnGrid] = {}
    for name, form in formats.items():
        layer = network.get_submodule(name)
        scale = layer.get_buffer(SCALE)
        integers = integers_of(layer.get_parameter("weight").detach(), scale)
        if integers is None:  # rounded by nobody
            continue
        held[name] = OnGrid(integers, scale, form, pruned=pruned)
        parametrize.register_parametrization(layer, "weight", held[name])
    try:
        yield
    finally:
        for name, grid in held.items():
            layer = network.get_submodule(name)
            with torch.no_grad():
                integers = grid.integers(layer.get_parameter("parametrizations.weight.original")).to(torch.int8)
            scale = grid.scale.detach()
            _let_go(layer, dequantized(integers, scale))
            layer.get_buffer(SCALE).copy_(scale)


@contextlib.contextmanager
def zeros_kept(network: nn.Module, names: Iterable[str]) -> Iterator[None]:
    """While it lasts, gradients of these tensors are zero where the tensors are: an optimizer without decay leaves them
    so."""
    hooks = []
    for name in names:
        parameter = network.get_parameter(name)
        hooks.append(parameter.register_hook((parameter.detach() != 0).mul))
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()

"""What a user's batches are: which tensors are inputs of the forward, and which are the targets."""

from __future__ import annotations

import inspect
import math
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_flatten, tree_map, tree_unflatten

from automl.errors import DataError
from automl.util.names import nearest
from search_spaces.graph.prepare import copied_model

Batch = tuple[tuple[Tensor, ...], Tensor]
"""Inputs of the network's forward, each [n, ...], and the targets, [n, ...]; without labels the targets are [n, 0]."""

TARGET_KEYS = ("labels", "label", "targets", "target", "y")
"""What the targets are called in a batch whose parts have names."""


def unlabelled(targets: Tensor) -> bool:
    """Whether `targets` say that a batch has none."""
    return targets.ndim == 2 and targets.shape[1] == 0


class Reader:
    """A reader makes Batches of what a user's data yield, all of the form that the first has.

    That is a pair (inputs, targets), or the inputs alone: a tensor, or any tuple that is no pair. Inputs are a tensor,
    a tuple of them, nested or not, or a mapping or dataclass whose keys are arguments of the forward. Such a mapping
    may hold the targets too, by one of `TARGET_KEYS`.
    """

    def __init__(self, model: nn.Module | None = None) -> None:
        """`model`: whose forward takes the inputs; None: inputs are taken as they come."""
        parameters = [] if model is None else list(inspect.signature(model.forward).parameters.values())
        positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
        self._positional = [p.name for p in parameters if p.kind in positional]
        self._named = [p.name for p in parameters if p.kind in (*positional, inspect.Parameter.KEYWORD_ONLY)]
        self._required = {p.name for p in parameters if p.default is inspect.Parameter.empty}
        self._open = model is None or any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters)
        any_number = model is None or any(p.kind is inspect.Parameter.VAR_POSITIONAL for p in parameters)
        self._most = math.inf if any_number else len(self._positional)
        self._places: Any = None
        """The arguments of the forward, (positional, by name), with the number of an input for each."""

    def __call__(self, item: Any, split: str) -> Batch:
        """`item` as a Batch, or a `DataError` that says what is wrong with it."""
        arguments, targets = self._parted(item, split)
        leaves, form = tree_flatten(arguments)
        inputs = _tensors(leaves, targets, split)
        places = tree_unflatten(list(range(len(leaves))), form)
        if self._places is None:
            self._places = places
        elif places != self._places:
            raise DataError(
                f"every batch must have its inputs in the same form, but a {split} batch has {_shape(places)}, and the "
                f"first {_shape(self._places)}. Give all of them the same keys and nesting"
            )
        return inputs, torch.empty(len(inputs[0]), 0) if targets is None else targets

    def fitted(self, model: nn.Module) -> nn.Module:
        """`model`, or if its inputs have names or are nested a copy that takes them one after the other."""
        if self._places is None or self._places == (tuple(range(len(self._places[0]))), {}):
            return model
        return with_forward(model, self._places)

    def _parted(self, item: Any, split: str) -> tuple[Any, Any]:
        """The arguments of the forward, (positional, by name), and the targets, None if there are none."""
        if _by_name(item) is not None or isinstance(item, Tensor):
            inputs, targets = item, None
        elif isinstance(item, (tuple, list)):
            inputs, targets = item if len(item) == 2 else (item[0] if len(item) == 1 else item, None)
            if targets is None and isinstance(inputs, (tuple, list)) and len(inputs) > self._most:
                raise DataError(
                    f"a {split} batch must be a pair (x, y), or inputs alone, of which the network's forward takes "
                    f"{self._most}, got {type(item).__name__} of {len(item)}. Map your batches to (x, y) first"
                )
        else:
            raise DataError(
                f"a {split} batch must be a pair (x, y), a mapping by the forward's arguments, or inputs alone, got "
                f"{type(item).__name__}. Map your batches to (x, y) first"
            )
        named = _by_name(inputs)
        if named is None:
            return (tuple(inputs) if isinstance(inputs, (tuple, list)) else (inputs,), {}), targets
        labels = [key for key in named if key in TARGET_KEYS and key not in self._required]
        if len(labels) + (targets is not None) > 1:
            raise DataError(f"a {split} batch must have its targets in one place, got {', '.join(labels)} and more")
        if labels:
            targets = named.pop(labels[0])
        return self._ordered(named, split), targets

    def _ordered(self, named: dict[str, Any], split: str) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Inputs by name in the order of the forward's arguments, positional as far as they can be."""
        unknown = [key for key in named if key not in self._named]
        if unknown and not self._open:
            raise DataError(
                f"the keys of a {split} batch must be arguments of the network's forward or name the targets "
                f"({', '.join(TARGET_KEYS)}), got {unknown[0]!r}{nearest(unknown[0], self._named)}"
            )
        order = [name for name in self._named if name in named] + unknown
        leading = 0
        while leading < min(len(order), len(self._positional)) and order[leading] == self._positional[leading]:
            leading += 1
        return tuple(named[key] for key in order[:leading]), {key: named[key] for key in order[leading:]}


def _by_name(inputs: Any) -> dict[str, Any] | None:
    """The parts of a mapping or dataclass by name, those that are None left out; None: it is neither."""
    if isinstance(inputs, Mapping):
        parts = dict(inputs)
    elif is_dataclass(inputs) and not isinstance(inputs, type):
        parts = {field.name: getattr(inputs, field.name) for field in fields(inputs)}
    else:
        return None
    return {str(key): value for key, value in parts.items() if value is not None}


def _tensors(leaves: list[Any], targets: Any, split: str) -> tuple[Tensor, ...]:
    """The inputs of a batch, found to be tensors of as many samples as its targets; else a `DataError`."""
    parts = [*leaves, *([] if targets is None else [targets])]
    strange = [type(part).__name__ for part in parts if not isinstance(part, Tensor)]
    if strange or not leaves:
        raise DataError(
            f"the x and y of a {split} batch must be tensors (x may be a tuple of them), "
            f"got {strange[0] if strange else 'no input'}. Convert them with torch.as_tensor"
        )
    sizes = [part.shape[0] if part.ndim else 0 for part in parts]
    if len(set(sizes)) != 1 or not sizes[0]:
        raise DataError(
            f"the x and y of a {split} batch must have the same number of samples, at least 1, along their first "
            f"dimension, got shapes {[list(part.shape) for part in parts]}"
        )
    if any(part.is_floating_point() and part.isnan().any() for part in leaves):
        raise DataError(f"the x of a {split} batch must hold numbers, got NaN. Clean or impute the data first")
    return tuple(leaves)


def _shape(places: Any) -> str:
    """The form of inputs in words: how they are nested, by which names."""
    return " and ".join(str(part) for part in places if part)


class _Forward:
    """The forward of a network with its inputs one after the other, and with its main output alone if so wanted."""

    def __init__(self, model: nn.Module, places: Any, main_only: bool) -> None:
        """`places`: the arguments, (positional, by name), with the number of an input for each; None: as they come."""
        self._model, self._places, self._main_only = model, places, main_only
        self._inner: _Forward | None = vars(model).get("forward")

    def __call__(self, *inputs: Any) -> Any:
        args, kwargs = (inputs, {}) if self._places is None else tree_map(inputs.__getitem__, self._places)
        inner = self._inner or type(self._model).forward.__get__(self._model)
        outputs = inner(*args, **kwargs)
        return main_output(outputs) if self._main_only else outputs


def with_forward(model: nn.Module, places: Any = None, *, main_only: bool = False) -> nn.Module:
    """A copy of `model` whose forward takes tensors one after the other and puts them in their `places`.

    `main_only`: it returns `main_output`. The names of its modules and parameters stay.
    """
    changed = copied_model(model)
    changed.forward = _Forward(changed, places, main_only)
    return changed


def has_fields(outputs: Any) -> bool:
    """Whether `outputs` are a dataclass, or a mapping of a class of its own, such as those of transformers."""
    return type(outputs) is not dict and _by_name(outputs) is not None


def main_output(outputs: Any) -> Tensor:
    """What outputs with fields are scored by: the field `logits`, or else the first that is a tensor."""
    named = {key: value for key, value in (_by_name(outputs) or {}).items() if isinstance(value, Tensor)}
    if not named:
        raise DataError(f"the network must put out a tensor, got {type(outputs).__name__} without one")
    return named.get("logits", next(iter(named.values())))

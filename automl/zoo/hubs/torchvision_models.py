"""Networks of torchvision, by the names and options of `torchvision.models.get_model`."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from automl.zoo.hubs.base import Preprocessing, imported, numbers

if TYPE_CHECKING:
    from torch import nn


def names() -> list[str]:
    """The names that `torchvision.models.get_model` takes."""
    known: list[str] = _models().list_models()
    return known


def has(name: str) -> bool:
    """Whether `name` is one of them."""
    return name in names()


def make(name: str, options: Mapping[str, Any]) -> nn.Module:
    """What `get_model` makes, with new weights unless `pretrained: true` or `weights` is among the options."""
    models = _models()
    options = dict(options)
    if options.pop("pretrained", False):
        options.setdefault("weights", "DEFAULT")
    if "weights_backbone" in inspect.signature(models.get_model_builder(name)).parameters:
        options.setdefault("weights_backbone", None)  # it would be downloaded otherwise, asked for or not
    network: nn.Module = models.get_model(name, **options)
    return network


def preprocessing(name: str, options: Mapping[str, Any], network: nn.Module) -> Preprocessing:
    """What the weights that the options name expect, or else those that torchvision recommends."""
    weights = _models().get_model_weights(name)
    named = options.get("weights") or "DEFAULT"
    transform = (weights[named.rpartition(".")[2]] if isinstance(named, str) else named).transforms()
    side = getattr(transform, "crop_size", None)
    size = (side[0], side[-1]) if isinstance(side, (list, tuple)) else None
    return Preprocessing(transform, numbers(transform, "mean"), numbers(transform, "std"), size)


def _models() -> Any:
    return imported("torchvision", has="models").models

"""The built-in networks by name. The file of one, and torch, is loaded when it is first made."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from importlib import import_module
from typing import TYPE_CHECKING, Any

from automl.errors import ModelError
from automl.util.names import nearest

if TYPE_CHECKING:
    from torch import nn

_MODULES = {
    "resnet20": "resnet",
    "resnet32": "resnet",
    "resnet44": "resnet",
    "resnet56": "resnet",
    "resnet110": "resnet",
    "plain20": "resnet",
    "vgg16_bn": "vgg",
    "mobilenet_v1": "mobilenet",
    "mobilenet_v2": "mobilenet",
    "small_cnn": "small_cnn",
}
"""Network -> the module of this package in which a function of its name makes it."""


def names() -> list[str]:
    """The names that `create` knows."""
    return list(_MODULES)


def create(name: str, **options: Any) -> nn.Module:
    """A built-in network with freshly initialised weights.

    Every network has the options `classes` and `in_channels`, whole numbers of at least 1. `small_cnn` also has
    `width`, such a number of channels; `vgg16_bn` and `mobilenet_v2` have a `width` that multiplies their channels,
    above 0. Raises ModelError for an unknown name or option, offering the nearest one.
    """
    if name not in _MODULES:
        raise ModelError(f"unknown model {name!r}{nearest(name, _MODULES)}, or your own as 'module:function'")
    factory: Callable[..., nn.Module] = getattr(import_module(f"automl.zoo.{_MODULES[name]}"), name)
    known = inspect.signature(factory).parameters
    for option, value in options.items():
        if option not in known:
            raise ModelError(f"model {name!r} has no option {option!r}{nearest(option, known)}")
        _require_fitting(option, value, factor=known[option].annotation == "float")
    return factory(**options)


def _require_fitting(option: str, value: Any, factor: bool) -> None:
    """Refuse what is not a number above 0, or for an option that is no factor not a whole one. Errors: `ModelError`."""
    number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value) and value > 0
    if not number or not (factor or isinstance(value, int)):
        expected = "a number above 0" if factor else "a whole number of at least 1"
        raise ModelError(f"model option {option!r} must be {expected}, got {value!r}")

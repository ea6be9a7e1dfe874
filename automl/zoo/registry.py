"""The built-in networks by name."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from torch import nn

from automl.errors import ModelError
from automl.util.names import nearest
from automl.zoo.mobilenet import mobilenet_v1, mobilenet_v2
from automl.zoo.resnet import plain20, resnet20, resnet32, resnet44, resnet56, resnet110
from automl.zoo.small_cnn import small_cnn
from automl.zoo.vgg import vgg16_bn

_FACTORIES: dict[str, Callable[..., nn.Module]] = {
    factory.__name__: factory
    for factory in (
        resnet20, resnet32, resnet44, resnet56, resnet110, plain20, vgg16_bn, mobilenet_v1, mobilenet_v2, small_cnn
    )
}  # fmt: skip


def names() -> list[str]:
    """The names that `create` knows."""
    return list(_FACTORIES)


def create(name: str, **options: Any) -> nn.Module:
    """A built-in network with freshly initialised weights.

    Every network has the options `classes` and `in_channels`; `small_cnn` also has `width`. All are whole numbers
    of at least 1. Raises ModelError for an unknown name or option, offering the nearest one.
    """
    if name not in _FACTORIES:
        raise ModelError(f"unknown model {name!r}{nearest(name, _FACTORIES)}, or your own as 'module:function'")
    factory = _FACTORIES[name]
    known = inspect.signature(factory).parameters
    for option, value in options.items():
        if option not in known:
            raise ModelError(f"model {name!r} has no option {option!r}{nearest(option, known)}")
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise ModelError(f"model option {option!r} must be a whole number of at least 1, got {value!r}")
    return factory(**options)

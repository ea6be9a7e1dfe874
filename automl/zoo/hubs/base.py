"""What a hub is: a package of other people's networks, which makes them by name and knows how their inputs are made."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from automl.errors import ModelError

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class Preprocessing:
    """How the inputs of a network are made of images, texts or sounds, as its hub has it."""

    transform: Callable[..., Any]
    """The hub's own: of timm and torchvision from an image to a tensor [c, h, w]; of transformers the model's processor
    or tokenizer."""
    mean: tuple[float, ...] | None = None
    """Mean of each channel, for pixels scaled to [0, 1]; None: the hub does not say."""
    std: tuple[float, ...] | None = None
    """Standard deviation of each channel, for pixels scaled to [0, 1]; None: the hub does not say."""
    size: tuple[int, int] | None = None
    """Height and width of an input; None: the hub does not say, or any will do."""


class Hub(Protocol):
    """A hub is a module with these functions. Its package is loaded when one of them is called."""

    def names(self) -> list[str]:
        """The names of its networks."""

    def has(self, name: str) -> bool:
        """Whether `make` can be given this name."""

    def make(self, name: str, options: Mapping[str, Any]) -> nn.Module:
        """The network `name`. Nothing is downloaded unless the options ask for it. Raises what the package raises."""

    def preprocessing(self, name: str, options: Mapping[str, Any], network: nn.Module) -> Preprocessing | None:
        """How inputs are made for `network`, which `make` made; None if the hub does not know."""


def numbers(holder: Any, name: str) -> tuple[float, ...] | None:
    """The numbers that an object of a hub has under this name; None if it has none."""
    found = getattr(holder, name, None)
    return None if found is None else tuple(found)


def imported(package: str, has: str) -> Any:
    """The package of a hub, which has the attribute `has`. Errors: `ModelError` if it is not installed, or hidden."""
    try:
        let_torchvision_be_imported()
        module = importlib.import_module(package)
    except ModuleNotFoundError as error:
        if error.name != package:
            raise ModelError(f"importing {package} raised {error}: install what it lacks") from error
        raise ModelError(
            f"models named {package}:NAME are those of the package {package}, which is not installed: "
            f"pip install {package}"
        ) from error
    except Exception as error:
        raise ModelError(
            f"importing {package} raised {type(error).__name__}: {error}. Install a version that fits this torch"
        ) from error
    if not hasattr(module, has):
        raise ModelError(
            f"models named {package}:NAME are those of the package {package}, but `import {package}` finds "
            f"{getattr(module, '__file__', None) or 'a folder'}. Rename that"
        )
    return module


_KEPT: list[Any] = []
"""Libraries of operators, which last as long as the object that defined them."""


def let_torchvision_be_imported() -> None:
    """Define two operators for a torchvision whose compiled part does not fit the installed torch.

    Such is the one that comes from PyPI beside a CPU build of torch. Its import describes operators that the compiled
    part should have brought and fails; its networks need none of them. timm and transformers import it too. A
    torchvision that fits must define them itself, so that this is done only where it has failed.
    """
    try:
        importlib.import_module("torchvision")
    except ModuleNotFoundError:
        return  # whoever needs it will say so
    except RuntimeError as error:
        if "torchvision::nms" not in str(error):
            raise
        import torch

        library = torch.library.Library("torchvision", "DEF")
        for operator in ("nms", "qnms"):
            library.define(f"{operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        _KEPT.append(library)

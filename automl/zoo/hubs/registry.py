"""The hubs by the prefix of their networks' names, as in `timm:resnet18`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from automl.errors import ModelError
from automl.util.names import near
from automl.zoo.hubs import timm_models, torchvision_models, transformers_models
from automl.zoo.hubs.base import Hub, Preprocessing

if TYPE_CHECKING:
    from torch import nn

HUBS: Mapping[str, Hub] = {
    "timm": timm_models,
    "torchvision": torchvision_models,
    "transformers": transformers_models,
}
"""Prefix, which is also the name of the package -> hub."""


def of_a_hub(spec: str) -> bool:
    """Whether `spec` names a network of a hub. A module of one's own that has a hub's name is never meant."""
    return spec.partition(":")[0] in HUBS and ":" in spec


def make(spec: str, options: Mapping[str, Any], folder: str | None = None) -> nn.Module:
    """The network `spec`, `HUB:NAME`, made with `options`; a local folder among them is looked for in `folder`.

    Raises ModelError for a hub that is not installed, an unknown name, which offers the nearest, and for all that the
    hub refuses.
    """
    prefix, _, name = spec.partition(":")
    hub = HUBS[prefix]
    if not hub.has(name):
        raise ModelError(f"{prefix} has no model {name!r}{near(name, hub.names())}")
    options = _located(options, folder)
    try:
        return hub.make(name, options)
    except ModelError:
        raise
    except Exception as error:  # a hub raises whatever it likes
        raise ModelError(f"{spec} called with options {options} raised {type(error).__name__}: {error}") from error


def preprocessing(
    spec: str, network: nn.Module, options: Mapping[str, Any] | None = None, folder: str | None = None
) -> Preprocessing | None:
    """How inputs are made for `network`, which `spec` and `options` made.

    None: it is of no hub, or its hub cannot say.
    """
    if not of_a_hub(spec):
        return None
    prefix, _, name = spec.partition(":")
    return HUBS[prefix].preprocessing(name, _located(options or {}, folder), network)


def _located(options: Mapping[str, Any], folder: str | None) -> dict[str, Any]:
    """The options with the folder of pretrained weights, relative to `folder`, where it lies."""
    place = options.get("pretrained")
    if isinstance(place, str) and (path := Path(folder or "") / Path(place).expanduser()).is_dir():
        return {**options, "pretrained": str(path)}
    return dict(options)

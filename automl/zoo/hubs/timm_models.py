"""Networks of timm, by the names and options of `timm.create_model`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from automl.zoo.hubs.base import Preprocessing, imported

if TYPE_CHECKING:
    from torch import nn


def names() -> list[str]:
    """The names of its architectures, without the tags of pretrained weights."""
    known: list[str] = _timm().list_models()
    return known


def has(name: str) -> bool:
    """Whether `name` is one of them, with a tag or without, or says where a network lies, as `local-dir:PATH`."""
    return ":" in name or name.partition(".")[0] in names()


def make(name: str, options: Mapping[str, Any]) -> nn.Module:
    """What `timm.create_model` makes, with new weights unless `pretrained: true` is among the options."""
    network: nn.Module = _timm().create_model(name, **options)
    return network


def preprocessing(name: str, options: Mapping[str, Any], network: nn.Module) -> Preprocessing:
    """What timm says of the pretrained network, with the image size that the options give."""
    data = _timm().data
    size = options.get("img_size")
    sizes = {} if size is None else {"input_size": (3, *((size, size) if isinstance(size, int) else size))}
    config = data.resolve_model_data_config(network, args=sizes)
    transform = data.create_transform(**config, is_training=False)
    height, width = config["input_size"][1:]
    return Preprocessing(transform, tuple(config["mean"]), tuple(config["std"]), (height, width))


def _timm() -> Any:
    return imported("timm", has="create_model")

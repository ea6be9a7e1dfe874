"""Networks of transformers, by the name of their class: a model's own, or an `Auto` one.

Options are values of the model's configuration. Two are more than that: `pretrained` is an ID of the hub, or a folder,
whose weights and configuration the model has; `model_type` says which configuration an `Auto` class gets without one.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from automl.errors import ModelError
from automl.util.names import near
from automl.zoo.hubs.base import Preprocessing, imported, numbers

if TYPE_CHECKING:
    from torch import nn


def names() -> list[str]:
    """The names of its models' classes."""
    return [name for name in dir(_transformers()) if "Model" in name or "For" in name]


def has(name: str) -> bool:
    """Whether `name` is one of them."""
    return name in names()


def make(name: str, options: Mapping[str, Any]) -> nn.Module:
    """A model of the class `name` in float32: pretrained if the options say so, else new from its configuration."""
    import torch

    cls = getattr(_transformers(), name)
    options = dict(options)
    source = options.pop("pretrained", None) or None
    if source is True:
        raise ModelError(f"pretrained of transformers:{name} must be the ID of a model or a folder, got true")
    if source is not None:
        network = cls.from_pretrained(source, **{"dtype": torch.float32, **options})
    elif hasattr(cls, "from_config"):
        network = cls.from_config(_of_type(name, options))
    else:
        _require_known(cls.config_class(), options)
        network = cls(cls.config_class(**options))
    if "use_cache" not in options:
        network.config.use_cache = False  # keys and values kept for a next token are no outputs to be compressed
    made: nn.Module = network
    return made


def preprocessing(name: str, options: Mapping[str, Any], network: nn.Module) -> Preprocessing | None:
    """The processor or tokenizer that lies beside the pretrained weights; None: there are none, or it does not."""
    source = options.get("pretrained")
    if not source:
        return None
    try:
        processor = _transformers().AutoProcessor.from_pretrained(source)
    except (OSError, ValueError):
        return None
    images = getattr(processor, "image_processor", processor)
    size = getattr(images, "crop_size", None) if getattr(images, "do_center_crop", False) else None
    size = dict(size or getattr(images, "size", None) or {})
    return Preprocessing(
        processor,
        numbers(images, "image_mean"),
        numbers(images, "image_std"),
        (size["height"], size["width"]) if size.get("height") and size.get("width") else None,
    )


def _of_type(name: str, options: dict[str, Any]) -> Any:
    """The configuration of an `Auto` class: of the type that the options name, with their other values."""
    kind = options.pop("model_type", None)
    if kind is None:
        raise ModelError(
            f"transformers:{name} is no model by itself: give `pretrained`, the ID of a model or a folder, or "
            f"`model_type`, such as bert, with values of its configuration"
        )
    config = _transformers().AutoConfig
    _require_known(config.for_model(kind), options)
    return config.for_model(kind, **options)


def _require_known(config: Any, options: Mapping[str, Any]) -> None:
    """Refuse options that the configuration does not have: it would take them without a word."""
    for option in options:
        if not hasattr(config, option):
            known = (*config.to_dict(), *getattr(config, "attribute_map", ()), "num_labels")
            raise ModelError(f"{type(config).__name__} has no value {option!r}{near(option, known)}")


def _transformers() -> Any:
    return imported("transformers", has="AutoModel")

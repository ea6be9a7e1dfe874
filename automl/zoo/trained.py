"""A trained network from a name or the user's own code, with weights from a safetensors file."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from automl.errors import ModelError
from automl.util.names import nearest
from automl.zoo.hubs.registry import make, of_a_hub
from automl.zoo.registry import create


def load_model(
    spec: str, options: Mapping[str, Any] | None = None, weights: str | None = None, folder: str | None = None
) -> nn.Module:
    """The network that `spec` names, with its weights, in eval mode.

    `spec` is a built-in name, "timm:NAME", "torchvision:NAME", "transformers:CLASS", or "module:function", whose
    function is called with `options` and returns an `nn.Module`; its module must be importable. `weights` is the path
    of a safetensors state dict; without it the network keeps the weights it was made with. `folder` is where a folder
    of pretrained weights that `options` name is looked for. Raises ModelError.
    """
    options = options or {}
    if of_a_hub(spec):
        network = make(spec, options, folder)
    else:
        network = _call(spec, options) if ":" in spec else create(spec, **options)
    if weights is not None:
        load_weights(network, Path(weights))
    return network.eval()


def _call(spec: str, options: Mapping[str, Any]) -> nn.Module:
    module_name, _, function_name = spec.partition(":")
    if not module_name or not function_name:
        raise ModelError(f"a model of your own is named as 'module:function', got {spec!r}")
    try:
        module = importlib.import_module(module_name)
    except ImportError as error:
        raise ModelError(
            f"cannot import {module_name!r} for model {spec!r}: {error}. "
            f"The module must lie beside the study file or be installed"
        ) from error
    except Exception as error:
        raise ModelError(f"importing {module_name!r} for model {spec!r} raised {error!r}") from error
    function = getattr(module, function_name, None)
    if not callable(function):
        functions = [name for name, value in vars(module).items() if getattr(value, "__module__", "") == module_name]
        raise ModelError(f"module {module_name!r} has no function {function_name!r}{nearest(function_name, functions)}")
    try:
        network = function(**options)
    except Exception as error:
        raise ModelError(f"{spec} called with options {dict(options)} raised {error!r}") from error
    if not isinstance(network, nn.Module):
        raise ModelError(f"{spec} must return a torch.nn.Module, got {type(network).__name__}")
    return network


def load_weights(network: nn.Module, path: Path) -> None:
    """Copy the tensors of a safetensors file into `network`; all keys and shapes must fit, or it is a `ModelError`.

    Counters of seen batches may be missing, as may a name that shares its tensor with one that is there
    (safetensors stores a shared tensor once).
    """
    try:
        found = load_file(path)
    except FileNotFoundError as error:
        raise ModelError(f"no weights file at {path}") from error
    except (SafetensorError, OSError) as error:
        raise ModelError(
            f"{path} is not a readable safetensors file ({error}); "
            f"write one with safetensors.torch.save_file(model.state_dict(), path)"
        ) from error
    expected = network.state_dict()
    problems = _mismatches(expected, found)
    if problems:
        more = f" and {len(problems) - 3} more" if len(problems) > 3 else ""
        raise ModelError(
            f"the weights in {path} do not fit {type(network).__name__}: {'; '.join(problems[:3])}{more}. "
            f"Check the model's name and options against the ones it was trained with"
        )
    network.load_state_dict(found, strict=False)


def _mismatches(expected: Mapping[str, Tensor], found: Mapping[str, Tensor]) -> list[str]:
    covered = {expected[key].data_ptr() for key in found if key in expected}
    missing = [
        f"{key} is missing"
        for key, tensor in expected.items()
        if key not in found and not key.endswith("num_batches_tracked") and tensor.data_ptr() not in covered
    ]
    shapes = [
        f"{key} has shape {list(found[key].shape)}, the model needs {list(tensor.shape)}"
        for key, tensor in expected.items()
        if key in found and found[key].shape != tensor.shape
    ]
    unknown = [f"{key} is not in the model" for key in found if key not in expected]
    return shapes + missing + unknown

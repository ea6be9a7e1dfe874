"""Functions of the user's own, named in a study file as `module:function`."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

from automl.errors import ConfigError, DataError


def named_function(spec: str, what: str) -> Callable[..., Any]:
    """The function `spec`, `module:function`, which the key `what` names. Errors: `ConfigError`, `DataError`."""
    module_name, _, function_name = spec.partition(":")
    try:
        module = importlib.import_module(module_name)
    except Exception as error:  # a user's module raises whatever it likes
        raise DataError(
            f"cannot import {module_name!r} for {what} {spec!r}: {type(error).__name__}: {error}. "
            f"The module must lie beside the study file or be installed"
        ) from error
    function: Callable[..., Any] | None = getattr(module, function_name, None)
    if not callable(function):
        raise ConfigError(f"module {module_name!r} has no function {function_name!r} for {what} {spec!r}")
    return function

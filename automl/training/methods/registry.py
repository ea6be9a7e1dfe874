"""The methods by which a training brings a network to its zeros, by name."""

from __future__ import annotations

from collections.abc import Callable

from automl.config.method import DEFAULTS, MethodOptions
from automl.errors import ConfigError
from automl.training.methods.ac_dc import AlternatingCompression
from automl.training.methods.base import Method
from automl.training.methods.connectivity import ConnectivityLearning
from automl.training.methods.constrained_l0 import DualPrice, PriceOfEach
from automl.training.methods.cram import CompressionAware
from automl.training.methods.gradual import GradualPruning
from automl.training.methods.iterative import IterativePruning
from automl.training.methods.l0 import FixedPrice, L0Gates
from automl.training.methods.regrowth import Regrowth
from automl.training.methods.supermask import Supermask
from automl.training.methods.target import Target
from search_spaces import Offered

OFFERED: Offered[Callable[..., Method]] = Offered(
    "automl.methods",
    "a subclass of automl.training.methods.base.Method",
    lambda name, found: isinstance(found, type) and issubclass(found, Method),
    lambda: DEFAULTS,
    ConfigError,
)
"""Those that packages bring: each is made of its target and the options that the study gives, and begins dense."""


def require_method(options: MethodOptions) -> None:
    """Raise `ConfigError` unless the method that `options` name can be made with them; looks at those of packages."""
    if options.name not in DEFAULTS:
        _offered(options, Target({}))


def method_of(options: MethodOptions, target: Target) -> Method:
    """The method that `options` name, made for `target`. Errors: `ConfigError`."""
    settled = options.settled
    match options.name:
        case "gradual":
            return GradualPruning(target, **settled)
        case "iterative":
            return IterativePruning(target, **settled)
        case "set":
            return Regrowth(target, grow="random", **settled)
        case "rigl":
            return Regrowth(target, grow="gradient", **settled)
        case "ac_dc":
            return AlternatingCompression(target, **settled)
        case "cram":
            return CompressionAware(target, **settled)
        case "l0":
            return L0Gates(target, FixedPrice(settled.pop("strength")), **settled)
        case "constrained_l0":
            return L0Gates(target, DualPrice(target.counts, settled.pop("dual_rate")), **settled)
        case "scl":
            return ConnectivityLearning(target, FixedPrice(settled.pop("strength")), **settled)
        case "constrained_scl":
            return ConnectivityLearning(target, PriceOfEach(target.counts, settled.pop("dual_rate")), **settled)
        case "supermask":
            return Supermask(target, **settled)
        case _:
            return _offered(options, target)


def _offered(options: MethodOptions, target: Target) -> Method:
    """A method that a package brings."""
    method = OFFERED.load(options.name)
    try:
        return method(target, **options.settled)
    except Exception as error:  # another package's class raises whatever it likes
        raise ConfigError(
            f"the method {options.name!r} cannot be made with the options {dict(options.settled)}: "
            f"{type(error).__name__}: {error}"
        ) from error

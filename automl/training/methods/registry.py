"""The methods by which a training brings a network to its zeros, by name."""

from __future__ import annotations

from automl.config.method import MethodOptions
from automl.training.methods.ac_dc import AlternatingCompression
from automl.training.methods.base import Method
from automl.training.methods.constrained_l0 import DualPrice
from automl.training.methods.cram import CompressionAware
from automl.training.methods.gradual import GradualPruning
from automl.training.methods.iterative import IterativePruning
from automl.training.methods.l0 import FixedPrice, L0Gates
from automl.training.methods.regrowth import Regrowth
from automl.training.methods.target import Target


def method_of(options: MethodOptions, target: Target) -> Method:
    """The method that `options` name, made for `target`."""
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

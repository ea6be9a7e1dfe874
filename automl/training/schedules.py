"""Schedules of the learning rate: which part of the highest rate a step has."""

from __future__ import annotations

import math

from automl.config.training import TrainingOptions
from automl.errors import ConfigError
from automl.util.own_code import named_function

FIRST, LAST = 1 / 25, 1e-4
"""Of one_cycle, as in PyTorch's `OneCycleLR`: the part of the highest rate that it begins with, and of that the part
that it ends with."""


def learning_rate(options: TrainingOptions, progress: float) -> float:
    """The learning rate after the fraction `progress` of all steps."""
    cycles = options.method.cycles if options.method is not None else 1
    if cycles > 1 and progress < 1:
        progress = progress * cycles % 1
    if options.rewind is not None:
        progress = 1 - options.rewind * (1 - progress)
    return options.highest_rate * _part(options, progress)


def _part(options: TrainingOptions, progress: float) -> float:
    """The part of the highest rate, rising until the end of the warm-up and then as the schedule says."""
    if ":" in options.schedule:
        return _own(options.schedule, progress)
    if progress < options.warmup:
        risen = progress / options.warmup
        return 1 + (FIRST - 1) * _cosine(risen) if options.schedule == "one_cycle" else risen
    after = (progress - options.warmup) / (1 - options.warmup)
    match options.schedule:
        case "linear":
            return 1 - after
        case "constant":
            return 1.0
        case "step":
            passed = sum(progress >= milestone for milestone in options.milestones)
            return float(options.factor**passed)
        case "one_cycle":
            return FIRST * LAST + (1 - FIRST * LAST) * _cosine(after)
        case _:
            return _cosine(after)


def _cosine(x: float) -> float:
    """From 1 at 0 along half a cosine to 0 at 1 (Loshchilov & Hutter 2017, arXiv 1608.03983, equation 5)."""
    return (1 + math.cos(math.pi * x)) / 2


def _own(spec: str, progress: float) -> float:
    part = float(named_function(spec, "schedule")(progress))
    if not (math.isfinite(part) and part >= 0):
        raise ConfigError(f"the schedule {spec} must return a part of the highest rate, at least 0, got {part}")
    return part

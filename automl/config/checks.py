"""Checks of what one section of a study file means for another: each function raises `ConfigError` if two do not fit.

What a section can check by itself it checks when it is made.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from automl.errors import ConfigError
from automl.tasks.objectives import WEIGHED

if TYPE_CHECKING:
    from automl.config.study import StudyConfig


def require_consistent(config: StudyConfig) -> None:
    """Raise the `ConfigError` of the first check that fails."""
    for check in CHECKS:
        check(config)


def require_an_end(config: StudyConfig) -> None:
    """A search needs a budget, unless its objective weighs accuracy against cost."""
    if not config.budget and config.objective not in WEIGHED:
        raise ConfigError(
            f"budget is missing: give one, for example `macs <= 50%`, or an objective that weighs accuracy against "
            f"cost and needs none, {' or '.join(WEIGHED)}"
        )


def require_limited_latency(config: StudyConfig) -> None:
    """The section `latency` needs a budget on latency."""
    if config.latency is not None and config.parsed_budget.latency is None:
        raise ConfigError("the section `latency` says how a budget on latency is measured, and there is none")


def require_lowered_costs(config: StudyConfig) -> None:
    """Zeros among weights lower neither the MACs that an objective weighs nor every cost that a budget may limit."""
    if config.space.name != "weights":
        return
    if config.objective == "error_log_macs":
        raise ConfigError("zeros do not lower MACs: with `space: weights` set `objective: error_log_params`")
    from search_spaces import WeightSpace  # loads torch, which other studies need not wait for

    for term in config.parsed_budget.terms:
        if term.metric not in WeightSpace.metrics:
            raise ConfigError(
                f"zeros do not lower {term.metric}, kernels multiply by them: with `space: weights` limit `params` "
                f"or `size`, or search `space: channels`"
            )


def require_channels_to_sparsify(config: StudyConfig) -> None:
    """`sparsify` needs a space that removes whole channels."""
    if config.sparsify is not None and config.space.name == "weights":
        raise ConfigError(
            "sparsify presses whole channels towards zero: leave it out of a space of weights, or set "
            "`space: channels` or `depth`"
        )


def require_dense_blocks(config: StudyConfig) -> None:
    """Tuning block by block needs a space whose networks have no zeros to keep."""
    if config.finish.reconstruction == "blockwise" and config.space.name == "weights":
        raise ConfigError(
            "finish.reconstruction: blockwise would give removed weights back: leave it out of a space of weights, "
            "and train instead (`finish.training`)"
        )


def require_trained_stages(config: StudyConfig) -> None:
    """`finish.stages` needs a space of channels, and a training for each stage."""
    if config.finish.stages is None:
        return
    if config.space.name != "channels":
        raise ConfigError(
            f"finish.stages cuts channels again and again: set `space: channels`, or leave it out of a space of "
            f"{config.space.name}"
        )
    if config.training is None:
        raise ConfigError(
            "finish.stages says how often networks are cut and trained, and not how they are trained: set "
            "`finish.training` too, for example `training: {epochs: 30}`, or leave it out"
        )


def require_priced_latency(config: StudyConfig) -> None:
    """A budget on latency needs a space whose every choice a latency table prices."""
    if config.space.name == "depth" and config.parsed_budget.latency is not None:
        raise ConfigError(
            "a latency table prices the widths of groups, not the removal of layers: with `space: depth` limit "
            "`macs`, `params` or `size`, or search `space: channels`"
        )


CHECKS = (
    require_an_end,
    require_limited_latency,
    require_lowered_costs,
    require_channels_to_sparsify,
    require_dense_blocks,
    require_trained_stages,
    require_priced_latency,
)
"""In the order in which their errors are told."""

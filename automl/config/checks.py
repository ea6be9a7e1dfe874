"""Checks of what one section of a study file means for another: each function raises `ConfigError` if two do not fit.

What a section can check by itself it checks when it is made.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import agents
from automl.config.budget import PEAK, written_as
from automl.config.latency import PREDICTED
from automl.errors import ConfigError
from automl.tasks.objectives import BOUNDED_DROP, COMPARED, ERROR_TIMES_LOG, WEIGHED, known_objectives, maximized
from automl.util.names import nearest

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


def require_direction(config: StudyConfig) -> None:
    """The direction of an objective is known, or said; not both in contradiction."""
    objectives = known_objectives(config.task_name)
    known = config.objective in objectives
    if not known and config.direction is None:
        raise ConfigError(
            f"direction is missing: if {config.objective!r} is a metric of your own, say which is better, `direction: "
            f"maximize` or `minimize`; else it is no objective{nearest(config.objective, objectives)}"
        )
    better = "maximize" if config.objective in maximized(config.task_name) else "minimize"
    if known and config.direction not in (None, better):
        raise ConfigError(f"{config.objective} is to {better}: leave out the direction, got {config.direction!r}")


def require_bounded_drop(config: StudyConfig) -> None:
    """An objective that is bounded by a drop needs the guarantee that bounds it."""
    if config.objective == BOUNDED_DROP and not config.most_lost:
        raise ConfigError(
            f"{BOUNDED_DROP} weighs what is lost against a bound above 0: set `guarantee: accuracy drop <= 1%`, or of "
            f"the metric of your task, got {config.guarantee!r}"
        )


def require_limited_latency(config: StudyConfig) -> None:
    """The section `latency` needs a budget on latency."""
    if config.latency is not None and config.parsed_budget.latency is None:
        raise ConfigError("the section `latency` says how a budget on latency is measured, and there is none")


def require_lowered_costs(config: StudyConfig) -> None:
    """An objective and a budget need costs that the operators lower."""
    operators, lowers = config.space.operators, config.space.lowers
    names = " and ".join(operators)
    weighed = "params" if config.objective == BOUNDED_DROP else ERROR_TIMES_LOG.get(config.objective)
    if weighed is not None and weighed not in lowers:
        others = [f"set `objective: {objective}`" for objective, cost in ERROR_TIMES_LOG.items() if cost in lowers]
        remedy = others[0] if others else "choose an objective that weighs no cost, and a budget"
        raise ConfigError(f"{names} does not lower {weighed}: {remedy}")
    for metric in (term.metric for term in config.parsed_budget.terms if term.metric != PREDICTED):
        if metric == "bops" and "code" not in operators:
            raise ConfigError(
                "a budget on bops counts bits, which only the operator code changes: add it to the space, or limit macs"
            )
        if metric not in lowers:
            limits = " or ".join(f"`{written_as(cost)}`" for cost in sorted(lowers))
            raise ConfigError(
                f"{names} does not lower {written_as(metric)}: limit {limits}, or search an operator that does, such "
                f"as channels"
            )


def require_joinable_sections(config: StudyConfig) -> None:
    """An operator may not go with a section of the study."""
    for name, options in config.space.operators.items():
        if config.training is not None and (why := options.excludes.get("training")):
            raise ConfigError(f"{name} and training cannot be joined: {why}")


def require_channels_to_sparsify(config: StudyConfig) -> None:
    """`sparsify` needs a space that removes whole channels."""
    if config.sparsify is not None and "channels" not in config.space.operators:
        raise ConfigError(
            "sparsify presses whole channels towards zero: leave it out of a space without the operator channels, or "
            "set `space: channels` or `depth`"
        )


def require_trained_stages(config: StudyConfig) -> None:
    """`finish.stages` needs a space of channels, and a training for each stage."""
    if config.finish.stages is None:
        return
    if set(config.space.operators) != {"channels"}:
        raise ConfigError(
            f"finish.stages cuts channels again and again: set `space: channels`, or leave it out of a space of "
            f"{' and '.join(config.space.operators)}"
        )
    if config.training is None:
        raise ConfigError(
            "finish.stages says how often networks are cut and trained, and not how they are trained: set "
            "`finish.training` too, for example `training: {epochs: 30}`, or leave it out"
        )
    if config.finish.stages.growing_decay is not None and config.training.epochs < 2:
        raise ConfigError(
            f"finish.stages.growing_decay takes epochs before the cut of a stage and leaves some for after it: the "
            f"training needs at least 2, got {config.training.epochs}"
        )


def require_scratch_of_structure(config: StudyConfig) -> None:
    """`finish.scratch` needs a structure to train from new weights, and a training."""
    if config.finish.scratch is None:
        return
    strange = [name for name in config.space.operators if name not in ("channels", "depth", "rank")]
    if config.space.of_cells is not None or strange:
        raise ConfigError(
            f"finish.scratch trains what channels, depth and rank leave of a network from new weights: leave it out of "
            f"a space {f'with {strange[0]}' if strange else 'of cells, whose networks are new'}"
        )
    if config.training is None:
        raise ConfigError(
            "finish.scratch is a control of networks that are trained, and these are not: set `finish.training` too, "
            "for example `training: {epochs: 30}`, or leave it out"
        )


def require_trained_cells(config: StudyConfig) -> None:
    """New networks are trained, from labels alone, and compared by what they are worth; their latency is not known."""
    if config.space.of_cells is None:
        return
    supernet = config.evaluation.supernet
    if config.evaluation.training is None and (supernet is None or supernet.check):
        raise ConfigError(
            "the networks of a space of cells are new, and worth nothing until they are trained: set how each trial "
            "is, for example `evaluation: {training: {epochs: 5}}`"
        )
    if config.training is None and supernet is not None and not supernet.inherit:
        raise ConfigError(
            "networks that are reported are trained from new weights: set `finish.training`, or let them keep those of "
            "the supernet, `evaluation.supernet.inherit: true`"
        )
    for agent in dict.fromkeys(agent.name for agent in config.known_agents):
        if not agents.takes_choices(agent):
            able = filter(agents.takes_choices, agents.sound_names())
            raise ConfigError(
                f"agent {agent!r} needs levels with an order of cost, and kinds of block have none: search a space of "
                f"cells with some of {', '.join(able)}"
            )
    for training in filter(None, (config.evaluation.training, config.finish.training)):
        if training.distillation is not None:
            raise ConfigError(
                "distillation learns from the original network, which a space of cells has not: leave it out"
            )
    from automl.tasks.base import DIVERGENCE  # loads torch, which a study of another space need not wait for

    if config.objective in (*COMPARED, DIVERGENCE):
        raise ConfigError(
            f"{config.objective} compares with an original network, which a space of cells has not: leave it out"
        )
    if config.parsed_budget.latency is not None:
        raise ConfigError("no latency is predicted in a space of cells: limit `macs`, `params` or `size`")
    if config.finish.reconstruction == "blockwise":
        raise ConfigError("blockwise imitates an original network, which a space of cells has not: leave it out")


def require_shared_cells(config: StudyConfig) -> None:
    """Weights are shared by networks of cells, and trials that have them are not trained epoch by epoch."""
    if config.evaluation.supernet is None:
        return
    if config.space.of_cells is None:
        raise ConfigError(
            "evaluation.supernet shares weights among networks that are made from nothing: search `space: cells`, or "
            "leave it out. One network of many widths is made by `automl slim`"
        )
    if config.evaluation.scheduler is not None:
        raise ConfigError(
            "a scheduler ends the training of trials, and trials that share weights are not trained: leave out "
            "evaluation.scheduler or evaluation.supernet"
        )


def require_predicted_seconds(config: StudyConfig) -> None:
    """How long a training takes is predicted in a space of cells only."""
    if config.space.of_cells is None and any(training.seconds for training in config.trainings):
        raise ConfigError("the seconds of a training are predicted in a space of cells only: set its epochs instead")
    if config.evaluation.scheduler is not None and config.evaluation.training and config.evaluation.training.seconds:
        raise ConfigError("a scheduler compares trials epoch by epoch, of which each has its own number by its seconds")


def require_workers_at_the_end(config: StudyConfig) -> None:
    """Trials run beside each other, each in one process."""
    if config.evaluation.training is not None and config.evaluation.training.workers > 1:
        raise ConfigError(
            f"evaluation.training has workers {config.evaluation.training.workers}, and a trial is trained by one: set "
            f"workers in `finish.training` or `sparsify.training`, and run several trials at once by `--workers`"
        )


def require_counted_zeros(config: StudyConfig) -> None:
    """A training brings zeros about where the operator sparsity says how many, and lets them move if it may."""
    if config.sparsify is not None and config.sparsify.training.method is not None:
        raise ConfigError(
            "sparsify.training.method would bring zeros about before the search has said how many: leave it out there, "
            "and set it in `finish.training`"
        )
    sparsity = config.space.operators.get("sparsity")
    for options in (config.evaluation.training, config.finish.training):
        if options is None or options.method is None:
            continue
        name = options.method.name
        if "code" in config.space.operators:
            raise ConfigError(
                f"training.method: {name} changes which weights are zero, and those that code has rounded keep their "
                f"places: leave the method out, and zeros stay where they are, or leave out the operator code"
            )
        if sparsity is None:
            raise ConfigError(
                f"training.method: {name} brings zeros about, and nothing says how many: add the operator sparsity to "
                f"the space, or leave the method out"
            )
        if not options.method.dense and getattr(sparsity, "pattern", "unstructured") != "unstructured":
            raise ConfigError(
                f"training.method: {name} lets single weights change places, which a pattern does not allow: set "
                f"another method, or `pattern: unstructured`"
            )


def require_priced_latency(config: StudyConfig) -> None:
    """A budget on latency needs a space in which something changes it: zeros and integers do not."""
    if config.parsed_budget.latency is not None and "macs" not in config.space.lowers:
        raise ConfigError(
            f"{' and '.join(config.space.operators)} does not lower latency, as networks compute with zeros and "
            f"integers as if they were dense: limit `size`, or search channels, depth or rank too"
        )


def require_foreseen_memory(config: StudyConfig) -> None:
    """A budget on peak memory needs operators whose effect on it is known before anything is built."""
    if all(term.metric != PEAK for term in config.parsed_budget.terms):
        return
    operators = config.space.operators
    reasons = {
        "rank": ("between the two layers that a layer becomes is one value more", "rank" in operators),
        "depth.skips": ("a skip keeps a value for longer", getattr(operators.get("depth"), "skips", False)),
        "code.inputs": (
            "what layers read is rounded in copies here, which take memory that integers do not",
            getattr(operators.get("code"), "inputs", "float32") != "float32",
        ),
    }
    for what, (why, is_so) in reasons.items():
        if is_so:
            raise ConfigError(
                f"no peak memory is foretold with {what}: {why}. Limit `macs` or `size` instead, or leave it out"
            )


CHECKS = (
    require_an_end,
    require_direction,
    require_bounded_drop,
    require_limited_latency,
    require_lowered_costs,
    require_joinable_sections,
    require_channels_to_sparsify,
    require_trained_stages,
    require_scratch_of_structure,
    require_counted_zeros,
    require_workers_at_the_end,
    require_priced_latency,
    require_foreseen_memory,
    require_trained_cells,
    require_shared_cells,
    require_predicted_seconds,
)
"""In the order in which their errors are told."""

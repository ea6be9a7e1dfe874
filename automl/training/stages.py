"""Prune and tune in stages: budgets that fall step by step, each network cut for real from the one tuned before."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from torch import nn

from automl.errors import ConfigError
from automl.evaluation import EvaluationOptions, Evaluator
from automl.problem import Problem
from automl.training.greedy import global_greedy
from automl.training.sparsity import energies, relative
from search_spaces import ChannelSpace, Plan, Point

Limits = Mapping[str, float]
"""Cost metric -> upper limit in absolute units."""

Cut = Callable[[ChannelSpace, Limits], tuple[Plan, nn.Module]]
"""(what is left, limits) -> which channels stay, and the network cut to them."""

Schedule = Callable[[float], float]
"""Progress of a training in [0, 1] -> its learning rate."""


@dataclass(frozen=True)
class StageOptions:
    """How a network is pruned and tuned in stages; a value that makes no sense is a `ConfigError`."""

    count: int = 1
    """In how many stages the budget is reached."""
    rewind: Literal["none", "rate", "weights"] = "none"
    """What each stage's training goes back to: nothing; the learning rate of the last `part` of the original training;
    or that and the weights of the same time (`rewound`, `prune_in_stages`)."""
    part: float = 1.0
    """The part of the original training that is gone back, in (0, 1]."""

    def __post_init__(self) -> None:
        if self.count < 1:
            raise ConfigError(f"count is a number of stages, at least 1, got {self.count}")
        if not 0 < self.part <= 1:
            raise ConfigError(f"part is a part of the original training, in (0, 1], got {self.part}")


@dataclass(frozen=True)
class Stage:
    """A network that was cut and tuned."""

    limits: Limits
    plan: Plan
    """What is left of the original network."""
    network: nn.Module


def stages(original: Limits, final: Limits, count: int) -> list[dict[str, float]]:
    """The limits of `count` stages, of which each leaves the same fraction of the cost before: `original` to `final`.

    With s removed in all, each stage removes 1 - (1 - s)^(1 / count) of what it finds. `original`: the costs of the
    whole network; a metric that `final` does not limit is left out.
    """
    if count < 1:
        raise ConfigError(f"the number of stages must be at least 1, got {count}")
    steps = [
        {name: original[name] * (final[name] / original[name]) ** (i / count) for name in final}
        for i in range(1, count)
    ]
    return [*steps, dict(final)]


def rewound(schedule: Schedule, part: float) -> Schedule:
    """The last `part` of `schedule`, in (0, 1], as a schedule: learning-rate rewinding (Renda et al. 2020).

    With t of T epochs, `part` is t / T. For weight rewinding it belongs to the weights that epoch T - t had.
    """
    if not 0 < part <= 1:
        raise ConfigError(f"what is rewound is a part of the original training, in (0, 1], got {part}")
    return lambda progress: schedule(1 - part * (1 - progress))


def towards(space: ChannelSpace, point: Point, limits: Limits) -> Point:
    """The Point on the way from the whole network to `point` that is as large as `limits` allow.

    Every keep fraction k of `point` becomes k^a with one a in [0, 1] for all, rounded up to a legal level; in a
    narrowed space at most what it has left. If `point` itself exceeds the limits, it is returned.
    """
    goal = np.minimum(space.levels(point), space.highest)
    keep = goal / np.array([knob.size for knob in space.knobs])

    def at(exponent: float) -> np.ndarray:
        return np.array(
            [_at_least(knob.levels, share**exponent * knob.size) for knob, share in zip(space.knobs, keep, strict=True)]
        )

    if not space.within(goal, limits):
        return space.point(goal.tolist())
    low, high = 0.0, 1.0  # at high the limits are kept
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (low, middle) if space.within(at(middle), limits) else (middle, high)
    return space.point(at(high).tolist())


def _at_least(levels: Sequence[int], wanted: float) -> int:
    return next((level for level in levels if level >= wanted - 1e-9), levels[-1])


def cut_greedily(space: ChannelSpace, limits: Limits, *, within_groups: bool = False) -> tuple[Plan, nn.Module]:
    """A `Cut` that removes the channels of least energy in the whole network (OICSR; `global_greedy`).

    As energies depend on how many layers share a channel, and how large they are, it can empty a layer unless a
    sparsity-inducing training went before; `within_groups` compares them as fractions of their group's largest.
    """
    scores = energies(space)
    if within_groups:
        scores = relative(scores)
    plan = space.plan(global_greedy(space, scores, limits), scores)
    return plan, space.build(plan)


def cut_towards(
    problem: Problem, point: Point, options: EvaluationOptions | None = None, threads: int | None = None
) -> Cut:
    """A `Cut` that goes `towards` a Point, as a trial is built: channels chosen, weights refitted, norms re-estimated.

    All of it on the network as it was tuned last; `problem` gives the data.
    """

    def cut(space: ChannelSpace, limits: Limits) -> tuple[Plan, nn.Module]:
        evaluator = Evaluator(problem, space, options, threads=threads)
        chosen = towards(space, point, limits)
        return evaluator.plan(chosen), evaluator.network(chosen)

    return cut


def prune_in_stages(
    space: ChannelSpace,
    budgets: Sequence[Limits],
    cut: Cut,
    train: Callable[[nn.Module, int], None],
    *,
    early: nn.Module | None = None,
) -> list[Stage]:
    """Cut and tune stage by stage; every stage cuts what the stage before has tuned.

    Args:
        space: the channels of the original network, which is not changed.
        budgets: the limits of each stage, falling (`stages`).
        cut: decides what stays within limits and cuts it: `cut_greedily`, or what `cut_towards` gives. It is given the
            space narrowed to what is left, whose `original` has the tuned weights, in the numbering of `space`.
        train: trains the network of a stage, counted from 0, in place.
        early: the original network as it was early in its own training, for weight rewinding: every stage's channels
            then start from its weights (Frankle et al. 2020, "Linear mode connectivity and the lottery ticket
            hypothesis", algorithm 2, on channels). Otherwise from those that `cut` returns.

    Returns the stages, each with its network as tuned; the plans are nested.
    """
    rewind = space.narrowed(early, space.plan(space.point(space.highest.tolist()))) if early is not None else None
    left = space
    done: list[Stage] = []
    for i, limits in enumerate(budgets):
        if done:
            left = left.narrowed(done[-1].network, done[-1].plan)
        plan, network = cut(left, limits)
        if rewind is not None:
            network = rewind.build(plan)
        train(network, i)
        done.append(Stage(dict(limits), plan, network))
    return done

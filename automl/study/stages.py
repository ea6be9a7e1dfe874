"""Prune and tune in stages: budgets that fall step by step, each network cut for real from the one tuned before."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from torch import nn

from automl.errors import ConfigError
from automl.evaluation import Evaluator
from automl.study.greedy import energies, global_greedy, relative
from search_spaces import NetworkSpace, Plan, Point

Limits = Mapping[str, float]
"""Cost metric -> upper limit in absolute units."""

Cut = Callable[[NetworkSpace, Limits], tuple[Plan, Callable[[], nn.Module]]]
"""(what is left, limits) -> which channels stay, and what makes the network that is cut to them."""

Train = Callable[[nn.Module, Plan, int], None]
"""(network, the plan that made it, stage from 0) -> nothing; trains the network in place."""

Press = Callable[[nn.Module, Plan, Plan, int], None]
"""(network, the plan that made it, the plan of the coming cut, stage from 0) -> nothing; trains the network in place so
that it needs the channels less that are to go."""

Prepare = Callable[[NetworkSpace], Evaluator]
"""A space -> what rebuilds networks from it."""


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


def towards(space: NetworkSpace, point: Point, limits: Limits) -> Point:
    """The Point on the way from the whole network to `point` that is as large as `limits` allow.

    Every keep fraction k of `point` becomes k^a with one a in [0, 1] for all, rounded up to a legal level; in a
    narrowed space at most what it has left. If `point` itself reaches or exceeds a limit, it is returned.
    """
    goal = np.minimum(space.levels(point), space.highest)
    keep = goal / np.array([knob.size for knob in space.knobs])

    def at(exponent: float) -> np.ndarray:
        return np.array(
            [_at_least(knob.levels, share**exponent * knob.size) for knob, share in zip(space.knobs, keep, strict=True)]
        )

    if any(space.cost_of_levels(goal, metric) >= limit for metric, limit in limits.items()):
        return space.point(goal.tolist())
    low, high = 0.0, 1.0  # at high the limits are kept
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (low, middle) if space.within(at(middle), limits) else (middle, high)
    return space.point(at(high).tolist())


def _at_least(levels: Sequence[int], wanted: float) -> int:
    return next((level for level in levels if level >= wanted - 1e-9), levels[-1])


def cut_greedily(*, within_groups: bool) -> Cut:
    """A `Cut` that removes the channels of least energy in the whole network (`global_greedy`), and refits nothing.

    `within_groups` compares energies as parts of the largest of their group, as Fang et al. 2023 (DepGraph) do. As they
    are, which is how Li et al. 2019 (OICSR) compare them after training with their group lasso, they depend on how many
    layers share a channel and how large they are: of a network that was not trained so a layer can go almost whole.
    """

    def cut(space: NetworkSpace, limits: Limits) -> tuple[Plan, Callable[[], nn.Module]]:
        scores = energies(space)
        if within_groups:
            scores = relative(scores)
        plan = space.plan(global_greedy(space, scores, limits), scores)
        return plan, lambda: space.build(plan)

    return cut


def cut_towards(point: Point, prepare: Prepare) -> Cut:
    """A `Cut` that goes `towards` a Point: channels chosen, weights refitted and norms re-estimated by the evaluator
    that `prepare` makes for the network as it was tuned last."""

    def cut(space: NetworkSpace, limits: Limits) -> tuple[Plan, Callable[[], nn.Module]]:
        evaluator = prepare(space)
        chosen = towards(space, point, limits)
        return evaluator.plan(chosen), lambda: evaluator.network(chosen)

    return cut


def prune_in_stages(
    space: NetworkSpace,
    budgets: Sequence[Limits],
    cut: Cut,
    train: Train,
    *,
    press: Press | None = None,
    early: nn.Module | None = None,
) -> list[Stage]:
    """Cut and tune stage by stage; every stage cuts what the stage before has tuned.

    Args:
        space: the channels of the original network, which is not changed.
        budgets: the limits of each stage, falling (`stages`).
        cut: decides what stays within limits, and cuts: what `cut_greedily` or `cut_towards` gives. It is given the
            space narrowed to what is left, whose `original` has the tuned weights, in the numbering of `space`.
        train: tunes the network of a stage.
        press: prepares the network of the stage before, or a copy of the original, for the cut that has been decided.
            The channels are then cut out as they are, and nothing is refitted.
        early: the original network as it was early in its own training, for weight rewinding: every stage's channels
            then start from its weights (Frankle et al. 2020, "Linear mode connectivity and the lottery ticket
            hypothesis", algorithm 2, on channels). Otherwise from those that were cut. Nothing is pressed then, since
            what that changes would be lost.

    Returns the stages, each with its network as tuned; the plans are nested.
    """
    whole = space.plan(space.point(space.highest.tolist()))
    rewind = space.narrowed(early, whole) if early is not None else None
    left = space
    done: list[Stage] = []
    for i, limits in enumerate(budgets):
        before, network = (done[-1].plan, done[-1].network) if done else (whole, space.original)
        if done:
            left = left.narrowed(network, before)
        plan, made = cut(left, limits)
        if rewind is not None:
            network = rewind.build(plan)
        elif press is not None:
            press(network := copy.deepcopy(network), before, plan, i)
            network = left.narrowed(network, before).build(plan)
        else:
            network = made()
        train(network, plan, i)
        done.append(Stage(dict(limits), plan, network))
    return done

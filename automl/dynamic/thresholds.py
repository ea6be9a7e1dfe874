"""Thresholds of a network with several exits: set so that the mean cost of a sample keeps a budget.

By the rule of Huang et al. 2018, "Multi-scale dense networks for resource efficient image classification", section 4.2,
budgeted batch classification; or searched. What a cost is does not matter: multiply-accumulates, or milliseconds that
were measured on a backend.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import Literal

import torch
from torch import Tensor

from automl.dynamic.multi_exit import MultiExit
from automl.errors import BudgetError
from automl.tasks.batches import Batch
from automl.util.modes import evaluating

NEVER = 2.0
"""A threshold that no probability reaches."""
ALWAYS = 0.0
"""One that every probability reaches."""
TRIED = 1024
"""About how many sets of thresholds are tried in a search."""
Rule = Literal["geometric", "searched"]
"""How thresholds are chosen for a budget: by parts that leave proportional to q^k, or as those that do best."""


@dataclass(frozen=True)
class Answers:
    """What a network with several exits says of samples at each of them."""

    confidence: Tensor
    """The largest probability: [n_exits, n]."""
    right: Tensor
    """Whether it is that of the label: [n_exits, n] bool."""

    @property
    def exits(self) -> int:
        """How many there are."""
        return len(self.confidence)


@dataclass(frozen=True)
class Outcome:
    """What thresholds come to on samples."""

    thresholds: tuple[float, ...]
    right: float
    """The part of the samples that is classified right."""
    mean_cost: float
    worst_cost: float
    """Of the last exit that any sample reaches."""
    shares: tuple[float, ...]
    """The part of the samples that leaves at each exit."""
    right_at: tuple[float, ...]
    """Of those that leave at each exit the part that is right; NaN where none does."""


def answers(network: MultiExit, batches: Sequence[Batch]) -> Answers:
    """What `network` says of the samples of `batches` at every exit, in eval mode."""
    confidence, right = [], []
    with evaluating(network), torch.no_grad():
        for inputs, targets in batches:
            scores = torch.stack(network(*inputs)).float()  # [n_exits, n, classes]
            most, label = scores.softmax(2).max(2)
            confidence.append(most)
            right.append(label == targets)
    return Answers(torch.cat(confidence, 1), torch.cat(right, 1))


def leaving(confidence: Tensor, thresholds: Sequence[float]) -> Tensor:
    """At which exit each sample leaves, by its confidence at each, [n_exits, n]: [n]."""
    enough = confidence >= torch.tensor([*thresholds, 0.0], dtype=confidence.dtype)[:, None]
    return enough.int().argmax(0)


def thresholds_for(confidence: Tensor, costs: Sequence[float], budget: float) -> tuple[float, ...]:
    """The thresholds with which the samples of `confidence`, [n_exits, n], cost at most `budget` in the mean.

    The part of the samples that leaves at exit k is proportional to q^k, with the q whose mean cost is the budget; of
    those that come to an exit the most confident leave. Other samples cost about as much, no more is promised.

    Args:
        confidence: of samples that are neither trained nor tested on.
        costs: of a sample that leaves at each exit, ascending.
        budget: in the unit of the costs.

    Returns:
        A threshold for each exit but the last.

    Raises:
        BudgetError: a budget below the cost of the first exit.
    """
    _require_possible(costs, budget)
    left = torch.ones(confidence.shape[1], dtype=torch.bool)
    found = []
    for exit_, part in enumerate(parts_leaving(costs, budget)[:-1]):
        # Rounded up: one sample more that leaves early keeps the budget, one less does not.
        count = math.ceil(part * confidence.shape[1] - 1e-9)
        order = confidence[exit_, left].sort(descending=True).values
        found.append(NEVER if not count else float(order[count - 1]) if count < len(order) else ALWAYS)
        left &= confidence[exit_] < found[-1]
    return tuple(found)


def front(said: Answers, costs: Sequence[float]) -> list[Outcome]:
    """The best of many thresholds on the samples of `said`: each does better than all that cost less in the mean.

    Tried are quantiles of the confidence at each exit, evenly spaced, every set of them. From the cheapest to the best.
    """
    steps = max(3, round(TRIED ** (1 / max(said.exits - 1, 1))) - 1)
    quantiles = torch.linspace(0, 1, steps, dtype=torch.float64)[1:]
    levels = [[ALWAYS, *one.double().quantile(quantiles).tolist(), NEVER] for one in said.confidence[:-1]]
    tried = sorted((outcome(said, costs, one) for one in product(*levels)), key=lambda o: (o.mean_cost, -o.right))
    best: list[Outcome] = []
    for one in tried:
        if not best or one.right > best[-1].right:
            best.append(one)
    return best


def chosen_by(rule: Rule, said: Answers, costs: Sequence[float], budgets: Sequence[float]) -> list[tuple[float, ...]]:
    """The thresholds for each mean cost by a rule. Errors: `BudgetError`."""
    if rule == "geometric":
        return [thresholds_for(said.confidence, costs, budget) for budget in budgets]
    _require_possible(costs, min(budgets))
    best = front(said, costs)
    return [[one for one in best if one.mean_cost <= budget][-1].thresholds for budget in budgets]


def _require_possible(costs: Sequence[float], budget: float) -> None:
    if budget < costs[0]:
        raise BudgetError(f"a mean cost of {budget:g} is less than the first exit takes, {costs[0]:g}: allow more")


def parts_leaving(costs: Sequence[float], budget: float) -> tuple[float, ...]:
    """The parts proportional to q^k, k = 0, 1, ..., whose mean of `costs` is `budget`; all at the last where that is
    within it."""
    if budget >= costs[-1]:
        return (*[0.0] * (len(costs) - 1), 1.0)

    def parts(log_q: float) -> list[float]:
        powers = [k * log_q for k in range(len(costs))]
        weights = [math.exp(power - max(powers)) for power in powers]
        return [weight / sum(weights) for weight in weights]

    low, high = -50.0, 50.0  # the mean rises with q
    for _ in range(100):
        middle = (low + high) / 2
        mean = sum(part * cost for part, cost in zip(parts(middle), costs, strict=True))
        low, high = (middle, high) if mean < budget else (low, middle)
    return tuple(parts(low))


def outcome(said: Answers, costs: Sequence[float], thresholds: Sequence[float]) -> Outcome:
    """What `thresholds` come to on the samples of `said`."""
    exits = leaving(said.confidence, thresholds)
    right = said.right.gather(0, exits[None])[0]
    at = [exits == k for k in range(said.exits)]
    return Outcome(
        tuple(thresholds),
        float(right.double().mean()),
        sum(float(here.double().mean()) * cost for here, cost in zip(at, costs, strict=True)),
        costs[int(exits.max())],
        tuple(float(here.double().mean()) for here in at),
        tuple(float(right[here].double().mean()) for here in at),
    )


def curve(
    chosen_on: Answers, said: Answers, costs: Sequence[float], points: int = 9, rule: Rule = "geometric"
) -> list[Outcome]:
    """What thresholds chosen on one set of samples come to on another, for mean costs from the first exit's to the
    last's."""
    steps = [costs[0] + (costs[-1] - costs[0]) * i / (points - 1) for i in range(points)]
    return [outcome(said, costs, thresholds) for thresholds in chosen_by(rule, chosen_on, costs, steps)]


def fixed(said: Answers, costs: Sequence[float]) -> list[Outcome]:
    """What comes of it if all samples leave at the same exit, for each; `costs` are those of a network that ends there,
    without other heads."""
    return [outcome(said, costs, [NEVER] * k + [ALWAYS] * (said.exits - 1 - k)) for k in range(said.exits)]


def dominated(one: Outcome, course: Sequence[Outcome]) -> bool:
    """Whether an outcome of `course` is as good as `one` or better in both right answers and mean cost."""
    return any(other.right >= one.right and other.mean_cost <= one.mean_cost for other in course)

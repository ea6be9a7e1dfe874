"""What a reader should know before trusting figures: validation data that flatter, and metrics that are not exact."""

from __future__ import annotations

import torch
from torch import Tensor

from automl.tasks.problem import Problem

LOOKED_AT = 8
"""How many calibration samples are sought among the validation samples."""


def flattery(problem: Problem, headline: float) -> str | None:
    """A line that says why the validation data flatter, if they do; `headline`: what the original has in it.

    They do where the original has no fault on them, or where they are what it was trained on.
    """
    name, imitates = problem.kind.headline, problem.kind.imitates
    if problem.unit(name) == "%" and headline >= 1 and not imitates:
        why = f"the original has {name} 100 % on them"
    elif not imitates and _seen_in_training(problem):
        why = "the training data hold the same samples"
    else:
        return None
    return f"the validation data flatter, as {why}: what is lost on new data may be more. Hold samples out of training"


def _seen_in_training(problem: Problem) -> bool:
    """Whether the first calibration samples, which are training samples, are all among the validation samples."""
    inputs, _ = problem.calibration[0]
    return all(_holds(problem, tuple(x[i] for x in inputs)) for i in range(min(LOOKED_AT, len(inputs[0]))))


def _holds(problem: Problem, sample: tuple[Tensor, ...]) -> bool:
    """Whether `sample` is one of the validation samples."""
    for inputs, _ in problem.validation:
        if any(x.shape[1:] != one.shape for x, one in zip(inputs, sample, strict=True)):
            continue
        # One number of each is compared first: whole images would take a while.
        middle = [(x.reshape(len(x), -1), one.reshape(-1)) for x, one in zip(inputs, sample, strict=True)]
        alike = torch.stack([x[:, one.numel() // 2] == one[one.numel() // 2] for x, one in middle]).all(0)
        for i in alike.nonzero().flatten().tolist():
            if all(torch.equal(x[i], one) for x, one in zip(inputs, sample, strict=True)):
                return True
    return False


def batch_means(problem: Problem) -> list[str]:
    """The metrics of which only the mean over a batch is known."""
    inputs, targets = problem.calibration[0]
    with torch.no_grad():
        outputs = problem.model(*(x[:2] for x in inputs))
    found = []
    for name, metric in problem.metrics.items():
        if metric.score is not None and not torch.as_tensor(metric.score(outputs, targets[:2])).ndim:
            found.append(name)
    return found

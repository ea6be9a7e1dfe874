"""Models of other kinds on the rows of a table: what a network for them should be compared with.

On tables boosted trees are hard to beat (Grinsztajn et al. 2022, arXiv 2207.08815), and where rows are few a linear
model is. Both are scikit-learn's with their defaults, learn from the rows that networks are trained on, and are judged
on the same others. They need not keep a budget, and nothing of them is searched or exported.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch

from automl.tasks.batches import Batch
from automl.tasks.classification import Classification
from automl.tasks.problem import Problem
from automl.types import Say
from automl.util.quantities import in_unit

MOST = 50_000
"""Rows that they learn from: more would take longer than the search has."""
SEED = 0


def other_models(problem: Problem, say: Say) -> tuple[str, ...]:
    """What a linear model and gradient boosting are worth on a table, a line each."""
    assert problem.training is not None
    say("fitting a linear model and gradient boosting to the same rows")
    x, y = _arrays(list(problem.training(SEED, MOST)), MOST)
    parts = {"validation": problem.validation, **({"test": problem.read_test()} if problem.test is not None else {})}
    judged_by = {name: _arrays(batches) for name, batches in parts.items()}
    metric = problem.kind.headline
    lines = []
    for name, make in _models(isinstance(problem.kind, Classification)).items():
        model = make().fit(x, y)
        told = [
            f"{in_unit(_worth(metric, model.predict(inputs), targets), problem.unit(metric))} on {part}"
            for part, (inputs, targets) in judged_by.items()
        ]
        lines.append(f"{name} on the same rows, by scikit-learn's defaults: {metric} {', '.join(told)}")
    return tuple(lines)


def _models(classes: bool) -> Mapping[str, Callable[[], Any]]:
    """Name -> a function that makes the model."""
    from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
    from sklearn.linear_model import LogisticRegression, RidgeCV
    from sklearn.multioutput import MultiOutputRegressor
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    if classes:
        return {
            "logistic regression": lambda: make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000)),
            "gradient boosting": lambda: HistGradientBoostingClassifier(random_state=SEED),
        }
    boosting = HistGradientBoostingRegressor(random_state=SEED)
    return {
        "linear regression (ridge)": lambda: make_pipeline(StandardScaler(), RidgeCV()),
        "gradient boosting": lambda: MultiOutputRegressor(boosting),
    }


def _worth(metric: str, predicted: np.ndarray, targets: np.ndarray) -> float:
    """The part of right classes, or the root of the mean squared error."""
    if metric == Classification.headline:
        return float((predicted == targets).mean())
    return float(np.sqrt(np.square(predicted.reshape(targets.shape) - targets).mean()))


def _arrays(batches: Sequence[Batch], most: int | None = None) -> tuple[np.ndarray, np.ndarray]:
    """The first `most` inputs [n, columns] and targets [n] or [n, k] of batches."""
    x, y = torch.cat([inputs[0] for inputs, _ in batches]), torch.cat([targets for _, targets in batches])
    return x[:most].numpy(), y[:most].numpy()

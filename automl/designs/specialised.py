"""`specialise`: one supernet, a network for each budget, and nothing trained."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from automl.api import CompressionResult, searched
from automl.config.model import IN_MEMORY
from automl.config.study import StudyConfig
from automl.designs.from_batches import CALIBRATION, problem_of
from automl.lanes.progress import Progress
from automl.sharing.supernet_file import made_of
from automl.store import Store
from automl.study.study import Study
from automl.tasks.problem import Problem
from automl.types import Say
from automl.util.no_exit import no_exit


@no_exit()
def specialise(
    supernet: str | Path,
    train_data: Iterable[Any],
    validation_data: Iterable[Any] | None = None,
    budgets: Sequence[str | Sequence[str]] = ("params <= 100k",),
    *,
    test_data: Iterable[Any] | None = None,
    trials: int = 50,
    agent: str | Mapping[str, Any] | None = None,
    seed: int = 0,
    storage: str | Path | None = None,
    name: str = "specialised",
    progress: bool = True,
) -> list[CompressionResult]:
    """Search the best network of a trained supernet for each budget, and return them with its weights.

    Nothing is trained: networks are judged and returned with the weights that they share, their norms' statistics
    estimated on training data. How well these weights rank networks is not checked here; the study that trained the
    supernet has said so for its budget.

    Args:
        supernet: the file, `supernet.safetensors` among the files of that study; its space is searched.
        train_data: batches `(x, y)` as the supernet was trained on.
        validation_data: batches by which networks are judged; None: a sixth of the training data.
        budgets: each `"params <= 3k"`, or several limits in a list. None may be above what the supernet was trained
            within; smaller ones want a supernet that was trained with `smaller: true` or by the rule sandwich.
        test_data: batches on which networks are measured once, at the end.
        trials: how many networks are judged for each budget.
        agent: the search agent; None: `predictor`.
        storage: a database URL or file that keeps the trials, a study for each budget; None: they are forgotten.
        name: what the names of the studies begin with.
        progress: whether to tell on standard error how far it is.

    Raises: AutomlError, SpaceError, InfeasibleBudgetError, AgentError.
    """
    path = Path(supernet).resolve()
    settings = {
        "model": IN_MEMORY,
        "data": {"name": IN_MEMORY, "calibration_size": CALIBRATION},
        "space": {"cells": dict(made_of(path).space)},
        "agent": agent or {},
        "baselines": ["uniform"],
        "trials": trials,
        "seeds": [seed],
        "evaluation": {"supernet": {"file": str(path), "check": 0, "inherit": True}},
    }
    configs = [
        StudyConfig.from_dict({**settings, "name": f"{name}-{i}", "budget": budget}) for i, budget in enumerate(budgets)
    ]
    if not configs:
        return []
    problem = problem_of(configs[0], train_data, validation_data, test_data)  # budgets change nothing in it
    return [
        searched(partial(_study, config, problem), storage, Progress(config.goal, quiet=not progress))
        for config in configs
    ]


def _study(config: StudyConfig, problem: Problem, store: Store, say: Say) -> Study:
    return Study(store, config, problem, say=say)

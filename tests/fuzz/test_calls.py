"""Whatever `compress` is called with, one sentence of ours comes out, or a network that is what is said of it.

`AUTOML_FUZZ=1000 python -m pytest tests/fuzz/test_calls.py`: about a fifth of the calls go through to a network.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from agents import AgentError
from agents import names as agent_names
from automl import compress
from automl.errors import AutomlError
from search_spaces import InfeasibleBudgetError, SpaceError, TraceError
from tests.fuzz.strategies import ANYTHING, SCHEMA, batches, of_schema, rarely
from tests.fuzz.test_fuzz import EXAMPLES, fuzzed, one_sentence, small

OURS = (AutomlError, TraceError, SpaceError, InfeasibleBudgetError, AgentError)
PROPERTIES, DEFINITIONS = SCHEMA["properties"], SCHEMA["$defs"]
BUDGETS = st.sampled_from(["macs <= 50%", "params <= 60%", "macs <= 1%", "size <= 700 B", "macs <= 90%"])
SPACES = st.sampled_from(
    ["channels", "weights", ["channels", "code"], ["channels", "rank"], ["sparsity", "code"], "code"]
)


def images(n: int, seed: int) -> list[Any]:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(n, 3, 6, 6, generator=generator)
    return [(x[i : i + 8], torch.arange(len(x))[i : i + 8] % 4) for i in range(0, n, 8)]


def section(name: str) -> st.SearchStrategy[Any]:
    """What a section of a study file may hold, and now and then what it may not."""
    return of_schema(PROPERTIES[name], DEFINITIONS)


ARGUMENTS: Mapping[str, st.SearchStrategy[Any]] = {
    "train_data": rarely(batches(), st.just(images(32, 0)), 8),
    "validation_data": rarely(batches(), st.just(images(24, 1)), 8),
    "test_data": rarely(batches(), st.just(images(16, 2)), 8),
    "budget": rarely(ANYTHING, BUDGETS | st.lists(BUDGETS, max_size=2), 12),
    "agent": rarely(section("agent") | ANYTHING, st.sampled_from(agent_names()), 8),
    "baselines": rarely(ANYTHING, st.lists(st.sampled_from(["uniform", "random", "greedy"]), max_size=2), 12),
    "objective": rarely(ANYTHING, st.sampled_from(["accuracy", "loss", "divergence", "error_log_macs"]), 8),
    "direction": rarely(ANYTHING, st.sampled_from(["maximize", "minimize"]), 8),
    "guarantee": rarely(ANYTHING, st.sampled_from(["accuracy >= 10%", "loss rise <= 90%", "accuracy drop <= 50%"]), 8),
    "trials": rarely(ANYTHING, st.integers(-1, 3), 12),
    "seed": rarely(ANYTHING, st.integers(0, 3), 12),
    "space": rarely(section("space"), SPACES, 3),
    "evaluation": section("evaluation"),
    "sparsify": section("sparsify"),
    "finish": section("finish"),
    "calibration_size": rarely(ANYTHING, st.integers(-1, 64), 12),
    "task": rarely(section("task"), st.sampled_from(["classification", "embedding", "regression"]), 3),
    "name": ANYTHING,
    "metrics": ANYTHING,
}
USUAL = {"train_data": images(32, 0), "validation_data": images(24, 1), "trials": 2, "progress": False}
LONGEST = 20
"""Trials, and epochs, of a call that is made; a longer one may well be right, and takes long."""


def short(value: Any) -> bool:
    """Whether nothing in it asks for much work."""
    if isinstance(value, dict):
        return all(short(inner) for inner in value.values())
    if isinstance(value, list | tuple):
        return all(short(inner) for inner in value)
    return not isinstance(value, int | float) or isinstance(value, bool) or not value > LONGEST


CALLS = st.lists(st.sampled_from(sorted(ARGUMENTS)), unique=True, max_size=4).flatmap(
    lambda names: st.fixed_dictionaries({name: ARGUMENTS[name] for name in names})
)


def figures(network: torch.nn.Module, data: list[Any]) -> tuple[float, float]:
    """Accuracy and loss as plain PyTorch has them."""
    x, y = torch.cat([x for x, _ in data]), torch.cat([y for _, y in data])
    with torch.no_grad():
        outputs = network.eval()(x)
    return float((outputs.argmax(1) == y).double().mean()), float(F.cross_entropy(outputs, y))


@settings(fuzzed, max_examples=max(EXAMPLES // 6, 10))
@given(CALLS.filter(lambda call: all(short(v) for k, v in call.items() if k not in ("train_data", "validation_data"))))
@example({"budget": "macs <= 1%"})
@example({"calibration_size": []})
@example({"objective": [None]})
@example({"metrics": [1]})
@example({"space": ["channels", "code"], "budget": "size <= 700 B"})
def test_a_call_is_refused_in_a_sentence_or_is_right(call):
    model = small()
    before = copy.deepcopy(model.state_dict())
    try:
        result = compress(model, **{**USUAL, **call})
    except OURS as error:
        one_sentence(error)
        return
    finally:
        assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    budgets = call.get("budget", "macs <= 50%")
    for budget in [budgets] if isinstance(budgets, str) else budgets or []:
        metric, limit = str(budget).split(" <= ")[0], str(budget).split(" <= ")[1]
        if limit.endswith("%") and metric in result.base:
            assert result.measurements[metric].value <= result.base[metric].value * float(limit[:-1]) / 100
    if "validation_data" in call or call.get("task", "classification") != "classification":
        return
    for network, told in ((model, result.base), (result.network, result.measurements)):
        accuracy, loss = figures(network, USUAL["validation_data"])
        assert told["accuracy"].value == pytest.approx(accuracy, abs=0.5 / 24)
        assert told["loss"].value == pytest.approx(loss, rel=1e-3)

"""Spaces, plans and files stay what they were when they were recorded (`tests/golden/record.py`).

Levels, counts and weights are equal to the bit: they are whole numbers, or copied. What is a sum has a tolerance.
"""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from automl.export import load
from automl.zoo import create
from search_spaces import Plan
from tests.golden.cases import CASES, HERE, SPACES, TINY, golden, outputs
from tests.golden.observed import PLANNED, built_record, described, export_record, space_record

ROUNDED = {"features": 1e-9, "encoded": 1e-9, "sequence": 1e-6}
"""What is computed in floating point -> the tolerance."""


@pytest.fixture(scope="module", params=CASES)
def case(request):
    """(name, set up as a study does, what was recorded of it)."""
    return request.param, CASES[request.param].setup(), golden(request.param)


def assert_built_alike(space, plan, recorded):
    now = built_record(space, plan)
    assert now["state"] == recorded["state"]
    np.testing.assert_allclose(now["outputs"], recorded["outputs"], rtol=1e-9, atol=1e-9)


def test_a_space_answers_as_it_did(case):
    name, setup, then = case
    now = space_record(setup, CASES[name], then["drawn"])
    for key, tolerance in ROUNDED.items():
        np.testing.assert_allclose(now.pop(key), then[key], rtol=0, atol=tolerance, err_msg=key)
    for key, value in now.items():
        assert value == then[key], key


def test_plans_are_read_and_made_as_they_were(case):
    _, setup, then = case
    space = setup.space
    for chosen, text, built in zip(then["points"][:PLANNED], then["plans"], then["built"], strict=True):
        old, new = Plan.from_json(text), space.plan(space.point(chosen))
        assert described(old, space) == described(new, space)
        again = Plan.from_json(new.to_json())
        assert again == new
        networks = [space.build(plan) for plan in (old, new)]
        assert networks[0].code == networks[1].code
        assert_same_state(*networks)
        assert_built_alike(space, old, built)


def assert_same_state(a, b):
    first, second = a.state_dict(), b.state_dict()
    assert list(first) == list(second)
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_a_plan_by_other_scores_builds_what_it_built(case):
    _, setup, then = case
    for recorded in then["scored_plans"]:
        assert_built_alike(setup.space, Plan.from_json(recorded["plan"]), recorded)


def test_an_exported_file_has_the_bytes_it_had(case, tmp_path):
    _, setup, then = case
    plan = setup.space.plan(setup.space.point(then["points"][0]))
    assert export_record(setup, plan, tmp_path) == then["export"]


@pytest.mark.parametrize("name", SPACES)
def test_an_old_export_is_loaded(name):
    folder = HERE / "exports" / name
    network = load(folder, create(TINY["name"], **TINY["options"]))
    (probe,) = json.loads((folder / "manifest.json").read_text())["probe"]
    with torch.no_grad():
        made = network(torch.arange(128, dtype=torch.float32).cos().reshape(2, 1, 8, 8)).flatten()
    np.testing.assert_allclose(made.numpy(), probe[: len(made)], rtol=0, atol=1e-5 * max(map(abs, probe)))
    np.testing.assert_allclose(outputs(network), golden("exports")[name], rtol=1e-9, atol=1e-9)

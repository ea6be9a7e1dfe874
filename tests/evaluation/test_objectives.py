"""Objectives that weigh accuracy against cost, from what was measured."""

import math

import pytest

from automl.tasks.objectives import WEIGHED, maximized, with_objective
from automl.types import Measurement

MEASURED = [
    Measurement("accuracy", 0.75, "", 1000, 0.01),
    Measurement("loss", 0.8),
    Measurement("macs", 5e6, "MAC"),
    Measurement("params", 2e4),
]
ORIGINAL = {"accuracy": 0.9, "params": 1e5, "macs": 1e7}


def objective(name):
    measured = with_objective(MEASURED, name, "accuracy", ORIGINAL)
    assert measured[:-1] == MEASURED and measured[-1].metric == name
    return measured[-1]


def test_the_compression_reward_is_that_of_the_papers():
    """C = 0.8, so C (2 - C) = 0.96: the rows of ESNAC's table have 0.9492 for C = 0.8470 and 71.64 of 73.71 %."""
    found = objective("compression_reward")
    assert found.value == pytest.approx(0.96 * 0.75 / 0.9)
    assert found.spread == pytest.approx(0.96 * 0.01 / 0.9) and found.n == 1000
    table = [Measurement("accuracy", 0.7164), Measurement("params", 1 - 0.8470)]
    vgg = with_objective(table, "compression_reward", "accuracy", {"accuracy": 0.7371, "params": 1.0})[-1].value
    assert vgg == pytest.approx(0.9492, abs=1e-4)


@pytest.mark.parametrize("name", ["compression_reward", "bounded_drop"])
def test_the_original_itself_is_worth_nothing(name):
    whole = [Measurement("accuracy", 0.9), Measurement("params", 1e5)]
    assert with_objective(whole, name, "accuracy", ORIGINAL, 0.1)[-1].value == 0


def test_a_drop_is_weighed_against_its_bound_as_by_huang():
    """15 points lost and a fifth of the parameters left: of a bound of 30 points a half is left, of one of 10 minus a
    half."""
    for bound, psi in ((0.3, 0.5), (0.1, -0.5)):
        found = with_objective(MEASURED, "bounded_drop", "accuracy", ORIGINAL, bound)[-1]
        assert found.value == pytest.approx(psi * math.log(5))
        assert found.spread == pytest.approx(0.01 * math.log(5) / bound)


def test_the_error_times_the_logarithm_of_a_cost():
    assert objective("error_log_macs").value == pytest.approx(0.25 * math.log(5e6))
    assert objective("error_log_params").value == pytest.approx(0.25 * math.log(2e4))


def test_what_weighs_nothing_is_measured_as_it_is():
    assert with_objective(MEASURED, "accuracy", "accuracy") == MEASURED
    assert "accuracy" not in WEIGHED


def test_more_is_better_of_what_the_kinds_of_task_say_so_and_of_the_reward():
    assert maximized() == ("accuracy", "miou", "pixel_accuracy", "psnr", "cosine", "compression_reward", "bounded_drop")


def test_another_rate_than_accuracy_can_be_weighed():
    measured = [Measurement("recall", 0.75, "", 10, 0.01), Measurement("params", 2e4)]
    found = with_objective(measured, "error_log_params", "recall")[-1]
    assert found.value == pytest.approx(0.25 * math.log(2e4)) and found.spread == pytest.approx(0.01 * math.log(2e4))

"""`latency.fast_widths`: which step is chosen by times, and that a study measures it once."""

import math

import pytest

from automl.config.study import StudyConfig
from automl.measures.fast_widths import STEPS, FastStep, chosen
from automl.study import fast_shapes
from automl.study.fast_shapes import FastShapes, fast_operators
from tests.kits.digits import problem


def stairs(step, slope=1.0):
    """Times of widths 33 to 64 where each takes as long as the next multiple of `step`."""
    return {width: slope * (-(-width // step) * step) for width in range(33, 65)}


@pytest.mark.parametrize("step", STEPS)
def test_the_step_is_the_least_that_costs_nothing(step):
    """On stairs of one step, rounding up to it is free, and to more is not; of less the least does as well."""
    assert chosen(stairs(step)).step == 1
    ragged = {w: time * (1.0 if w % step == 0 else 1.7) for w, time in stairs(step).items()}
    assert chosen(ragged).step == step
    assert chosen(ragged).ratio == pytest.approx(1.0 if step == 1 else chosen(ragged).ratio)
    assert (chosen(ragged).ratio < 0.8) == (step > 1)


def test_a_smooth_backend_has_every_width():
    assert chosen({width: width**2 for width in range(9, 17)}).step == 1


def config(**changes):
    told = {
        "name": "s",
        "model": "x:y",
        "data": "x:z",
        "space": {"channels": {"round_to": 6}},
        "latency": {"fast_widths": True},
        "budget": "latency <= 50% on eager",
    }
    return StudyConfig.from_dict(told | changes)


def test_a_study_measures_the_step_once(monkeypatch):
    said: list[str] = []
    trained = problem("small_cnn")
    operators, found = fast_operators(config(), trained, None, tuple, said.append)
    step = found.step
    assert step.step in STEPS
    assert operators["channels"].round_to == math.lcm(6, step.step)
    assert said == [] or f"multiples of {step.step}" in said[0]
    monkeypatch.setattr(fast_shapes, "fast_step", lambda *_: pytest.fail("measured again"))
    known = FastShapes(FastStep(4, 0.7)).to_record()
    again, found = fast_operators(config(), trained, known, tuple, said.append)
    assert again["channels"].round_to == 12
    assert found.step.step == 4
    assert len(said) == 1

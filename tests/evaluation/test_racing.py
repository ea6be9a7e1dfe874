"""Races: who is stopped, how surely, and with what estimates."""

import dataclasses

import cloudpickle
import numpy as np
import pytest
import torch

from agents import Goal, TrialState
from automl.config.evaluation import EvaluationOptions
from automl.errors import ConfigError
from automl.evaluation import Evaluator
from automl.evaluation.racing import LOOKS, estimates, hopeless, looks
from automl.tasks.metric import Metric
from automl.tasks.scores import Scores
from search_spaces import channel_space

LOSS = Goal("loss", "minimize")


def scores(values, sizes=None):
    out = Scores()
    for part in torch.as_tensor(values, dtype=torch.float64).split(sizes or len(values)):
        out.add(torch.nn.Identity(), ((part,), part), {"loss": Metric(lambda outputs, targets: targets)})
    return out


def test_it_looks_once_for_each_part_and_never_at_the_end():
    assert looks([250] * 8) == [1, 2, 4]
    assert looks([1000]) == [] and looks([100, 900]) == []
    assert looks([600, 400]) == [1], "one batch may pass several parts"
    assert looks([10] * 100) == [13, 25, 50]


def test_wrongly_stopped_less_often_than_stated():
    """Trials that would end better than their rival are stopped with a probability of at most 1 - confidence."""
    rng = np.random.default_rng(0)
    total, confidence, wrong, better = 800, 0.9, 0, 0
    for _ in range(2000):
        theirs = rng.exponential(1.0, total)
        ours = theirs + rng.normal(-0.005, 0.3, total)  # close races, most of them won
        if ours.mean() >= theirs.mean():
            continue
        better += 1
        rival = scores(theirs)
        wrong += any(hopeless(scores(ours[: int(total * part)]), rival, LOSS, confidence) for part in LOOKS)
    assert better > 1000
    assert 0 < wrong / better < 1 - confidence


def test_what_is_hard_for_both_does_not_count():
    rng = np.random.default_rng(1)
    theirs = rng.exponential(5.0, 400)
    worse = theirs[:50] + 0.1 + rng.normal(0, 0.01, 50)
    assert hopeless(scores(worse), scores(theirs), LOSS, 0.99)
    assert not hopeless(scores(theirs[:50] - 0.1), scores(theirs), LOSS, 0.99)
    assert not hopeless(scores(worse), scores(theirs), Goal("loss", "maximize"), 0.99)


def test_estimates_are_better_than_means_of_what_was_seen():
    rng = np.random.default_rng(2)
    paired, plain = [], []
    for _ in range(200):
        theirs = rng.exponential(1.0, 400)
        ours = 1.2 * theirs + rng.normal(0, 0.1, 400)
        (estimated,) = estimates(scores(ours[:50]), scores(theirs))
        paired.append(estimated.value - ours.mean())
        plain.append(ours[:50].mean() - ours.mean())
        assert estimated.n == 50 and estimated.spread > 0
    assert abs(np.mean(paired)) < 3 * np.std(paired) / np.sqrt(200), "unbiased"
    assert np.std(paired) < 0.5 * np.std(plain)


@pytest.fixture
def space(problem):
    return channel_space(problem.model, problem.example_inputs)


def racing(problem, space, race=0.99, goal=LOSS):
    batches = [((x[i : i + 50],), y[i : i + 50]) for (x,), y in problem.validation for i in range(0, len(y), 50)]
    many = dataclasses.replace(problem, validation=batches)
    return Evaluator(many, space, EvaluationOptions(precision="float32", race=race), threads=1, goal=goal)


def test_a_bad_trial_ends_early_near_its_true_value_and_a_good_one_does_not(problem, space):
    evaluator = racing(problem, space)
    good = space.point([knob.nearest(0.9) for knob in space.knobs])
    bad = space.point([knob.nearest(0.2) for knob in space.knobs])
    stopped = evaluator(bad, good)
    assert stopped.state is TrialState.STOPPED and "of 597 samples" in stopped.reason
    exact = evaluator(bad)
    assert exact.state is TrialState.DONE
    measured = {m.metric: m for m in stopped.measurements}
    assert abs(measured["loss"].value - exact.values["loss"]) < 4 * measured["loss"].spread
    assert measured["macs"].value == exact.values["macs"] and measured["loss"].n < 597
    assert evaluator(good, bad).state is TrialState.DONE
    assert evaluator(good, good).state is TrialState.DONE, "a tie is no defeat"


def test_a_race_does_not_depend_on_what_is_remembered(problem, space):
    """A rival that is forgotten, as in a new process, is judged again: a resumed study goes on just so."""
    evaluator = racing(problem, space)
    good = space.point([knob.nearest(0.9) for knob in space.knobs])
    bad = space.point([knob.nearest(0.2) for knob in space.knobs])
    evaluator(good)
    elsewhere = cloudpickle.loads(cloudpickle.dumps(evaluator))
    assert [m.value for m in evaluator(bad, good).measurements] == [m.value for m in elsewhere(bad, good).measurements]


@pytest.mark.parametrize(("race", "goal"), [(0.0, LOSS), (0.99, None), (0.99, Goal("error_log_macs", "minimize"))])
def test_without_a_race_all_samples_count(problem, space, race, goal):
    evaluator = racing(problem, space, race, goal)
    good = space.point([knob.nearest(0.9) for knob in space.knobs])
    bad = space.point([knob.nearest(0.2) for knob in space.knobs])
    assert evaluator(bad, good).state is TrialState.DONE


@pytest.mark.parametrize("race", [-0.1, 0.3, 1.0])
def test_a_confidence_is_a_confidence(race):
    with pytest.raises(ConfigError, match="race is a confidence"):
        EvaluationOptions(race=race)

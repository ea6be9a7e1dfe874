"""The protocol of measuring: what takes known time is found to, in turn, with intervals, and noise is told of."""

from functools import partial

import numpy as np
import pytest
import torch
from torch import nn

from automl.measures import compare_latency
from automl.measures.backends.intervals import estimated, pooled, quantiles
from automl.measures.backends.side_by_side import Comparison, Effort, side_by_side


class Clock:
    """A clock that goes on only where something says that it took time."""

    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now

    def take(self, ms):
        self.now += ms / 1e3


def test_times_and_ratios_of_what_takes_known_time():
    clock, order = Clock(), []

    def run(name, ms):
        order.append(name)
        clock.take(ms)

    runs = {"base": partial(run, "base", 20), "half": partial(run, "half", 10)}
    comparison = side_by_side(runs, Effort(round_ms=40, block=4), clock)
    assert comparison.reference == "base" and comparison.rounds == 4
    assert comparison.latency_ms("base").value == pytest.approx(20) and comparison.ratio("half").value == pytest.approx(
        0.5
    )
    assert comparison.ratio("half").half_width < 1e-9
    rounds = "".join(name[0] for name in order[-24:])  # two passes of 20 ms, four of 10 ms, turned round every time
    assert rounds == "bbhhhhhhhhbbbbhhhhhhhhbb"


def test_measuring_goes_on_until_it_is_precise_or_over():
    clock, rng = Clock(), np.random.default_rng(0)
    runs = {name: lambda: clock.take(10 * rng.lognormal(sigma=0.05)) for name in ("base", "same")}
    effort = Effort(round_ms=1, block=10, rounds=400, half_width=0.01)
    precise = side_by_side(runs, effort, clock)
    assert 20 <= precise.rounds < 400 and precise.half_width <= 0.01
    assert side_by_side(runs, Effort(round_ms=1, rounds=30, half_width=1e-6), clock).rounds == 30
    assert side_by_side(runs, Effort(round_ms=1, half_width=1e-6, seconds=0), clock).rounds == 10


def test_an_unsteady_block_is_thrown_away_and_what_stays_unsteady_is_told():
    clock, passes = Clock(), iter(range(10**6))

    def at_first_unsteady():
        n = next(passes)
        clock.take(10 if n > 20 else 10 + 5 * (n % 3))

    steady = side_by_side({"base": at_first_unsteady}, Effort(round_ms=1, block=10), clock)
    assert steady.thrown_away == 2 and steady.unsteady is None
    never = side_by_side(
        {"base": lambda: clock.take(10 + 5 * (next(passes) % 3))}, Effort(round_ms=1, rounds=20), clock
    )
    assert never.thrown_away == 2 and "spread by" in never.unsteady


def test_a_reference_that_drifts_is_told_of():
    rounds = np.linspace(10, 20, 10)
    comparison = Comparison({"base": rounds, "other": rounds / 2})
    assert comparison.drift > 0.4 and "unsteady" in comparison.unsteady
    assert comparison.ratio("other").spread == 0
    steady = Comparison({"base": np.full(10, 3.0)})
    assert steady.unsteady is None and steady.latency_ms("base").spread == 0


def test_an_interval_holds_the_median_as_often_as_it_says():
    rng = np.random.default_rng(0)
    found = [estimated(rng.lognormal(sigma=0.1, size=40)) for _ in range(400)]
    held = np.mean([one.low <= 1 <= one.high for one in found])
    assert 0.91 <= held <= 0.98
    assert all(one.low <= one.value <= one.high for one in found)


def test_several_processes_have_one_interval_that_holds_theirs():
    one, other = estimated(np.full(5, 2.0)), estimated(np.full(7, 4.0))
    both = pooled([one, other, other])
    assert (both.value, both.low, both.high, both.n) == (4.0, 2.0, 4.0, 19)
    assert quantiles(np.arange(101.0))["0.95"] == 95


def test_networks_in_memory_are_timed_in_eval_mode_on_so_many_threads():
    torch.manual_seed(0)
    networks = {"wide": nn.Linear(512, 512), "narrow": nn.Linear(512, 16)}
    threads = torch.get_num_threads()
    comparison = compare_latency(networks, (torch.zeros(64, 512),), effort=Effort(rounds=20))
    assert torch.get_num_threads() == threads
    assert all(module.training for module in networks.values())
    base, ratio = comparison.latency("wide"), comparison.ratio("narrow")
    assert (base.metric, base.unit, base.n) == ("latency_ms", "ms", comparison.times.rounds)
    assert (ratio.metric, ratio.unit) == ("latency_ratio", "") and 0 < ratio.value < 1
    assert base.device.endswith("1 thread")


def test_nothing_to_time_is_an_error():
    with pytest.raises(ValueError, match="at least one network"):
        side_by_side({})
    with pytest.raises(ValueError, match="at least one round"):
        Effort(rounds=0)

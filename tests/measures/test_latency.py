import time

import numpy as np
import pytest
import torch
from torch import nn

from automl.measures import LatencyComparison, compare_latency


class Sleep(nn.Module):
    def __init__(self, ms):
        super().__init__()
        self.ms = ms
        self.calls = 0

    def forward(self, x):
        self.calls += 1
        time.sleep(self.ms / 1e3)
        return x


def test_times_and_ratios_of_networks_that_take_known_time():
    networks = {"base": Sleep(20), "half": Sleep(10)}
    threads = torch.get_num_threads()
    comparison = compare_latency(networks, (torch.zeros(1),), rounds=7, round_ms=40)
    assert torch.get_num_threads() == threads
    assert all(module.training for module in networks.values())
    base, half = comparison.latency("base"), comparison.latency("half")
    assert (base.metric, base.unit, base.n) == ("latency_ms", "ms", 7)
    assert base.value >= 20 and half.value >= 10
    assert comparison.ratio("half").value == pytest.approx(0.5, rel=0.25)
    assert comparison.ratio("base").value == 1
    # Rounds of about 40 ms: the faster network runs more often.
    assert networks["half"].calls > networks["base"].calls


def test_an_unsteady_reference_is_reported():
    rounds = np.linspace(10, 20, 10)
    comparison = LatencyComparison({"base": rounds, "other": rounds / 2}, "somewhere")
    assert comparison.drift > 0.4
    assert "unsteady" in comparison.unsteady
    assert comparison.ratio("other").spread == 0
    steady = LatencyComparison({"base": np.full(10, 3.0)}, "somewhere")
    assert steady.unsteady is None
    assert steady.latency("base").spread == 0


def test_a_network_that_slows_down_while_it_is_timed_is_reported():
    class Slowing(Sleep):
        def forward(self, x):
            self.ms *= 1.3
            return super().forward(x)

    comparison = compare_latency({"base": Slowing(0.5)}, (torch.zeros(1),), rounds=6, round_ms=0.5)
    assert comparison.latency("base").value > 0.5
    assert comparison.drift > 0.1 and "unsteady" in comparison.unsteady


def test_nothing_to_time_is_an_error():
    with pytest.raises(ValueError, match="at least one network"):
        compare_latency({}, (torch.zeros(1),))
    with pytest.raises(ValueError, match="at least one round"):
        compare_latency({"base": Sleep(0)}, (torch.zeros(1),), rounds=0)

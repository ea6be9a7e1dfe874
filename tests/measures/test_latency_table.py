"""Latency tables: what they predict, that they are walls like any cost, and that measuring them finds what is there."""

import json
import pickle

import numpy as np
import pytest
import torch
from torch import nn

from automl.config.latency import PREDICTED, LatencyOptions
from automl.errors import ConfigError, StudyError
from automl.measures.latency import batch_of
from automl.measures.latency_model import EFFORT, PRECISION, Curve, LatencyTable, measure_latency_table
from search_spaces import InfeasibleBudgetError, NetworkSpace, SpaceError, channel_space
from search_spaces.spaces.wall import shown
from tests.kits.spaces import SpaceConformance


def network(width: int = 64) -> nn.Sequential:
    """Nearly all its time goes into one wide layer, whose input is one group of channels and whose output another."""
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, width, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(width, width, 3, padding=1),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(width, 4),
    )


X = torch.zeros(2, 3, 16, 16)


def table(original_ms: float = 80_000.0, smallest: float = 0.3) -> LatencyTable:
    """A table for `network()`, not measured."""
    curves = (
        Curve("0", (7, 21, 40, 64), (0.45, 0.6, 0.6, 1.0)),
        Curve("2", (7, 33, 50, 64), (0.6, 0.7, 0.95, 1.0)),
    )
    return LatencyTable(original_ms, smallest, curves, 0.01, 10, "a processor, 1 thread", LatencyOptions())


@pytest.fixture
def space() -> NetworkSpace:
    return channel_space(network(), (X,))


class TestSpaceWithALatencyTable(SpaceConformance):
    """Latency is a cost like the others: monotone, walled in, projected onto, pickled."""

    @pytest.fixture
    def space(self):
        space = channel_space(network(), (X,))
        space.add_cost(PREDICTED, table())
        assert space.metrics == ("macs", "params", "size_bytes", PREDICTED)
        return space


def test_savings_add_up_between_the_original_and_the_smallest_network():
    predict = table()
    assert predict(np.array([64, 64])) == 80_000
    assert predict(np.array([21, 64])) == pytest.approx(0.6 * 80_000)
    assert predict(np.array([30, 64])) == pytest.approx(0.6 * 80_000)
    assert predict(np.array([52, 64])) == pytest.approx(0.8 * 80_000)
    assert predict(np.array([52, 33])) == pytest.approx(0.5 * 80_000)
    assert predict(np.array([7, 7])) == pytest.approx(0.3 * 80_000)


def test_the_tables_names_are_those_of_the_groups_it_is_used_with(space):
    assert [knob.name for knob in space.knobs] == [curve.group for curve in table().curves]
    recorded = json.loads(json.dumps(table().to_record()))
    again = LatencyTable.from_record(recorded, space)
    assert again == table()
    with pytest.raises(StudyError, match="other groups of channels"):
        LatencyTable.from_record(recorded, channel_space(network(32), (X,)))


def test_a_cost_is_added_once(space):
    space.add_cost(PREDICTED, table())
    with pytest.raises(SpaceError, match="already"):
        space.add_cost(PREDICTED, table())
    with pytest.raises(SpaceError, match="already"):
        space.add_cost("macs", table())
    assert pickle.loads(pickle.dumps(space)).metrics == space.metrics


def test_a_latency_nobody_can_meet_is_told_in_milliseconds(space):
    space.add_cost(PREDICTED, table(original_ms=2.0))
    message = r"predicted_latency_ms <= 0.5: the smallest has 0.6 \(30.0% of 2\)"
    with pytest.raises(InfeasibleBudgetError, match=message):
        space.require_feasible({PREDICTED: 0.5})


def test_a_measured_table_finds_where_the_time_goes(space):
    told = []
    measured = measure_latency_table(space, (X,), LatencyOptions(batch=8, widths=3), told.append)
    assert told == ["measuring the latency of 2 groups at 3 widths, beside the original network"]
    assert [curve.group for curve in measured.curves] == [knob.name for knob in space.knobs]
    for curve, knob in zip(measured.curves, space.knobs, strict=True):
        assert len(curve.levels) == 3
        assert (curve.levels[0], curve.levels[-1]) == (knob.levels[0], knob.levels[-1])
        assert list(curve.ratios) == sorted(curve.ratios)
        assert curve.ratios[-1] == 1
    # Four runs on a busy machine: 0.19 to 0.30 with a tenth of the inputs of the widest layer, 0.45 to 0.74 with a
    # tenth of its outputs, 0.13 to 0.15 with both.
    assert measured.curves[0].ratios[0] < 0.75
    assert measured.curves[1].ratios[0] < 1
    assert 0 < measured.smallest < 0.6
    assert measured(space.highest) == measured.original_ms > 0
    assert measured(space.lowest) >= round(measured.smallest * measured.original_ms, 6)
    assert EFFORT.block <= measured.rounds <= EFFORT.rounds
    assert measured.error > 0 and (measured.unsteady is None or measured.error > PRECISION)
    assert measured.device.endswith("1 thread")


def test_a_batch_repeats_the_samples_there_are():
    first, second = torch.arange(2).float(), torch.arange(6).reshape(2, 3)
    batch = batch_of((first, second), 3)
    assert batch[0].tolist() == [0, 1, 0] and batch[1].tolist() == [[0, 1, 2], [3, 4, 5], [0, 1, 2]]
    assert batch_of((first,), 1)[0].tolist() == [0]


def test_a_busy_machine_is_told_of():
    from dataclasses import replace

    assert table().unsteady is None
    assert "busy machine" in replace(table(), error=0.08).unsteady


@pytest.mark.parametrize("option", [{"batch": 0}, {"threads": 0}, {"widths": 1}])
def test_senseless_options_are_refused(option):
    with pytest.raises(ConfigError, match="must be at least"):
        LatencyOptions(**option)


@pytest.mark.parametrize(
    ("cost", "text"),
    [(0.00889, "0.00889"), (0.00922, "0.00922"), (0.6, "0.6"), (2.34567, "2.346"), (160, "160"), (11755.2, "11,755")],
)
def test_costs_are_told_as_exactly_as_they_differ(cost, text):
    """A network of small layers takes microseconds, of which a limit is a part."""
    assert shown(cost) == text

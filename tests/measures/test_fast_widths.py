"""Widths that are no faster than greater ones are not offered where latency is the only limit."""

import json
from itertools import pairwise

import numpy as np
import pytest
from torch import nn

from automl.config.study import StudyConfig
from automl.errors import ConfigError
from automl.measures import fast_widths as module
from automl.measures.fast_widths import EVERY, fast_widths
from automl.study import fast_shapes
from automl.study.fast_shapes import fast_operators
from search_spaces import Channels, NetworkSpace
from search_spaces.errors import SpaceError
from tests.kits.digits import problem
from tests.kits.rough_times import rough_times
from tests.kits.timed_blocks import Blocks, X


def space_of(**channels) -> NetworkSpace:
    return NetworkSpace(Blocks().eval(), (X,), {"channels": channels or None})


def measured(monkeypatch, space, time_of):
    """The fast widths where a shape with so many channels takes `time_of` both."""
    monkeypatch.setattr(module, "_times", lambda make, shape, widths, threads: {w: time_of(shape, w) for w in widths})
    return fast_widths(space, make=None, threads=1)


def test_smooth_times_leave_all_widths_that_save_enough(monkeypatch):
    widths = measured(monkeypatch, space_of(), lambda shape, w: w)
    assert set(widths) == {group.name for group in space_of().groups}
    assert all(found == (*range(1, 17), 20, 24, 28) for found in widths.values())  # all that are timed


@pytest.mark.parametrize("step", [4, 8, 16])
def test_on_stairs_the_ends_of_steps_are_left(monkeypatch, step):
    """Ragged widths take twice as long as the next whole step, as in ONNX Runtime."""
    widths = measured(monkeypatch, space_of(), lambda _, w: -(-w // step) * step * (1 if w % step == 0 else 2))
    assert all(found == tuple(range(step, 32, step)) for found in widths.values())


def test_a_width_is_offered_if_it_is_faster_than_all_greater_ones_that_are(monkeypatch):
    """For any times at all, what is left falls by at least the least worth from each width to the next."""
    rng = np.random.default_rng(0)
    for _ in range(20):
        times = {w: float(rng.uniform(1, 2)) for w in range(1, 33)}
        for found in measured(monkeypatch, space_of(), lambda _, w, times=times: times[w]).values():
            chain = [times[w] for w in (*found, 32)]
            assert all(low <= 0.98 * high for low, high in pairwise(chain))
            for w in set(range(1, 17)) - set(found):  # none is left out that would have saved more
                assert times[w] > 0.98 * min(times[v] for v in (*found, 32) if v > w)


def test_where_nothing_narrower_is_faster_nothing_is_offered(monkeypatch):
    assert measured(monkeypatch, space_of(), lambda shape, w: 1.0) == {EVERY: ()}


def test_a_group_has_only_the_widths_that_it_is_given():
    chain = nn.Sequential(
        *(part for a, b in ((3, 8), (8, 6), (6, 4)) for part in (nn.Conv2d(a, b, 3), nn.ReLU()))
    ).eval()
    space = NetworkSpace(chain, (X,), {"channels": {"widths": {"0": [2, 5, 40], "2": []}}})
    assert {knob.name: knob.levels for knob in space.knobs} == {"0": (2, 5, 8)}
    reasons = {fixed.name: fixed.reason for fixed in space.operator(Channels).fixed}
    assert reasons["2"] == "is offered no narrower width"
    with pytest.raises(SpaceError, match="widths pattern 'nothing' matches no group"):
        space_of(widths={"nothing": [4]})
    with pytest.raises(SpaceError, match="widths gives groups numbers of channels, at least 1"):
        space_of(widths={"stem": [0]})


def config(**changes) -> StudyConfig:
    told = {"name": "s", "model": "x:y", "data": "x:z", "budget": "latency <= 50% on onnxruntime"}
    return StudyConfig.from_dict(told | changes)


def test_a_study_measures_once_which_widths_are_fast(monkeypatch):
    said: list[str] = []
    trained = problem("small_cnn")
    with rough_times():
        operators, found = fast_operators(config(), trained, None, tuple, said.append)
    assert found.widths and said[0] == "measuring at which widths layers are faster" and len(said) == 2
    assert operators["channels"].widths == found.widths or list(found.widths) == [EVERY]
    monkeypatch.setattr(fast_shapes, "fast_widths", lambda *_: pytest.fail("measured again"))
    told = json.loads(json.dumps(found.to_record()))
    assert fast_operators(config(), trained, told, tuple, said.append)[0] == operators
    as_it_is = config().space.operators
    others = {"budget": ["latency <= 50% on onnxruntime", "macs <= 50%"]}, {"latency": {"fast_widths": False}}
    for changes in (*others, {"budget": "latency <= 50%"}, {"budget": "macs <= 50%"}):
        assert fast_operators(config(**changes), trained, None, tuple, said.append)[0] == as_it_is
    assert len(said) == 2


def test_channels_are_left_out_where_no_width_is_faster(monkeypatch):
    said: list[str] = []
    monkeypatch.setattr(fast_shapes, "fast_widths", lambda *_: {EVERY: ()})
    both = config(space={"depth": {}, "channels": {}})
    operators, found = fast_operators(both, problem("small_cnn"), None, tuple, said.append)
    assert list(operators) == ["depth"] and said[-1].endswith("at any narrower width: channels is left out")
    assert fast_operators(both, problem("small_cnn"), found.to_record(), tuple, said.append)[0] == operators
    with pytest.raises(ConfigError, match="channels alone cannot keep a limit on latency"):
        fast_operators(config(), problem("small_cnn"), None, tuple, said.append)

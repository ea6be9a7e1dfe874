"""Ranks that save no time are not offered where latency is the only limit."""

import json

import numpy as np
import pytest
from torch import nn

from automl.config.study import StudyConfig
from automl.errors import ConfigError
from automl.measures.fast_ranks import fast_shares
from automl.measures.fast_widths import EVERY
from automl.measures.pieces import Grid, layers_of, shapes_of
from automl.study import fast_shapes
from automl.study.fast_shapes import fast_operators
from search_spaces import NetworkSpace, Rank
from search_spaces.errors import SpaceError
from tests.kits.digits import problem
from tests.kits.timed_blocks import Blocks, X


def space_of(**rank) -> NetworkSpace:
    return NetworkSpace(Blocks().eval(), (X,), {"channels": None, "rank": rank or None})


def grids_of(space, time_of):
    """Of every shape in the space, at any rank: `time_of` a shape, what it reads and what it makes."""
    shapes = {
        shape
        for levels in (space.original_levels, space.lowest)
        for layer in layers_of(shapes_of(space), space.sheet(levels))
        for shape, *_ in (*layer.pieces, layer.whole)
    }
    ends = (1.0, 64.0)
    return {s: Grid(ends, ends, tuple(tuple(time_of(s, r, m) for m in ends) for r in ends)) for s in shapes}


def by_operations(shape, read, made):
    return shape.kernel[0] * shape.kernel[1] * read * made


def test_layers_are_offered_the_ranks_at_which_their_factors_are_faster():
    space = space_of()
    assert fast_shares(space, grids_of(space, by_operations)) == {}
    late = grids_of(space, lambda s, r, m: by_operations(s, r, m) + (1000 if s.kernel == (3, 1) else 0))
    shares = fast_shares(space, late)
    assert shares["stem"] == 0 and 0 < shares["first"] < 1 and "second.2" not in shares
    slow = grids_of(space, lambda s, r, m: 1e9 if s.kernel == (3, 1) else 1.0)
    assert fast_shares(space, slow) == {EVERY: 0}


def test_shares_are_the_largest_that_save_time():
    """Of one layer of one width: the share found saves time, and the next does not."""
    space = NetworkSpace(
        nn.Sequential(nn.Conv2d(32, 32, 3, padding=1)).eval(), (X[:, :1].expand(2, 32, 16, 16),), {"rank": None}
    )
    grids = grids_of(space, lambda s, r, m: by_operations(s, r, m) + (3000 if s.kernel == (1, 3) else 0))
    share = fast_shares(space, grids)["0"]
    (layer,) = layers_of(shapes_of(space), space.sheet(np.array([round(share * 16)])))
    (above,) = layers_of(shapes_of(space), space.sheet(np.array([round(share * 16) + 1])))
    assert layer.times_ms(grids)[0] < layer.times_ms(grids)[1]
    assert above.times_ms(grids)[0] >= above.times_ms(grids)[1]


def test_a_layer_has_at_most_the_share_that_it_is_given():
    space = space_of(at_most={"first": 0.5, "stem": 0.05})
    knobs = {knob.name: knob for knob in space.knobs if knob.operator == "rank"}
    assert "rank:stem" not in knobs
    assert [w.reason for w in space.operator(Rank).whole if w.name == "stem.weight"] == [
        "is offered no rank that is small enough"
    ]
    assert knobs["rank:first"].levels[-2:] == (8, 16)
    assert knobs["rank:first"].labels[-2:] == ("50%", "whole")
    assert knobs["rank:second.2"].levels[-2:] == (15, 16)
    rng = np.random.default_rng(0)
    for _ in range(50):  # two spellings of one network are one Point, of legal levels
        point = space.point([int(rng.choice(knob.levels)) for knob in space.knobs])
        levels = [point[knob.name] for knob in space.knobs]
        assert all(level in knob.levels for level, knob in zip(levels, space.knobs, strict=True))
        assert space.point(levels) == point


def test_what_at_most_cannot_mean_is_told():
    with pytest.raises(SpaceError, match="at_most pattern 'nothing' matches no convolution or linear layer"):
        space_of(at_most={"nothing": 0.5})
    with pytest.raises(SpaceError, match=r"at_most gives layers shares in \[0, 1\), got \{'first': 1.5\}"):
        space_of(at_most={"first": 1.5})


def config(**changes) -> StudyConfig:
    told = {"name": "s", "model": "x:y", "data": "x:z", "space": {"channels": {}, "rank": {}}}
    told["latency"] = {"fast_widths": False}
    return StudyConfig.from_dict(told | {"budget": "latency <= 50% on eager"} | changes)


def test_a_study_measures_once_which_ranks_are_fast(monkeypatch):
    said: list[str] = []
    trained = problem("small_cnn")
    slow_columns = lambda s, r, m: by_operations(s, r, m) + (1000 if s.kernel == (3, 1) else 0)  # noqa: E731
    monkeypatch.setattr(fast_shapes, "measured_grids", lambda space, *_: grids_of(space, slow_columns))
    operators, found = fast_operators(config(), trained, None, tuple, said.append)
    assert found.grids and len(operators["rank"].at_most) > 0 and "are offered only small ranks" in said[0]
    told = json.loads(json.dumps(found.to_record()))
    monkeypatch.setattr(fast_shapes, "measured_grids", lambda *_: pytest.fail("measured again"))
    again, _ = fast_operators(config(), trained, told, tuple, said.append)
    assert again == operators
    of_old, _ = fast_operators(config(), trained, {}, tuple, said.append)  # begun by a version that measured none
    assert of_old == config().space.operators
    with_others, _ = fast_operators(config(budget=["latency <= 50%", "macs <= 50%"]), trained, None, tuple, said.append)
    assert with_others == config().space.operators


def test_rank_is_left_out_where_no_layer_is_faster(monkeypatch):
    said: list[str] = []
    monkeypatch.setattr(fast_shapes, "fast_shares", lambda *_: {EVERY: 0.0})
    monkeypatch.setattr(fast_shapes, "measured_grids", lambda *_: {})
    operators, found = fast_operators(config(), problem("small_cnn"), None, tuple, said.append)
    assert list(operators) == ["channels"] and said == [
        "no layer is faster on eager as factors than whole: rank is left out"
    ]
    again, _ = fast_operators(config(), problem("small_cnn"), found.to_record(), tuple, said.append)
    assert again == operators
    with pytest.raises(ConfigError, match="rank alone cannot keep a limit on latency"):
        fast_operators(config(space={"rank": {}}), problem("small_cnn"), None, tuple, said.append)

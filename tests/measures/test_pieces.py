"""Models of pieces: a cost like the others, which tells layers from factors, and finds what the time goes into."""

import json
import pickle
from dataclasses import replace
from functools import partial
from importlib.util import find_spec

import numpy as np
import pytest
import torch
from torch import nn

from automl.config.latency import PREDICTED, LatencyOptions
from automl.errors import BackendError, StudyError
from automl.export.chains import PAIRS, chain_runner
from automl.measures import piece_times
from automl.measures.backends.side_by_side import Comparison, Effort
from automl.measures.counts import count_macs
from automl.measures.latency import LatencyComparison, compare_latency
from automl.measures.piece_times import measure_pieces
from automl.measures.pieces import Grid, PieceCost, PieceModel, Shape, layers_of, shapes_of
from automl.study.known_pieces import known_grids
from automl.study.latency_at_limit import TURNS, scaled_at_limit
from search_spaces import NetworkSpace, OfSheet, Plan
from tests.kits.made_up_times import made_up_model as model
from tests.kits.timed_blocks import Blocks, X


def joint() -> NetworkSpace:
    return NetworkSpace(Blocks().eval(), (X,), {"depth": None, "channels": None, "rank": None})


def original(space: NetworkSpace) -> nn.Module:
    return space.build(Plan()).eval()


def test_the_predicted_latency_never_falls_when_a_level_rises_and_goes_with_the_space():
    space, rng = joint(), np.random.default_rng(0)
    space.add_cost(PREDICTED, OfSheet(PieceCost(shapes_of(space), model(space)), many=True))
    copied = pickle.loads(pickle.dumps(space))
    for _ in range(200):
        levels = np.array([int(rng.choice(knob.levels)) for knob in space.knobs])
        place = int(rng.integers(len(levels)))
        higher = levels.copy()
        higher[place] = int(rng.choice([level for level in space.knobs[place].levels if level >= levels[place]]))
        cost = space.cost_of_levels(levels, PREDICTED)
        assert 0 < cost <= space.cost_of_levels(higher, PREDICTED)
        assert copied.cost_of_levels(levels, PREDICTED) == cost


def test_layers_are_what_they_are_built_as():
    space = joint()
    whole = layers_of(shapes_of(space), space.sheet(space.original_levels))
    shapes = [(layer.whole[0].kernel, layer.whole[0].height, layer.whole[0].depthwise) for layer in whole]
    assert shapes == [((3, 3), 8, False), ((3, 3), 8, False), ((3, 3), 8, True), ((1, 1), 8, False), ((1, 1), 0, False)]
    assert [layer.whole[1:] for layer in whole] == [(3, 32), (32, 32), (1, 32), (32, 32), (32, 4)]
    levels = space.original_levels.copy()
    names = [knob.name for knob in space.knobs]
    levels[names.index("rank:first")] = space.knobs[names.index("rank:first")].levels[0]
    factored = layers_of(shapes_of(space), space.sheet(levels))[1]
    (column, read, rank), (row, same, made) = factored.pieces
    assert (column.kernel, row.kernel) == ((3, 1), (1, 3)) and rank == same and (read, made) == (32, 32)
    assert factored.whole == whole[1].whole
    levels = space.original_levels.copy()
    levels[[i for i, knob in enumerate(space.knobs) if knob.kind == "gate"]] = 0
    assert len(layers_of(shapes_of(space), space.sheet(levels))) < len(whole)


def test_factors_that_are_slower_save_nothing():
    space = joint()
    slow = model(space)
    grids = {s: Grid(g.reads, g.mades, ((9.0, 9.0), (9.0, 9.0))) if 1 in s.kernel else g for s, g in slow.grids.items()}
    cost = PieceCost(shapes_of(space), PieceModel(9.0, grids, (1.0, 0.0, 0.0, 0.0), 1.0, 0.0, "", LatencyOptions()))
    levels = space.original_levels.copy()
    levels[[knob.name for knob in space.knobs].index("rank:first")] = 1
    assert cost(space.sheet(levels)) == cost(space.sheet(space.original_levels))


def test_a_measured_model_knows_the_original_and_what_is_smaller(monkeypatch):
    monkeypatch.setattr(piece_times, "GRID", 3)
    space, told = joint(), []
    compare = partial(compare_latency, inputs=(torch.zeros(4, 3, 16, 16),), effort=Effort(rounds=20, seconds=1.0))
    make = chain_runner("eager", 4, 1)
    measured = measure_pieces(space, original(space), LatencyOptions(batch=4), make, compare, told.append)
    assert told[0].startswith("measuring ") and told[1] == "measuring 12 networks of the space beside the original"
    cost = PieceCost(shapes_of(space), measured)
    assert cost(space.sheet(space.lowest)) < cost(space.sheet(space.original_levels))
    assert (
        0.3 < cost(space.sheet(space.original_levels)) / measured.original_ms < 3
    )  # both are times of the same network
    assert measured.held_out >= 0 and all(weight >= 0 for weight in measured.weights)
    recorded = measured.to_record()
    assert json.loads(json.dumps(recorded)) == recorded
    again = PieceModel.from_record(recorded)
    assert again == measured and PieceCost(shapes_of(space), again)(space.sheet(space.lowest)) == cost(
        space.sheet(space.lowest)
    )
    with pytest.raises(StudyError, match="cannot be read"):
        PieceModel.from_record({"grids": [[1, 2]]})
    told.clear()
    quiet = replace(measured, busy=0.0).to_record()
    known = known_grids([{"kind": "widths"}, quiet], measured.device, 4)
    few = partial(compare, effort=Effort(rounds=2, seconds=0.1))
    second = measure_pieces(space, original(space), LatencyOptions(batch=4), no_more, few, told.append, known)
    assert second.grids == measured.grids and f"{len(known)} of {len(known)} shapes" in told[0]


def counted(networks):
    """A comparison in which a network takes a nanosecond for two multiply-accumulates, whatever a model has it take."""
    times = {name: count_macs(network, (X,)) * 5e-7 for name, network in networks.items()}
    return LatencyComparison(Comparison({name: np.full(20, time) for name, time in times.items()}), "a processor")


def test_a_model_is_scaled_to_what_networks_at_the_limit_take():
    space, told = joint(), []
    whole = counted({"it": space.original}).times.latency_ms("it").value
    wrong = replace(model(space), original_ms=whole, scale=model(space).scale * 0.07)
    limit = 0.6 * PieceCost(shapes_of(space), wrong)(space.sheet(space.original_levels))
    right = scaled_at_limit(wrong, space, original(space), limit, counted, told.append)
    assert 1 <= len(told) <= TURNS and all("networks at the limit take at most" in line for line in told)

    def taken(of):
        """How much of the limit networks take that the model has at it, as agents propose them."""
        priced, rng = joint(), np.random.default_rng(1)
        priced.add_cost(PREDICTED, OfSheet(PieceCost(shapes_of(space), of)))
        for _ in range(8):
            point = priced.project(rng.random(len(space.knobs)), {PREDICTED: limit})
            yield counted({"it": space.build(space.plan(point))}).times.latency_ms("it").value / limit

    assert 0.75 < np.median(list(taken(right))) < 1.25 < 1.5 < np.median(list(taken(wrong)))


def test_a_limit_that_no_network_is_near_leaves_a_model_as_it_is():
    space = joint()
    assert scaled_at_limit(model(space), space, original(space), 1e-9, no_more, no_more) == model(space)


def no_more(*shape):
    """A maker for a test in which all is known."""
    raise AssertionError(f"{shape} is measured again")


def test_times_are_known_of_the_same_device_as_many_samples_and_a_quiet_machine():
    one = replace(model(joint()), options=LatencyOptions(batch=4))
    slower = {shape: Grid((1.0, 64.0), (1.0, 64.0), ((1.0, 2.0), (2.0, 3.0))) for shape in list(one.grids)[:1]}
    later = replace(one, grids=slower)
    others = [replace(one, device="another"), replace(one, options=LatencyOptions(batch=5)), replace(one, busy=0.2)]
    assert known_grids([other.to_record() for other in others], "a processor", 4) == {}
    known = known_grids([one.to_record(), {"kind": "pieces"}, later.to_record()], "a processor", 4)
    assert known == {**one.grids, **slower}
    (grid,) = slower.values()
    assert grid.covers({1, 64}, {7}) and not grid.covers({1, 65}, {7}) and not grid.covers({2}, {0, 3})


@pytest.mark.parametrize("backend", ["eager", "onnxruntime", "onnxruntime-int8", "openvino-int8"])
@pytest.mark.parametrize(
    "shape",
    [Shape((3, 3), 8, 8), Shape((1, 3), 4, 8), Shape((3, 3), 8, 8, 8, depthwise=True), Shape((1, 1), 0, 6)],
    ids=["dense", "row", "depthwise", "linear"],
)
def test_every_shape_runs_on_every_backend(backend, shape):
    if find_spec(backend.partition("-")[0]) is None and backend != "eager":
        pytest.skip("not installed")
    run, layers = chain_runner(backend, 2, 1)(shape, 8, 16)
    assert layers == 2 * PAIRS
    run()


def test_layers_from_one_value_to_one_run_in_openvino():
    """Its compiler stumbles over them: what it cannot fuse it need not."""
    pytest.importorskip("openvino")
    run, _ = chain_runner("openvino", 1, 1)(Shape((1, 1), 0, 1), 1, 1)
    assert np.isfinite(run()[0]).all()


def test_the_compiler_is_not_asked_for_each_piece():
    with pytest.raises(BackendError, match="limit the latency on eager"):
        chain_runner("compile", 1, 1)

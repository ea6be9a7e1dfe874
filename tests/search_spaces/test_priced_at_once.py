"""Many networks priced at once cost what each costs alone, to the last digit, and are the same Points."""

import numpy as np
import pytest
import torch

from automl.config.latency import PREDICTED
from automl.measures.pieces import PieceCost, shapes_of
from search_spaces import NetworkSpace, OfSheet
from search_spaces.pricing.metrics import PEAK
from search_spaces.pricing.peak import peak_memory
from tests.kits.joint_spaces import CODED, SETS, SHARED, make_space, random_levels
from tests.kits.made_up_times import made_up_model
from tests.kits.timed_blocks import Blocks, X

ROWS = 20
MORE = (
    {},
    {"rank": {"scheme": "cp"}, "code": {"formats": CODED}},
    {"rank": {"scheme": "tucker"}, "code": {"formats": SHARED}, "sparsity": {"pattern": "2:4"}},
    {"code": {"inputs": "int8"}},
)


@pytest.mark.parametrize("names", SETS, ids="+".join)
def test_costs_and_points_are_those_of_each_alone(names):
    torch.set_num_threads(1)
    tried = 0
    for seed, more in enumerate(MORE):
        space, x = make_space(names, seed, **more)
        if space is not None:
            tried += 1
            space.add_cost(PEAK, OfSheet(peak_memory(space.basis.analysis, space.basis.terms, (x,)), many=True))
            space.add_cost("levels", lambda levels: float(levels.sum()))
            check(space, np.random.default_rng(seed), f"{names}, seed {seed}")
    assert tried


def test_so_are_predicted_latencies():
    space = NetworkSpace(Blocks().eval(), (X,), {"depth": None, "channels": None, "rank": None, "code": None})
    space.add_cost(PREDICTED, OfSheet(PieceCost(shapes_of(space), made_up_model(space)), many=True))
    check(space, np.random.default_rng(0), "a model of pieces")


def check(space, rng, where):
    levels = np.stack([random_levels(space, rng) for _ in range(ROWS)])
    assert space.points(levels) == [space.point(row.tolist()) for row in levels], where
    for metric in space.metrics:
        alone = [space.cost_of_levels(row, metric) for row in levels]
        assert space.costs_of_levels(levels, metric).tolist() == alone, f"{where}: {metric}"
    limits = {metric: float(np.median(space.costs_of_levels(levels, metric))) for metric in space.metrics}
    within = [space.within(row, limits) for row in levels]
    assert space.are_within(levels, limits).tolist() == within, where


@pytest.mark.parametrize("names", [("depth", "channels"), ("depth", "channels", "rank", "code")], ids="+".join)
@pytest.mark.parametrize("metric", ["macs", "size_bytes"])
def test_budgets_are_spent_alike_however_networks_are_priced(names, metric, monkeypatch):
    space = next(space for space, _ in (make_space(names, seed) for seed in range(9)) if space is not None)
    rng = np.random.default_rng(0)
    lowest, whole = (space.cost_of_levels(levels, metric) for levels in (space.lowest, space.highest))
    asked = []
    for share in (0.2, 0.5, 0.8):
        wanted, order = rng.random(len(space.knobs)), rng.permutation(len(space.knobs)).tolist()
        asked.append(({metric: lowest + share * (whole - lowest)}, wanted, random_levels(space, rng).tolist(), order))

    def spent():
        for limits, wanted, levels, order in asked:
            repaired = space.repaired(levels, order, limits)
            yield space.project(wanted, limits), repaired, space.fill(space.levels(repaired).tolist(), wanted, limits)

    at_once = list(spent())
    monkeypatch.setattr(NetworkSpace, "at_once", lambda self, metrics: False)
    assert list(spent()) == at_once

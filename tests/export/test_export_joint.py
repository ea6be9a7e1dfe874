"""What operators leave together is exported, loaded on the original alone, and the same to the bit."""

import numpy as np
import pytest
import torch

from automl.export import export, load
from search_spaces import RankStep
from tests.kits.joint_spaces import SETS, make_network, make_space, random_levels

NETWORKS = 1
"""Of each set of operators, besides those that nothing can be done to."""


def winners(names, n):
    """The seed of a random network, a random plan of its space, the network built, and an input."""
    seed = 0
    while n:
        space, x = make_space(names, seed)
        if space is not None:
            plan = space.plan(space.point(random_levels(space, np.random.default_rng(seed)).tolist()))
            yield seed, plan, space.build(plan).eval(), x
            n -= 1
        seed += 1


@pytest.mark.parametrize("names", SETS, ids="+".join)
def test_every_pair_comes_back_bit_for_bit(names, tmp_path):
    for seed, plan, network, x in winners(names, NETWORKS):
        export(network, (x,), plan, tmp_path / str(seed), ["safetensors"], manifest={})
        with torch.no_grad():
            assert torch.equal(load(tmp_path / str(seed), make_network(names, seed).eval())(x), network(x)), seed


@pytest.mark.parametrize("names", SETS[-1:], ids="+".join)
def test_all_of_them_run_elsewhere(names, tmp_path):
    for _, plan, network, x in winners(names, 1):
        export(network, (x,), plan, tmp_path, ["safetensors", "pt2", "onnx"], manifest={})


@pytest.mark.parametrize("scheme", ["tucker", "cp"])
def test_factors_of_every_scheme_and_codebooks_run_elsewhere(scheme, tmp_path):
    names, seed = ("rank", "code"), 0
    space, x = make_space(names, seed, rank={"scheme": scheme}, code={"formats": ["shared3", "shared4"]})
    levels = [knob.levels[len(knob.levels) // 2 if knob.operator == "rank" else 0] for knob in space.knobs]
    plan = space.plan(space.point(levels))
    assert scheme in plan.get(RankStep).schemes.values()
    network = space.build(plan).eval()
    export(network, (x,), plan, tmp_path, ["safetensors", "onnx"], manifest={})
    with torch.no_grad():
        assert torch.equal(load(tmp_path, make_network(names, seed).eval())(x), network(x))

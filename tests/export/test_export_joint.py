"""What operators leave together is exported, loaded on the original alone, and the same to the bit."""

import numpy as np
import pytest
import torch

from automl.export import export, load
from automl.measures.counts import Counting, counts
from search_spaces import Code, RankStep, Sparsity
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


@pytest.mark.parametrize("names", [("channels", "sparsity"), ("channels", "code")], ids="+".join)
def test_a_file_takes_what_was_counted_where_weights_were_left_alone(names, tmp_path):
    """Only channels go; the space prices packed files all the same, and that is the file that is written."""
    seed = next(seed for seed in range(20) if make_space(names, seed)[0] is not None)
    space, x = make_space(names, seed)
    levels = [knob.levels[0] if knob.operator == "channels" else knob.original for knob in space.knobs]
    point = space.point(levels)
    plan = space.plan(point)
    network = space.build(plan).eval()
    counting = Counting(space.packed, space.has(Sparsity), space.has(Code))
    counted = next(m.value for m in counts(network, (x,), counting) if m.metric == "size_bytes")
    (file, _) = export(network, (x,), plan, tmp_path, ["safetensors"], manifest={})
    assert file.bytes == counted <= space.cost(point, "size_bytes")

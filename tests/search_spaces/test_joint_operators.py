"""Every operator and every pair of them on random networks: costs monotone and those of the network built for real."""

import numpy as np
import pytest
import torch
from safetensors.torch import save
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from search_spaces import CodeStep, NetworkSpace, Plan, RankStep, rebuild, trace
from search_spaces.codecs.number_formats import ALL_FORMATS
from search_spaces.codecs.packing import pack
from tests.kits import amount
from tests.kits.joint_spaces import CODED, PATTERNS, SCHEMES, SETS, SHARED, make_space, random_levels

NETWORKS = amount.of(60, 12)
"""Of each set of operators: 1,020 in all, or 204."""


@pytest.mark.parametrize("names", SETS, ids="+".join)
def test_costs_are_monotone_and_those_of_the_built_network(names):
    torch.set_num_threads(1)
    built = 0
    for seed in range(NETWORKS):
        space, x = make_space(names, seed)
        if space is not None:
            built += 1
            check(space, x, np.random.default_rng(seed), f"{names}, seed {seed}")
    assert built > NETWORKS // 4


@pytest.mark.parametrize("pattern", PATTERNS)
@pytest.mark.parametrize("names", [names for names in SETS if "sparsity" in names], ids="+".join)
def test_so_are_those_of_every_pattern(names, pattern):
    torch.set_num_threads(1)
    built = 0
    for seed in range(NETWORKS):
        if built == NETWORKS // 4:
            break
        space, x = make_space(names, seed, sparsity={"pattern": pattern})
        if space is not None:
            built += 1
            check(space, x, np.random.default_rng(seed), f"{names} of pattern {pattern}, seed {seed}")
    assert built > NETWORKS // 20


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("names", [names for names in SETS if "rank" in names], ids="+".join)
def test_so_are_those_of_every_scheme_of_factors(names, scheme):
    torch.set_num_threads(1)
    built = 0
    for seed in range(NETWORKS):
        if built == NETWORKS // 4:
            break
        space, x = make_space(names, seed, rank={"scheme": scheme})
        if space is not None:
            built += 1
            check(space, x, np.random.default_rng(seed), f"{names} by {scheme}, seed {seed}")
    assert built > NETWORKS // 20


@pytest.mark.parametrize(
    "code", [{"inputs": "int8"}, {"formats": CODED}, {"formats": SHARED}], ids=["inputs", "coded", "shared"]
)
@pytest.mark.parametrize("names", [names for names in SETS if "code" in names], ids="+".join)
def test_so_are_those_of_quantized_inputs_of_entropy_coded_weights_and_of_codebooks(names, code):
    torch.set_num_threads(1)
    built = 0
    for seed in range(NETWORKS):
        if built == NETWORKS // 4:
            break
        space, x = make_space(names, seed, code=code)
        if space is not None:
            built += 1
            check(space, x, np.random.default_rng(seed), f"{names}, {code}, seed {seed}")
    assert built > NETWORKS // 20


@pytest.mark.parametrize("scheme", ["svd", "auto", "tucker", "cp"])
def test_a_narrowed_layer_keeps_the_rank_that_errors_are_known_of(scheme):
    x = torch.randn(2, 3, 8, 8)
    network = nn.Sequential(nn.Conv2d(3, 32, 3, padding=1), nn.ReLU(), nn.Conv2d(32, 24, 3, padding=1), nn.ReLU())
    network = nn.Sequential(*network, nn.Conv2d(24, 4, 3, padding=1), nn.Flatten(), nn.Linear(256, 5)).eval()
    space = NetworkSpace(network, (x,), {"channels": {"min_keep": 0.1}, "rank": {"scheme": scheme}})

    def ranks(width, share):
        levels = {"0": width, "2": 24, "rank:2": share}
        point = space.point([levels.get(knob.name, knob.levels[-1]) for knob in space.knobs])
        return space.plan(point).get(RankStep).ranks_of("2")

    whole = ranks(32, 6)
    assert ranks(24, 6) == whole
    for width in range(4, 33):
        most = ranks(width, 15)  # the largest at which what is left gains
        assert ranks(width, 6) == tuple(map(min, zip(whole, most, strict=True))), width


def check(space, x, rng, where):
    levels = random_levels(space, rng)
    t = int(rng.integers(len(levels)))
    higher = levels.copy()
    higher[t] = int(rng.choice([level for level in space.knobs[t].levels if level >= levels[t]]))
    for metric in space.metrics:
        low, high = (space.cost_of_levels(x, metric) for x in (levels, higher))
        assert low <= high, f"{where}: {metric} falls from {low} to {high} as {space.knobs[t].name} rises"

    point = space.point(levels.tolist())
    canonical = space.levels(point)
    assert space.point(canonical.tolist()) == point, where
    assert all(space.cost_of_levels(levels, m) == space.cost(point, m) for m in space.metrics), where
    assert space.decode(space.encode(point)) == point, where

    plan = space.plan(point)
    network = space.build(plan).eval()
    again = rebuild(trace(space.original, (x,)), Plan.from_json(plan.to_json())).eval()
    y = torch.randn(3, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        assert torch.equal(network(y), again(y)), where
    counted = count(network, y, space, plan)
    for metric in space.metrics:
        predicted = space.cost(point, metric)
        if metric == "size_bytes":
            # Lines of the header are foretold longer than they are, floats as they are: the file has both compressed.
            slack = counted[metric] / 6 + 500 * len(space.knobs) + 200 * len(network.state_dict()) + 500
            assert counted[metric] <= predicted <= counted[metric] + slack, f"{where}: {metric}"
        elif metric == "params" and {"sparsity", "code"} <= {operator.name for operator in space.operators}:
            assert counted[metric] <= predicted, where  # rounding makes some more of them zero
        else:
            assert counted[metric] == predicted, f"{where}: {metric} {counted[metric]} for {predicted}"


def count(network, y, space, plan):
    """What PyTorch, and the file, say of a network."""
    with FlopCounterMode(display=False, depth=99) as counter, torch.no_grad():
        network(y)
    macs = counter.get_total_flops() / 2 / len(y)
    sparse = any(operator.name == "sparsity" for operator in space.operators)
    state = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    return {
        "macs": macs,
        "params": sum(int(p.count_nonzero()) if sparse else p.numel() for p in network.parameters()),
        "size_bytes": len(pack(state) if space.packed else save(state)),
        "bops": 1024 * macs - sum((1024 - bits) * m for bits, m in coded(network, y, plan)),
    }


def coded(network, y, plan):
    """The bits, those of the weight times those of the input, and the multiply-accumulates a sample of each call of a
    layer with integer weights."""
    found = []
    hooks = []
    step = plan.get(CodeStep)
    for name, form in step.formats.items():
        form = ALL_FORMATS[form].with_zero if step.pruned else ALL_FORMATS[form]
        bits = form.bits * (8 if name in step.inputs else 32)

        def see(layer, args, out, bits=bits, rounded=name in step.inputs):
            positions = out[0].numel() // layer.weight.shape[0]
            found.append((bits, layer.weight.numel() * positions))
            assert not rounded or all(len(x.unique()) <= 256 for x in args)

        hooks.append(network.get_submodule(name).register_forward_hook(see))
    with torch.no_grad():
        network(y)
    for hook in hooks:
        hook.remove()
    return found

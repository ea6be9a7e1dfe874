"""The operator `code`: formats by name or by bits, levels that records hold, prices, and weights that were pruned."""

import pytest
import torch
from torch import nn

from search_spaces import CodeStep, NetworkSpace, Plan, SpaceError, rebuild, trace
from search_spaces.codecs.entropy import stream_bytes
from search_spaces.codecs.integers import holds
from search_spaces.codecs.number_formats import CODED, FORMATS
from search_spaces.codecs.packing import pack
from search_spaces.graph.inputs import quantized_inputs
from search_spaces.operators.code import plain_quantize
from search_spaces.operators.options import CodeOptions

ALL = tuple(FORMATS)
X = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))


def network(pruned=0.0):
    torch.manual_seed(0)
    made = nn.Sequential(nn.Conv2d(3, 20, 3), nn.ReLU(), nn.Conv2d(20, 40, 3), nn.Flatten(), nn.Linear(640, 10)).eval()
    for layer in (made[2], made[4]):
        layer.weight.data[torch.rand(layer.weight.shape) < pruned] = 0
    return made


def space(options, pruned=0.0, **operators):
    return NetworkSpace(network(pruned), (X,), {**operators, "code": options})


def at(made, level):
    """The Point with every layer in the format of this level."""
    return made.point([level] * len(made.knobs))


def test_bits_are_read_as_ever_and_formats_have_names():
    for options in ({}, {"bits": (4, 8)}, {"bits": (8, 4)}, {"formats": ("int8", "int4")}):
        (knob, *_) = space(options).knobs
        assert knob.levels == (4, 8, 32) and knob.labels == ("int4", "int8", "float32") and knob.unit == "bits"
    (knob, *_) = space({"formats": ALL}).knobs
    assert knob.levels == (*range(9), 32) and knob.labels == (*ALL, "float32")
    for options, message in (
        ({"bits": (3,)}, "formats, such as int3"),
        ({"formats": ("int9",)}, "formats are some of binary, ternary"),
        ({"bits": ()}, "bits are some of"),
        ({"bits": (4,), "formats": ("int3",)}, "leave bits out"),
        ({"formats": ("int4", "coded2")}, "or of coded1, coded1.25"),
    ):
        with pytest.raises(SpaceError, match=message):
            CodeOptions(**options)


def test_a_recorded_plan_is_replayed():
    plan = Plan.from_record([{"operator": "code", "formats": {"2": "int4", "4": "int8"}}])
    assert plan.get(CodeStep) == CodeStep({"2": "int4", "4": "int8"}) and not plan.get(CodeStep).pruned
    assert plan.to_record() == [{"operator": "code", "formats": {"2": "int4", "4": "int8"}}]
    built = rebuild(trace(network(), (X,)), plan)
    weight = built.get_parameter("2.weight")
    assert holds(weight, built.get_buffer("2.weight_scale")).level <= 4
    with pytest.raises(SpaceError, match="expected one of binary, ternary"):
        rebuild(trace(network(), (X,)), Plan.from_record([{"operator": "code", "formats": {"2": "int9"}}]))


def test_each_format_costs_what_it_says():
    made = space({"formats": ALL})
    weights = sum(tensor.size for tensor in made.operators[0].tensors)
    costs = [made.cost(at(made, form.level), "size_bytes") for form in FORMATS.values()]
    for form, cost in zip(FORMATS.values(), costs, strict=True):
        built = made.build(made.plan(at(made, form.level)))
        assert len(pack(dict(built.state_dict()))) <= cost
        assert cost - costs[0] == pytest.approx(weights * (form.stored_bits - 1) / 8, abs=4)
    bops = [made.cost(at(made, level), "bops") for level in (0, 1, 2, 4)]
    assert bops[1] == bops[2] == 2 * bops[0] and bops[3] == 2 * bops[2]


def test_entropy_coded_formats_keep_to_their_bits_in_the_file():
    made = space({"formats": tuple(CODED)})
    (knob, *_) = made.knobs
    assert knob.labels == (*CODED, "float32") and list(knob.levels) == sorted(knob.levels)
    weights = sum(tensor.size for tensor in made.operators[0].tensors)
    costs = [made.cost(at(made, form.level), "size_bytes") for form in CODED.values()]
    for form, cost in zip(CODED.values(), costs, strict=True):
        built = made.build(made.plan(at(made, form.level)))
        assert cost - 2500 < len(pack(dict(built.state_dict()))) <= cost  # what the header and tables might take
        tables = stream_bytes(form) - stream_bytes(next(iter(CODED.values())))
        more = weights * (form.stored_bits - 1) / 8 + len(made.operators[0].tensors) * tables
        assert cost - costs[0] == pytest.approx(more, abs=4)


def test_inputs_of_8_bits_are_named_in_the_plan_and_a_quarter_of_the_operand():
    made, plain = space({"inputs": "int8"}), space({})
    assert made.metrics == plain.metrics and [knob.name for knob in made.knobs] == [k.name for k in plain.knobs]
    for level in (4, 8):
        plan = made.plan(at(made, level))
        assert plan.get(CodeStep).inputs == dict.fromkeys(plan.get(CodeStep).formats, "int8")
        assert Plan.from_json(plan.to_json()).steps == plan.steps
        # Each layer but none else has weights of so many bits.
        assert 4 * made.cost(at(made, level), "bops") == plain.cost(at(plain, level), "bops")
        built = made.build(plan)
        assert [name for name, _ in quantized_inputs(built)] == ["0", "2", "4"]
        assert len(pack(dict(built.state_dict()))) <= made.cost(at(made, level), "size_bytes")
    assert made.cost(made.original_point, "bops") == plain.cost(plain.original_point, "bops")
    assert made.plan(made.original_point) == Plan(())
    with pytest.raises(SpaceError, match="inputs are one of float32, int8"):
        CodeOptions(inputs="int4")
    for step, message in (
        ({"formats": {}, "inputs": {"2": "int3"}}, "inputs of the format 'int3', expected int8"),
        ({"formats": {}, "inputs": {"9": "int8"}}, "layer '9' reads, which this network does not call"),
    ):
        with pytest.raises(SpaceError, match=message):
            rebuild(trace(network(), (X,)), Plan.from_record([{"operator": "code", **step}]))


@pytest.mark.parametrize("name", ALL)
def test_pruned_weights_stay_zero_and_cost_a_mask_where_the_format_has_none(name):
    made, form = space({"formats": ALL}, pruned=0.4), FORMATS[name]
    plan = made.plan(at(made, form.level))
    assert plan.get(CodeStep).pruned == (not form.has_zero) and Plan.from_json(plan.to_json()).steps == plan.steps
    built = made.build(plan)
    for layer in ("2", "4"):
        before = network(0.4).get_parameter(f"{layer}.weight")
        after = built.get_parameter(f"{layer}.weight")
        assert not after[before == 0].any()
        assert holds(after, built.get_buffer(f"{layer}.weight_scale")).bits <= form.with_zero.bits
    assert len(pack(dict(built.state_dict()))) <= made.cost(at(made, form.level), "size_bytes")
    assert made.cost(at(made, form.level), "bops") == made.cost(at(made, form.with_zero.level), "bops")


@pytest.mark.parametrize("name", ALL)
def test_without_data_weights_are_near_what_they_were(name):
    torch.manual_seed(0)
    layer, form = nn.Linear(400, 30), FORMATS[name]
    nn.init.normal_(layer.weight)
    weight, scale, bias = plain_quantize("layer", layer, form, False)
    assert bias is layer.bias and holds(weight, scale).level <= form.level
    error = float((weight - layer.weight.detach()).square().mean())  # of weights of variance 1
    assert error < {"binary": 0.38, "ternary": 0.22, "int2": 0.14}.get(name, 0.3)
    if not form.has_zero:
        layer.weight.data[0] = 0
        assert plain_quantize("layer", layer, form, False)[0].all()
        assert not plain_quantize("layer", layer, form, True)[0][0].any()

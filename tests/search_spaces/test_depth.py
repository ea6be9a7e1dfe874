"""The space of depth on networks whose blocks are known by hand, and on those of the zoo."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from automl.measures import count_macs, count_params, size_bytes
from automl.zoo import create
from search_spaces import ChannelsStep, Depth, DepthStep, Plan, SpaceError, channel_space, depth_space, rebuild, trace
from search_spaces.spaces.layers import COLUMNS
from tests.kits.plans import kept_by
from tests.kits.spaces import BuildingSpaceConformance


class Everything(nn.Module):
    """A residual block in another one, one with a projection, a run, a layer alone, an attention over tokens."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.before, self.inner, self.after = (nn.Conv2d(8, 8, 3, padding=1) for _ in range(3))
        self.down1, self.down2 = nn.Conv2d(8, 12, 3, 2, 1), nn.Conv2d(12, 12, 3, 1, 1)
        self.project = nn.Conv2d(8, 12, 1, 2)
        self.run, self.norm = nn.Conv2d(12, 12, 3, padding=1, bias=False), nn.BatchNorm2d(12)
        self.alone = nn.Conv2d(12, 12, 1)
        self.query, self.key, self.value = (nn.Linear(12, 6) for _ in range(3))
        self.back = nn.Linear(6, 12)
        self.linear = nn.Linear(12, 5)

    def forward(self, x):
        x = torch.relu(self.stem(x))
        y = torch.relu(self.before(x))
        y = torch.relu(y + self.inner(y))
        x = torch.relu(x + self.after(y))
        out = self.down2(torch.relu(self.down1(x)))
        out += self.project(x)
        x = F.relu(out, inplace=True)
        x = self.alone(torch.relu(self.norm(self.run(x))))
        tokens = x.flatten(2).mT
        scores = torch.softmax(self.query(tokens) @ self.key(tokens).mT, -1)
        tokens = tokens + self.back(scores @ self.value(tokens))
        return self.linear(tokens.mean(1))


def make(name):
    torch.manual_seed(0)
    return (Everything() if name == "everything" else create(name)).eval()


def images(name):
    return torch.randn(2, 1 if name == "small_cnn" else 3, 8, 8, generator=torch.Generator().manual_seed(1))


class TestDepthSpace(BuildingSpaceConformance):
    @pytest.fixture(params=["everything", "small_cnn", "plain20"])
    def name(self, request):
        return request.param

    @pytest.fixture
    def model(self, name):
        return make(name)

    @pytest.fixture
    def x(self, name):
        return images(name)

    @pytest.fixture
    def space(self, model, x):
        return depth_space(model, (x,), skips=True, max_skips=2)

    def test_every_point_is_what_it_was_predicted_to_be(self, space, x):
        ends = [space.point(levels.tolist()) for levels in (space.lowest, space.highest, space.original_levels)]
        for point in [*self.points(space, 8), *ends]:
            plan = space.plan(point)
            assert Plan.from_json(plan.to_json()) == plan
            network = space.build(plan).eval()
            assert network(x).shape == space.original(x).shape
            assert count_macs(network, (x,)) == space.cost(point, "macs")
            assert count_params(network) == space.cost(point, "params")
            counted = size_bytes(network)
            assert counted <= space.cost(point, "size_bytes") <= 1.05 * counted + 2000


def test_blocks_are_found_by_how_they_lie():
    space = depth_space(make("everything"), (images("everything"),))
    found = {block.name: (block.kind, set(block.layers)) for block in space.operator(Depth).blocks}
    assert found == {
        "inner": ("branch", {"inner"}),
        "before": ("branch", {"before", "inner", "after"}),
        "down1": ("branch", {"down1", "down2"}),  # the cheaper projection stays
        "run": ("run", {"run", "norm"}),
        "alone": ("run", {"alone"}),
        "query": ("branch", {"query", "key", "value", "back"}),
    }


def test_what_lies_in_a_removed_block_is_not_active():
    space = depth_space(make("everything"), (images("everything"),), skips=True)
    levels = space.original_levels
    names = [knob.name for knob in space.knobs]
    assert space.active(levels).all()
    levels[names.index("block:before")] = 0
    gone = {name for name, active in zip(names, space.active(levels), strict=True) if not active}
    assert gone == {"block:inner", "before"}
    point = space.point(levels.tolist())
    assert point["block:inner"] == 0 and point["before"] == 1
    network = space.build(space.plan(point))
    assert not {"before", "inner", "after"} & dict(network.named_children()).keys()


@pytest.mark.parametrize(
    ("name", "kinds", "groups"),
    [
        ("resnet20", {"branch": 9}, 12),
        ("resnet56", {"branch": 27}, 30),
        ("plain20", {"run": 16}, 3),
        ("vgg16_bn", {"run": 9}, 4),
        ("mobilenet_v1", {"run": 17}, 6),
        ("mobilenet_v2", {"branch": 10, "run": 4}, 25),
        ("small_cnn", {"branch": 1, "run": 1}, 3),
    ],
)
def test_the_networks_of_the_zoo(name, kinds, groups):
    x = torch.randn(2, 1 if name == "small_cnn" else 3, 32, 32)
    space = depth_space(make(name), (x,), skips=True)
    assert {kind: sum(block.kind == kind for block in space.operator(Depth).blocks) for kind in kinds} == kinds
    assert len(space.groups) == groups and sum(kinds.values()) == len(space.operator(Depth).blocks)
    rng = np.random.default_rng(0)
    for _ in range(2):
        point = space.point([int(rng.choice(knob.levels)) for knob in space.knobs])
        network = space.build(space.plan(point)).eval()
        with torch.no_grad():
            assert network(x).shape == (2, 10)
        assert count_macs(network, (x,)) == space.cost(point, "macs")
        assert count_params(network) == space.cost(point, "params")
    shallow = space.build(Plan((DepthStep(removed=tuple(block.name for block in space.operator(Depth).blocks)),)))
    left = sum(isinstance(layer, nn.Conv2d | nn.Linear) for layer in shallow.modules())
    assert left == sum(isinstance(layer, nn.Conv2d | nn.Linear) for layer in space.original.modules()) - sum(
        isinstance(space.original.get_submodule(layer), nn.Conv2d | nn.Linear)
        for block in space.operator(Depth).blocks
        for layer in block.layers
    )
    calls = [node.name for node in shallow.graph.nodes]
    assert sum("relu" in call for call in calls) < 6 or "resnet" not in name  # a ReLU goes with its block


def test_what_a_plan_names_does_not_depend_on_the_options_of_the_space():
    """A plan of a space with excluded runs, whose ties another space has, builds the same everywhere."""
    model, x = make("plain20"), images("plain20")
    space = depth_space(model, (x,), exclude=["layer1.*"], skips=True)
    assert not any(block.name.startswith("layer1.") for block in space.operator(Depth).blocks)
    rng = np.random.default_rng(3)
    levels = np.array([int(rng.choice(knob.levels)) for knob in space.knobs])
    levels[: len(space.operator(Depth).blocks)] = [
        block.name != "layer2.1.conv1" for block in space.operator(Depth).blocks
    ]
    levels[-4:] = 1
    plan = space.plan(space.point(levels.tolist()))
    assert plan.get(DepthStep).removed and plan.get(DepthStep).skips and kept_by(plan)
    networks = [
        space.build(plan),
        rebuild(trace(model, (x,)), plan),
        depth_space(model, (x,)).build(plan),
        channel_space(model, (x,)).build(plan),
    ]
    outputs = [network(x) for network in networks]
    assert all(torch.equal(outputs[0], output) for output in outputs[1:])


def test_old_plans_are_read():
    assert Plan.from_json('{"kept":{"a":[0]}}') == Plan((ChannelsStep({"a": (0,)}),))
    assert Plan.from_json('{"kept":{}}') == Plan()
    plan = Plan((DepthStep(removed=("b",), skips=(("b", "c"),)), ChannelsStep({"a": (0,)})))
    assert Plan.from_json('{"kept":{"a":[0]},"removed":["b"],"skips":[["b","c"]]}') == plan
    assert Plan.from_json(plan.to_json()) == plan


def test_a_removed_block_comes_back_only_where_all_else_is_whole():
    space = depth_space(make("resnet20"), (torch.randn(2, 3, 32, 32),))
    whole = space.cost_of_levels(space.original_levels, "macs")
    wanted = np.ones(len(space.knobs))
    wanted[[1, 4, 7]] = 0, 0.1, 0.2
    point = space.project(wanted, {"macs": 0.5 * whole})
    assert [point[knob.name] for knob in space.knobs[:9]] == [1, 0, 1, 1, 0, 1, 1, 0, 1]
    # 35 % went with them. The most wanted comes back, and of the next what there is room for.
    point = space.project(wanted, {"macs": 0.8 * whole})
    assert [point[knob.name] for knob in space.knobs[:9]] == [1, 0, 1, 1, 1, 1, 1, 1, 1]
    assert point["layer3.1.conv1"] == 64 and point["layer2.1.conv1"] < 32
    wanted[:9] = 1
    point = space.project(wanted, {"macs": 1.02 * space.cost_of_levels(space.lowest, "macs")})  # not even the narrowest
    assert sum(point[knob.name] for knob in space.knobs[:9]) < 9


def test_plans_that_do_not_fit_are_refused():
    space = depth_space(make("everything"), (images("everything"),), skips=True)
    with pytest.raises(SpaceError, match="names block 'nobody'"):
        space.build(Plan((DepthStep(skips=(("nobody", "run"),)),)))
    with pytest.raises(SpaceError, match="must be the same ones"):
        space.build(Plan((DepthStep(removed=("run",)), ChannelsStep({"run": (0, 1)}))))
    with pytest.raises(SpaceError, match="one of its ends is gone"):
        space.build(Plan((DepthStep(removed=("run",), skips=(("run", "run"),)),)))
    with pytest.raises(SpaceError, match="must be the same ones"):
        space.build(Plan((DepthStep(skips=(("before", "run"),)),)))
    with pytest.raises(SpaceError, match="not the same shape"):
        space.build(Plan((DepthStep(skips=(("before", "query"),)),)))


@pytest.mark.parametrize(
    ("options", "message"),
    [({"max_skips": 0}, "max_skips"), ({"exclude": ["nothing*"]}, "matches no group"), ({"min_keep": 0}, "min_keep")],
)
def test_bad_options_get_one_clear_error(options, message):
    with pytest.raises(SpaceError, match=message):
        depth_space(make("small_cnn"), (images("small_cnn"),), **options)


def test_a_network_always_keeps_a_layer_with_weights():
    """x + f(x) as a whole network: without its one block nothing would be left to train."""

    class Denoiser(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 3, 3, padding=1)

        def forward(self, x):
            return x + self.b(torch.relu(self.a(x)))

    space = depth_space(Denoiser().eval(), (torch.randn(2, 3, 8, 8),))
    assert space.operator(Depth).blocks == () and [knob.name for knob in space.knobs] == ["a"]


def test_depth_alone_can_be_searched():
    space = depth_space(make("resnet20"), (torch.randn(2, 3, 32, 32),), min_keep=1.0)
    limits = {"macs": 0.6 * space.cost_of_levels(space.original_levels, "macs")}
    rng = np.random.default_rng(0)
    for _ in range(20):
        wanted = rng.random(len(space.knobs))
        point = space.project(wanted, limits)
        assert space.cost(point, "macs") <= limits["macs"]
        assert all(point[knob.name] == knob.size for knob in space.knobs[9:] if space.active(space.levels(point)).all())
        levels = space.levels(point)
        for t in np.flatnonzero(levels[:9] == 0):
            levels[t] = 1
            assert space.cost_of_levels(levels, "macs") > limits["macs"], "a block would have fitted"
            levels[t] = 0


class TestSequence:
    @pytest.fixture
    def space(self):
        return depth_space(make("resnet20"), (torch.randn(2, 3, 32, 32),), skips=True)

    def row(self, table, i):
        return {name for name, value in zip(COLUMNS, table[i], strict=True) if value == 1}

    def test_the_original_is_a_row_for_each_layer_and_sum(self, space):
        table = space.sequence(space.original_point)
        assert table.shape == (19 + 9 + 1, len(COLUMNS)) and table.dtype == np.float32
        assert {"convolution", "norm", "activation", "kernel"} <= self.row(table, 0)
        assert {"sum", "activation", "link_1", "link_3"} <= self.row(table, 3)
        assert {"linear", "link_1"} <= self.row(table, 28)
        assert not any("link" in name or "skip" in name for name in self.row(table, 0))

    def test_a_removed_block_has_no_rows_and_links_reach_over_it(self, space):
        levels = space.original_levels
        whole = space.sequence(space.point(levels.tolist()))
        levels[1] = 0
        table = space.sequence(space.point(levels.tolist()))
        assert len(table) == len(whole) - 3
        np.testing.assert_array_equal(table, np.delete(whole, [4, 5, 6], axis=0))  # every block is alike in its links

    def test_widths_and_skips_are_seen(self, space):
        names = [knob.name for knob in space.knobs]
        levels = space.original_levels
        whole = space.sequence(space.point(levels.tolist()))
        levels[names.index("layer1.0.conv1")] = 4
        levels[names.index("skip:layer1.0>layer1.1")] = 1
        table = space.sequence(space.point(levels.tolist()))
        changed = {(int(i), COLUMNS[j]) for i, j in np.argwhere(table != whole)}
        # What block 1.0 is given, the stem's, reaches the sum of block 1.1, six rows further on.
        assert changed == {(1, "out_channels"), (2, "in_channels"), (6, "skip_6")}

    def test_every_point_has_its_own_rows(self, space):
        rng = np.random.default_rng(0)
        points = {space.point([int(rng.choice(knob.levels)) for knob in space.knobs]) for _ in range(200)}
        tables = [space.sequence(point) for point in points]
        assert {table.shape[1] for table in tables} == {len(COLUMNS)}
        assert all(table.min() >= 0 and table.max() <= 1 for table in tables)
        assert len({table.tobytes() for table in tables}) == len(points)


def test_what_nobody_uses_is_counted_whatever_else_goes():
    """As the pooler of a BERT of which only the states are used."""

    class Pooled(Everything):
        def __init__(self):
            super().__init__()
            self.pooler = nn.Linear(5, 7)

        def forward(self, x):
            out = super().forward(x)
            self.pooler(out).tanh()
            return out

    model, inputs = Pooled().eval(), (images("pooled"),)
    space = depth_space(model, inputs)
    assert space.original_cost("macs") == count_macs(model, inputs)
    rng = np.random.default_rng(0)
    for point in (
        space.original_point,
        *(space.point([int(rng.choice(k.levels)) for k in space.knobs]) for _ in range(20)),
    ):
        network = space.build(space.plan(point))
        assert space.cost(point, "macs") == count_macs(network, inputs)
        assert space.cost(point, "params") == count_params(network)

"""What a recorded network keeps of the one it was recorded from: training, any batch, every multiply-accumulate."""

import copy
import pickle
import warnings
from functools import lru_cache

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils import parametrizations, prune, spectral_norm, weight_norm

from search_spaces import Channels, Depth, TraceError, channel_space, depth_space, trace
from search_spaces.graph.counting import counting_macs
from tests.kits.random_joints import Standardised

X = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))


class Dropped(nn.Module):
    """Functional dropout, batch norm, and what is done in training alone."""

    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 16, 1), nn.Conv2d(16, 5, 1)
        self.register_buffer("mean", torch.zeros(16))
        self.register_buffer("variance", torch.ones(16))

    def forward(self, x):
        x = F.batch_norm(self.a(x), self.mean, self.variance, training=self.training)
        if self.training:
            x = x * (1 + torch.randn_like(x))
        x = F.scaled_dot_product_attention(x, x, x, dropout_p=0.5 if self.training else 0.0)
        return self.b(F.dropout(x, 0.5, training=self.training)).mean((2, 3))


def test_functions_that_train_otherwise_do_so_in_the_network_cut_too():
    space = channel_space(Dropped(), (X,))
    small = space.build(space.plan(space.point(space.lowest.tolist())))
    for network in (small, copy.deepcopy(small), pickle.loads(pickle.dumps(space)).original):
        network.eval()
        before = dict(network.named_buffers())["mean"].clone()
        assert torch.equal(network(X), network(X))
        assert torch.equal(dict(network.named_buffers())["mean"], before)
        network.train()
        assert not torch.equal(network(X), network(X))
        assert not torch.equal(dict(network.named_buffers())["mean"], before)


@lru_cache
def _shape(shape):
    n, c, h, w = shape
    return n, c * h, w


class Cached(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 8, 1), nn.Linear(8, 4)

    def forward(self, x):
        return self.b(self.a(x).reshape(_shape((x.shape[0], 8, *x.shape[2:]))))


def test_sizes_that_a_cache_hands_out_are_recorded_all_the_same():
    model = Cached()
    model(torch.zeros(2, 3, 8, 8))
    recorded = trace(model, (torch.zeros(2, 3, 8, 8),))
    assert recorded(torch.zeros(5, 3, 8, 8)).shape == (5, 64, 4)


def chain(middle):
    return nn.Sequential(nn.Conv2d(3, 16, 3), nn.ReLU(), middle, nn.ReLU(), nn.Conv2d(16, 8, 3), nn.Flatten(2))


def test_weights_that_are_computed_become_plain_ones():
    masked = prune.random_unstructured(nn.Conv2d(16, 16, 1), "weight", 0.5)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        old = weight_norm(nn.Conv2d(16, 16, 1))
    for layer in (
        *(parametrizations.weight_norm(nn.Conv2d(16, 16, 1)), parametrizations.orthogonal(nn.Conv2d(16, 16, 1))),
        *(old, spectral_norm(nn.Conv2d(16, 16, 1)), masked, Standardised(None, 16)),
    ):
        model = chain(layer).eval()
        space = channel_space(model, (X,))
        assert [group.name for group in space.groups] == ["0", "2"]
        assert type(space.original.get_submodule("2")) is nn.Conv2d
        assert torch.allclose(space.original(X), model(X), atol=1e-5)
        small = space.build(space.plan(space.point([4, 5])))
        assert small.get_submodule("2").weight.shape[:2] == (5, 4)
        assert "2.weight" in small.state_dict()


class Same(nn.Conv2d):
    """Pads as TensorFlow does, and calls the function with its own weight."""

    def forward(self, x):
        left = (self.kernel_size[0] - 1) // 2
        padded = F.pad(x, (left, self.kernel_size[1] - 1 - left, left, self.kernel_size[0] - 1 - left))
        return F.conv2d(padded, self.weight, self.bias, self.stride, self.padding, self.dilation, self.groups)


class Scaled(Same):
    """Uses something else of itself, too."""

    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.gain = nn.Parameter(torch.tensor(2.0))

    def forward(self, x):
        return super().forward(x) * self.gain


def test_a_layer_that_calls_the_function_with_its_own_weight_is_a_layer():
    """It keeps its names; called twice, used for more, or with another's weight, it stays what it was."""
    twice = Same(12, 12, 3)
    layers = [Same(3, 12, 4), nn.ReLU(), twice, nn.ReLU(), twice, Scaled(12, 8, 3), Same(8, 8, 1), Same(8, 8, 1)]
    model = nn.Sequential(*layers).eval()
    model[7].weight = model[6].weight
    traced = trace(model, (X,))
    assert traced.state_dict().keys() <= model.state_dict().keys()
    called = {str(node.target) for node in traced.graph.nodes if node.op == "call_module"}
    assert called & {str(i) for i in range(8)} == {"0"}
    assert type(traced.get_submodule("0")) is nn.Conv2d
    torch.testing.assert_close(traced(X), model(X))
    space = channel_space(model, (X,))
    small = space.build(space.plan(space.point(space.lowest.tolist()))).eval()
    with torch.no_grad(), counting_macs() as macs:
        out = small(X)
    assert macs() / len(X) == space.cost_of_levels(space.lowest, "macs") and out.shape == model(X).shape


@pytest.mark.parametrize("wrap", [torch.compile, nn.DataParallel], ids=["compiled", "parallel"])
def test_wrappers_are_taken_off(wrap):
    model = chain(nn.Identity()).eval()
    assert torch.equal(trace(wrap(model), (X,))(X), model(X))


def test_what_cannot_be_recorded_is_one_clear_error():
    model = chain(nn.Identity()).eval()
    exported = torch.export.export(model, (X,))
    for given, message in (
        (torch.jit.trace(model, (X,)), "got TorchScript"),
        (exported, "exported by torch.export"),
        (exported.module(), "exported by torch.export"),
        (nn.Linear, "got its class Linear"),
        (copy.deepcopy(model).to("meta"), "on the device 'meta'"),
        (7, "got int"),
    ):
        with pytest.raises(TraceError, match=message):
            trace(given, (X,))


class Recurrent(nn.Module):
    def __init__(self, kind, **options):
        super().__init__()
        self.a, self.b = nn.Linear(8, 32), nn.Linear(32, 32)
        self.middle, self.head = kind(32, 24, **options), nn.Linear(24 * (1 + options.get("bidirectional", 0)), 5)

    def forward(self, x):
        return self.head(self.middle(self.b(self.a(x).relu()).relu())[0][:, -1])


class Uncounted(nn.Module):
    """Calls that are left whole: a bilinear layer, a transposed convolution in groups."""

    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 8, 1), nn.Conv2d(8, 8, 1)
        self.up = nn.ConvTranspose2d(8, 8, 2, groups=2)
        self.pair = nn.Bilinear(8, 8, 4)

    def forward(self, x):
        y = self.up(self.b(self.a(x).relu()).relu()).mean((2, 3))
        return self.pair(y, y)


@pytest.mark.parametrize(
    ("model", "x"),
    [
        (Recurrent(nn.LSTM, batch_first=True), torch.randn(2, 10, 8)),
        (Recurrent(nn.GRU, batch_first=True), torch.randn(2, 10, 8)),
        (Recurrent(nn.LSTM, batch_first=True, bidirectional=True), torch.randn(2, 10, 8)),
        (Uncounted(), X),
    ],
    ids=["lstm", "gru", "both ways", "uncounted"],
)
def test_what_is_left_whole_costs_what_it_takes(model, x):
    model.eval()
    space = channel_space(model, (x,))
    for point in (space.original_point, space.point(space.lowest.tolist())):
        network = space.build(space.plan(point))
        with torch.no_grad(), counting_macs() as macs:
            network(x)
        assert macs() / len(x) == space.cost(point, "macs")
    with torch.no_grad(), counting_macs() as macs:
        model(x)
    assert macs() / len(x) == space.original_cost("macs")


class Embedded(nn.Module):
    """Tokens plus token types, the types zeros unless given, as BERT has it."""

    def __init__(self):
        super().__init__()
        self.tokens, self.types, self.norm = nn.Embedding(50, 32), nn.Embedding(2, 32), nn.LayerNorm(32)
        self.up, self.down, self.head = nn.Linear(32, 128), nn.Linear(128, 32), nn.Linear(32, 3)

    def forward(self, x):
        x = self.norm(self.types(torch.zeros_like(x)) + self.tokens(x))
        return self.head((x + self.down(self.up(x).relu())).mean(1))


def test_no_block_can_go_without_which_the_input_is_not_seen():
    tokens = torch.randint(0, 50, (2, 12), generator=torch.Generator().manual_seed(0))
    space = depth_space(Embedded().eval(), (tokens,))
    assert [block.name for block in space.operator(Depth).blocks] == ["types", "up"]
    lowest = space.build(space.plan(space.point(space.lowest.tolist())))
    assert not torch.equal(lowest(tokens), lowest(tokens.flip(1) * 0 + 1))


class Focal(nn.Module):
    """Single channels, each spread over a map, as in a FocalNet; they cannot go by themselves."""

    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 11, 1), nn.Conv2d(8, 4, 1)

    def forward(self, x):
        x, gates = torch.split(self.a(x), (8, 3), 1)
        return self.b(sum(x * gates[:, i : i + 1] for i in range(3))).mean((2, 3))


def test_a_channel_that_stands_alone_stays():
    space = channel_space(Focal().eval(), (X,))
    assert [group.size for group in space.groups] == [8]
    assert "only channel" in next(f.reason for f in space.operator(Channels).fixed if f.name == "a")
    assert space.build(space.plan(space.point([1])))(X).shape == (2, 4)


def test_a_network_with_recorded_parts_is_recorded():
    """A GraphModule within a network is looked into like any module of the user's."""
    part = trace(nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU()), (X,))
    whole = nn.Sequential(part, nn.Conv2d(8, 4, 3)).eval()
    recorded = trace(whole, (X,))
    assert torch.equal(recorded(X), whole(X)) and "0.0.weight" in recorded.state_dict()
    assert [group.size for group in channel_space(whole, (X,)).groups] == [8]


def test_what_a_cut_keeps_of_the_state_is_what_the_surgery_leaves():
    space = channel_space(Dropped().eval(), (X,))
    plan = space.plan(space.point([5]))
    kept, recorded = space.basis.recorded.kept_in_state(space.cut(plan)), space.original.state_dict()
    for name, tensor in space.surgery(plan).state_dict().items():
        expected = recorded[name]
        for dim, indices in enumerate(kept[name]):
            expected = expected.index_select(dim, torch.from_numpy(indices))
        assert torch.equal(tensor, expected), name

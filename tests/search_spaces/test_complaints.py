"""Small networks of the kinds that users had trouble with: what is right of each, and what is right of all.

Of all: whatever widths and blocks a space offers run on any batch, see their input, and cost what was predicted.
"""

import math
from functools import lru_cache
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

import automl
from automl.store import open_store
from search_spaces import Channels, InfeasibleBudgetError, channel_space, depth_space
from search_spaces.graph.counting import counting_macs
from tests.kits.random_joints import BatchMerged, Dense

IMAGES = torch.randn(7, 3, 12, 12, generator=torch.Generator().manual_seed(0))
STEPS = torch.randn(7, 10, 8, generator=torch.Generator().manual_seed(1))
TOKENS = torch.randint(1, 60, (7, 9), generator=torch.Generator().manual_seed(2))


class Patches(nn.Module):
    """Attention over patches, the width of a head worked out from that of the stream, as in a small ViT."""

    def __init__(self):
        super().__init__()
        self.patch, self.norm, self.qkv = nn.Conv2d(3, 24, 4, 4), nn.LayerNorm(24), nn.Linear(24, 72)
        self.out, self.head = nn.Linear(24, 24), nn.Linear(24, 5)

    def forward(self, x):
        x = self.patch(x).flatten(2).transpose(1, 2)
        b, n, c = x.shape
        q, k, v = self.qkv(self.norm(x)).view(b, n, 3, 3, c // 3).permute(2, 0, 3, 1, 4)
        weights = (q @ k.mT / (c // 3) ** 0.5).softmax(-1)
        return self.head((x + self.out((weights @ v).transpose(1, 2).reshape(b, n, c))).mean(1))


class Around(nn.Module):
    """A joint between two convolutions."""

    def __init__(self, joint):
        super().__init__()
        self.first, self.joint = nn.Conv2d(3, 16, 3, padding=1), joint
        self.last, self.head = nn.Conv2d(16, 12, 1), nn.Linear(12, 4)

    def forward(self, x):
        return self.head(self.last(self.joint(self.first(x).tanh())).tanh().mean((2, 3)))


class Indexed(nn.Module):
    """Every channel is an image of its own for a while; the dimension of one is added by an index."""

    def __init__(self):
        super().__init__()
        self.shared = nn.Conv2d(1, 1, 3, padding=1)

    def forward(self, x):
        return x + self.shared(x.flatten(0, 1)[:, None]).view(x.shape)


class Encoded(nn.Module):
    """PyTorch's own encoder between two linear layers."""

    def __init__(self):
        super().__init__()
        self.embed, self.head = nn.Linear(8, 24), nn.Linear(24, 5)
        layer = nn.TransformerEncoderLayer(24, 3, 40, batch_first=True)
        self.layers = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)

    def forward(self, x):
        return self.head(self.layers(self.embed(x)).mean(1))


class Recurrent(nn.Module):
    """Most of the cost lies in a layer that is left whole."""

    def __init__(self):
        super().__init__()
        self.a, self.b, self.lstm = nn.Linear(8, 32), nn.Linear(32, 32), nn.LSTM(32, 48, batch_first=True)
        self.head = nn.Linear(48, 5)

    def forward(self, x):
        return self.head(self.lstm(self.b(self.a(x).relu()).relu())[0][:, -1])


class Dropped(nn.Module):
    """Dropout as a function, switched by `self.training`."""

    def __init__(self):
        super().__init__()
        self.a, self.b, self.head = nn.Linear(8, 32), nn.Linear(32, 16), nn.Linear(16, 1)

    def forward(self, x):
        x = F.dropout(self.a(x).relu(), 0.5, training=self.training)
        return self.head(self.b(x).relu().mean(1))


class Typed(nn.Module):
    """Tokens plus token types, the types zeros unless given, as BERT has it."""

    def __init__(self):
        super().__init__()
        self.tokens, self.types, self.norm = nn.Embedding(60, 24), nn.Embedding(2, 24), nn.LayerNorm(24)
        self.up, self.down, self.head = nn.Linear(24, 48), nn.Linear(48, 24), nn.Linear(24, 3)

    def forward(self, x, types=None):
        types = torch.zeros_like(x) if types is None else types
        x = self.norm(self.tokens(x) + self.types(types))
        return self.head((x + self.down(self.up(x).relu())).mean(1))


@lru_cache(maxsize=256)
def _axes(pattern, shape):
    """Where a pattern leads from a shape, worked out once for each: what einops keeps."""
    sizes = dict(zip(pattern[0], shape, strict=True))
    return tuple(math.prod(sizes[axis] for axis in axes) for axes in pattern[1])


class Rearranged(nn.Module):
    """`rearrange(x, "b c h w -> b (h w) c")` as einops does it: the shape to come is taken from a cache by shape."""

    def __init__(self):
        super().__init__()
        self.a, self.b, self.head = nn.Conv2d(3, 16, 3), nn.Conv2d(16, 16, 3), nn.Linear(16, 5)

    def forward(self, x):
        x = self.b(self.a(x).relu()).permute(0, 2, 3, 1)
        return self.head(x.reshape(_axes(("bhwc", ("b", "hw", "c")), tuple(x.shape))).mean(1))


_RNG = SimpleNamespace(integers=lambda *bounds: 6)  # joints draw their options: these are wide, and flat

KINDS = {
    "attention": (Patches, IMAGES),
    "batch merged": (lambda: Around(BatchMerged(_RNG, 16)), IMAGES),
    "batch merged by an index": (lambda: Around(Indexed()), IMAGES),
    "transformer encoder": (Encoded, STEPS),
    "lstm": (Recurrent, STEPS),
    "functional dropout": (Dropped, STEPS),
    "input cut off": (Typed, TOKENS),
    "addmm": (lambda: Around(Dense(_RNG, 16)), IMAGES),
    "einops": (Rearranged, IMAGES),
}


def network(kind):
    torch.manual_seed(0)
    make, x = KINDS[kind]
    model = make().eval()
    model(x[:2])  # whatever a network remembers of a shape, it has when it is recorded
    return model, x


def counted(model, x):
    with torch.no_grad(), counting_macs() as macs:
        outputs = model(x)
    return macs() / len(x), outputs


@pytest.mark.parametrize("make_space", [channel_space, depth_space])
@pytest.mark.parametrize("kind", KINDS)
def test_every_width_runs_on_any_batch_at_the_predicted_cost(kind, make_space):
    model, x = network(kind)
    space = make_space(model, (x[:2],))
    assert counted(model, x)[0] == space.original_cost("macs") == space.cost(space.original_point, "macs")
    rng = np.random.default_rng(0)
    levels = [space.lowest.tolist(), *([rng.choice(knob.levels) for knob in space.knobs] for _ in range(4))]
    for i, knob in enumerate(space.knobs):  # one alone
        levels.append([*space.original_levels[:i], knob.levels[0], *space.original_levels[i + 1 :]])
    for chosen in levels:
        point = space.point(list(map(int, chosen)))
        small = space.build(space.plan(point)).eval()
        alone = torch.cat([small(sample[None]) for sample in x])
        assert not torch.equal(alone[0], alone[1]), "it does not see its input"
        for batch in (1, 2, 3, 7):
            macs, outputs = counted(small, x[:batch])
            assert macs == space.cost(point, "macs")
            torch.testing.assert_close(outputs, alone[:batch], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "lstm"])
def test_half_the_cost_can_be_met(kind):
    model, x = network(kind)
    space = channel_space(model, (x[:2],))
    limit = 0.5 * space.original_cost("macs")
    assert space.cost(space.project(np.ones(len(space.knobs)), {"macs": limit}), "macs") <= limit


@pytest.mark.parametrize(
    ("kind", "group", "size"),
    [
        ("attention", "qkv:heads", 3),
        ("transformer encoder", "layers.layers.1.self_attn.q:heads", 3),
        ("addmm", "joint", 6),
    ],
)
def test_heads_can_go_whole_and_hidden_widths_of_products_can_shrink(kind, group, size):
    model, x = network(kind)
    space = channel_space(model, (x[:2],))
    knob = next(knob for knob in space.knobs if knob.name == group)
    assert (knob.size, knob.levels[0]) == (size, 1)


def test_what_an_lstm_leaves_to_be_met_is_said_before_the_search(tmp_path):
    model, x = network("lstm")
    space = channel_space(model, (x[:2],))
    channels = space.operator(Channels)
    assert channels.not_understood == {"lstm": "LSTM"}
    assert "goes into LSTM" in next(item.reason for item in channels.fixed if item.name == "b")
    assert ("lstm", "LSTM") in [row for listing in channels.inventory() for row in listing.rows]
    data = [(x, torch.arange(7) % 5)]
    with pytest.raises(InfeasibleBudgetError, match="the smallest has"):
        automl.compress(model, data, data, "macs <= 50%", storage=tmp_path / "s.db", name="lstm", progress=False)
    with open_store(tmp_path / "s.db") as store:
        assert not any(store.trials(study.id) for study in store.studies())


def test_functional_dropout_is_on_while_the_winner_is_trained():
    """Each sample stands twice in every batch: dropout makes different things of the two, in training alone."""
    model, _ = network("functional dropout")
    x = torch.randn(16, 10, 8)
    data = [(torch.cat([x, x]), torch.cat([torch.arange(16.0)] * 2)[:, None])]
    apart = {True: [], False: []}

    def loss(outputs, targets):
        if len(outputs) == 32:
            order = targets[:, 0].argsort(stable=True)
            first, second = outputs[order].view(16, 2).unbind(1)
            apart[outputs.requires_grad].append(float((first - second).abs().max().detach()))
        return F.mse_loss(outputs, targets)

    training = {"epochs": 2, "batch_size": 32, "learning_rate": 0.001}
    result = automl.compress(
        model, data, data, trials=2, agent="random", baselines=[], loss=loss, objective="loss",
        finish={"training": training}, progress=False,
    )  # fmt: skip
    assert min(apart[True][-2:]) > 1e-3 and max(apart[False]) < 1e-5
    assert not torch.equal(result.network.train()(x), result.network(x))
    assert torch.equal(result.network.eval()(x), result.network(x))

"""Small random networks made of every joint that channels meet, and an independent model of removing channels."""

from __future__ import annotations

import copy
from collections.abc import Mapping

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import save
from torch import Tensor, fx, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._pytree import tree_map
from torch.utils.flop_counter import FlopCounterMode

from search_spaces import Depth, DepthStep, NetworkSpace, Plan, Point, Recorded
from tests.kits.plans import kept_by
from tests.kits.random_joints import MODERN


class Conv(nn.Module):
    """Convolution, a norm or none, an activation or none."""

    def __init__(self, rng, n_in, n_out, *, kernel=3, stride=1, groups=1, norm=None, act=True):
        super().__init__()
        norm = rng.choice(["batch", "group", "layer", "none"]) if norm is None else norm
        self.conv = nn.Conv2d(n_in, n_out, kernel, stride, kernel // 2, groups=groups, bias=bool(rng.integers(2)))
        self.norm = _norm(rng, norm, n_out)
        self.act = [F.relu, torch.tanh, F.silu][rng.integers(3)] if act else None

    def forward(self, x):
        x = self.norm(self.conv(x))
        return self.act(x) if self.act is not None else x


class ChannelsLast(nn.Module):
    """Layer norm over channels, as in ConvNeXt."""

    def __init__(self, n):
        super().__init__()
        self.norm = nn.LayerNorm(n)

    def forward(self, x):
        return self.norm(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


def _norm(rng, kind, n):
    if kind == "group":
        return nn.GroupNorm(int(rng.choice([g for g in (1, 2, 4, n) if n % g == 0])), n)
    return {"batch": nn.BatchNorm2d, "layer": ChannelsLast, "none": lambda n: nn.Identity()}[kind](n)


class Residual(nn.Module):
    def __init__(self, rng, n):
        super().__init__()
        inner = int(rng.integers(2, 9))
        self.a, self.b = Conv(rng, n, inner), Conv(rng, inner, n, act=False)
        self.shared = bool(rng.integers(2))

    def forward(self, x):
        x = F.relu(x + self.b(self.a(x)))
        return x + self.b(self.a(x)) if self.shared else x


class Widening(nn.Module):
    """Option A of He et al. 2016: the shortcut is subsampled and padded with zero channels."""

    def __init__(self, rng, n):
        super().__init__()
        self.out = 2 * n
        self.a, self.b = Conv(rng, n, self.out, stride=2), Conv(rng, self.out, self.out, act=False)
        self.by_concat = bool(rng.integers(2))

    def forward(self, x):
        short = x[:, :, ::2, ::2]
        if self.by_concat:
            b, _, h, w = short.shape
            short = torch.cat([short, torch.zeros(b, self.out // 2, h, w)], dim=1)
        else:
            short = F.pad(short, (0, 0, 0, 0, self.out // 4, self.out // 2 - self.out // 4))
        return F.relu(self.b(self.a(x)) + short)


class Branches(nn.Module):
    """Several branches side by side; one may be the input itself."""

    def __init__(self, rng, n):
        super().__init__()
        widths = rng.integers(2, 6, size=int(rng.integers(1, 3)))
        self.branches = nn.ModuleList(Conv(rng, n, int(w), kernel=int(rng.choice([1, 3]))) for w in widths)
        self.with_input = bool(rng.integers(2)) or len(widths) == 1
        self.out = int(widths.sum()) + n * self.with_input

    def forward(self, x):
        return torch.cat([branch(x) for branch in self.branches] + [x] * self.with_input, 1)


class Depthwise(nn.Module):
    def __init__(self, rng, n):
        super().__init__()
        self.out = n * int(rng.integers(1, 3))
        self.depthwise = Conv(rng, n, self.out, groups=n)
        self.pointwise = Conv(rng, self.out, self.out, kernel=1)

    def forward(self, x):
        return self.pointwise(self.depthwise(x))


class Grouped(nn.Module):
    def __init__(self, rng, n):
        super().__init__()
        groups = int(rng.choice([g for g in (2, 3, 4) if n % g == 0] or [1]))
        self.out = groups * int(rng.integers(1, 4))
        self.conv = Conv(rng, n, self.out, groups=groups)

    def forward(self, x):
        return self.conv(x)


class SqueezeExcite(nn.Module):
    def __init__(self, rng, n):
        super().__init__()
        self.linear = bool(rng.integers(2))
        layer = nn.Linear if self.linear else lambda a, b: nn.Conv2d(a, b, 1)
        self.down, self.up = layer(n, 4), layer(4, n)

    def forward(self, x):
        b, c = x.size(0), x.size(1)
        s = F.adaptive_avg_pool2d(x, 1)
        s = s.view(b, c) if self.linear else s
        s = torch.sigmoid(self.up(F.relu(self.down(s))))
        return x * (s.view(b, c, 1, 1) if self.linear else s).expand_as(x)


class Shuffle(nn.Module):
    """Two halves, one of them convolved, joined and shuffled, as in ShuffleNet v2."""

    def __init__(self, rng, n):
        super().__init__()
        self.conv = Conv(rng, n // 2, n // 2)
        self.by_chunk = bool(rng.integers(2))

    def forward(self, x):
        half = x.shape[1] // 2
        a, b = x.chunk(2, dim=1) if self.by_chunk else (x[:, :half], x[:, half:])
        x = torch.cat([a, self.conv(b)], 1)
        n, c, h, w = x.size()
        return x.view(n, 2, c // 2, h, w).transpose(1, 2).contiguous().view(n, c, h, w)


class Head(nn.Module):
    def __init__(self, rng, n, size):
        super().__init__()
        self.pooled = bool(rng.integers(2))
        self.hidden = nn.Linear(n * (1 if self.pooled else size * size), 6)
        self.last = nn.Linear(6, 3)
        self.last.weight.requires_grad_(True)

    def forward(self, x):
        x = x.mean((2, 3)) if self.pooled else torch.flatten(x, 1)
        return self.last(F.relu(self.hidden(x)))


class Same(nn.Module):
    """A few convolutions in a row that preserve the shape, with what follows written in place or not."""

    def __init__(self, rng, n):
        super().__init__()
        self.convs = nn.ModuleList(Conv(rng, n, n, kernel=int(rng.choice([1, 3]))) for _ in range(rng.integers(1, 4)))
        self.pool = bool(rng.integers(2))

    def forward(self, x):
        for conv in self.convs:
            x = conv(x)
        return F.max_pool2d(x, 3, 1, 1) if self.pool else x


class Projection(nn.Module):
    """A residual block with a convolution in its shortcut, run before or after the branch, added in place or not."""

    def __init__(self, rng, n, out):
        super().__init__()
        self.a, self.b = Conv(rng, n, out), Conv(rng, out, out, act=False)
        self.shortcut = nn.Sequential(nn.Conv2d(n, out, 1, bias=False), nn.BatchNorm2d(out))
        self.first, self.in_place = bool(rng.integers(2)), bool(rng.integers(2))

    def forward(self, x):
        if self.first:
            short = self.shortcut(x)
        y = self.b(self.a(x))
        if not self.first:
            short = self.shortcut(x)
        if self.in_place:
            y += short
            return F.relu_(y)
        return torch.relu(y + short)


class PreActivation(nn.Module):
    """x + f(norm(x)), activations and sums in place: what a removed block leaves must not be changed under others."""

    def __init__(self, rng, n):
        super().__init__()
        self.norm, self.conv = _norm(rng, "batch", n), nn.Conv2d(n, n, 3, 1, 1)
        self.scale = nn.Parameter(torch.rand(n, 1, 1))

    def forward(self, x):
        y = self.conv(F.relu(self.norm(x), inplace=True))
        x = x + self.scale * y
        return F.relu(x, inplace=True)


class Nested(nn.Module):
    """A residual block around another one; the inner sum is read twice."""

    def __init__(self, rng, n):
        super().__init__()
        self.before, self.inner, self.after = Conv(rng, n, n), Residual(rng, n), Conv(rng, n, n, act=False)
        self.twice = bool(rng.integers(2))

    def forward(self, x):
        inner = self.inner(self.before(x))
        y = x + self.after(inner)
        return y + inner if self.twice else y


KINDS = ("conv", "residual", "widen", "cat", "depthwise", "grouped", "se", "shuffle", "act")
DEEP = (*KINDS, "residual", "widen", "same", "same", "project", "pre", "nested")
"""With every way in which blocks of layers can lie in a network."""
EVERY = (*KINDS, *MODERN, "attention", "attention")
"""With attention, and with sizes and weights that are computed on the way."""


class RandomNetwork(nn.Module):
    """A stem, a few random joints, a head; weights and norm statistics drawn so that nothing is trivial."""

    def __init__(self, seed, kinds=KINDS):
        super().__init__()
        rng = np.random.default_rng(seed)
        torch.manual_seed(seed)
        n, size = int(2 * rng.integers(2, 6)), 8
        joints = [Conv(rng, 3, n)]
        for _ in range(int(rng.integers(1, 5))):
            kind = rng.choice(kinds)
            if kind == "conv":
                out = int(2 * rng.integers(1, 6))
                joints.append(Conv(rng, n, out))
                n = out
            elif kind == "residual":
                joints.append(Residual(rng, n))
            elif kind == "widen" and size > 2 and n <= 8:
                joints.append(Widening(rng, n))
                n, size = joints[-1].out, size // 2
            elif kind in ("cat", "depthwise", "grouped") and n <= 24:
                joints.append({"cat": Branches, "depthwise": Depthwise, "grouped": Grouped}[kind](rng, n))
                n = joints[-1].out
            elif kind == "se":
                joints.append(SqueezeExcite(rng, n))
            elif kind == "shuffle" and n % 2 == 0:
                joints.append(Shuffle(rng, n))
            elif kind == "act":
                joints.append(nn.PReLU(n))
            elif kind == "project":
                out = int(rng.choice([n, 6]))
                joints.append(Projection(rng, n, out))
                n = out
            elif kind in ("same", "pre", "nested"):
                joints.append({"same": Same, "pre": PreActivation, "nested": Nested}[kind](rng, n))
            elif kind in MODERN and (size % 2 == 0 or kind != "pixels"):
                joints.append(MODERN[kind](rng, n))
        self.body = nn.Sequential(*joints)
        self.head = Head(rng, n, size)
        with torch.no_grad():
            for module in self.modules():
                if isinstance(module, nn.BatchNorm2d):
                    module.running_mean.normal_()
                    module.running_var.uniform_(0.5, 2.0)
                if isinstance(module, (nn.BatchNorm2d, nn.GroupNorm, nn.LayerNorm, nn.PReLU)):
                    for parameter in module.parameters():
                        parameter.normal_(1.0, 0.3)
        self.eval()

    def forward(self, x):
        return self.head(self.body(x))


class Reference(fx.Interpreter):
    """Runs a recorded network, call by call, as a plan without some blocks and with some skips means it.

    It knows nothing of graphs being rewritten. Each call is given copies, so that none changes another's values.
    """

    def __init__(self, space: NetworkSpace, network: fx.GraphModule, plan: Plan) -> None:
        super().__init__(network)
        blocks = {block.name: block for block in space.operator(Depth).blocks}
        self.gives_way = {blocks[name].exit: blocks[name].stays for name in plan.get(DepthStep).removed}
        self.added: dict[str, list[str]] = {}
        for source, target in plan.get(DepthStep).skips:
            self.added.setdefault(blocks[target].end, []).append(blocks[source].entry)
        self.values: dict[str, Tensor] = {}

    def run_node(self, n: fx.Node):
        stays = self.gives_way.get(n.name)
        out = self.values[stays] if stays is not None else super().run_node(n)
        for source in self.added.get(n.name, ()):
            out = out + self.values[source]
        self.values[n.name] = out
        return out.clone() if isinstance(out, Tensor) else out

    def fetch_args_kwargs_from_env(self, n: fx.Node):
        args, kwargs = super().fetch_args_kwargs_from_env(n)
        return tree_map(lambda x: x.clone() if type(x) is Tensor else x, (args, kwargs))


def masked(model: nn.Module, space: NetworkSpace | Recorded, plan: Plan) -> nn.Module:
    """The original with all weights that read or make a removed channel zero, and norms blind to such channels.

    It has the size of the original and knows nothing of how the smaller network is built.
    """
    model = copy.deepcopy(model)
    state = dict(model.named_parameters())
    blind: dict[str, np.ndarray] = {}
    for group in space.groups:
        removed = np.setdiff1d(np.arange(group.size), kept_by(plan).get(group.name, np.arange(group.size)))
        for member in group.members:
            entries = member.indices[removed].ravel()
            owner = member.parameter.rpartition(".")[0]
            if member.role in ("in", "out") or member.parameter in {f"{layer}.bias" for layer in group.layers}:
                with torch.no_grad():
                    state[member.parameter].index_fill_(member.dim, torch.from_numpy(entries), 0.0)
            elif isinstance(model.get_submodule(owner), (nn.GroupNorm, nn.LayerNorm)):
                blind[owner] = np.union1d(blind.get(owner, np.array([], dtype=int)), entries)
    for owner, removed in blind.items():
        layer = model.get_submodule(owner)
        layer.register_forward_hook(_masked_norm(removed))
    return model


@torch.no_grad()
def in_double(network: nn.Module, *inputs: Tensor) -> Tensor:
    """What a copy of `network` computes in float64.

    Norms of few values and sums upon sums blow up rounding: float32 would hide small mistakes, and on one processor or
    another fail without one.
    """
    default = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)  # for constants that the network makes as it runs
    try:
        return copy.deepcopy(network).double()(*(x.double() for x in inputs))
    finally:
        torch.set_default_dtype(default)


def agree(ours: Tensor, theirs: Tensor) -> bool:
    """Whether outputs in float64 are the same but for rounding."""
    return ours.shape == theirs.shape and bool((ours - theirs).abs().max() <= 1e-9 * theirs.abs().max().clamp_min(1.0))


def _masked_norm(removed: np.ndarray):
    def hook(layer: nn.Module, args: tuple[Tensor], out: Tensor) -> Tensor:
        x = args[0]
        seen = torch.ones(x.shape[-1] if isinstance(layer, nn.LayerNorm) else x.shape[1])
        seen[torch.from_numpy(removed)] = 0
        if isinstance(layer, nn.LayerNorm):
            return _normalise(x, seen.expand_as(x), (-1,), layer.eps) * layer.weight + layer.bias
        grouped = x.reshape(x.shape[0], layer.num_groups, -1)
        mask = seen.view(1, -1, 1, 1).expand_as(x).reshape(grouped.shape)
        out = _normalise(grouped, mask, (-1,), layer.eps).view_as(x)
        return out * layer.weight.view(1, -1, 1, 1) + layer.bias.view(1, -1, 1, 1)

    return hook


def _normalise(x: Tensor, mask: Tensor, dims: tuple[int, ...], eps: float) -> Tensor:
    n = mask.sum(dims, keepdim=True).clamp_min(1)
    mean = (x * mask).sum(dims, keepdim=True) / n
    variance = (((x - mean) ** 2) * mask).sum(dims, keepdim=True) / n
    return (x - mean) / torch.sqrt(variance + eps)


def assert_costs(space: NetworkSpace, point: Point, small: nn.Module, y: Tensor, seed: int) -> None:
    """The network `small`, built from `point`, costs what was predicted, by PyTorch's own counts on the batch `y`."""
    counted, predicted = macs_of(small, y), space.cost(point, "macs")
    if (
        "einsum" in space.basis.analysis.kinds.values()
    ):  # over a dimension of size 1 PyTorch multiplies without counting
        assert counted <= predicted, f"seed {seed}"
    else:
        assert counted == predicted, f"seed {seed}"
    assert sum(p.numel() for p in small.parameters()) == space.cost(point, "params"), f"seed {seed}"
    assert len(save(small.state_dict())) <= space.cost(point, "size_bytes"), f"seed {seed}"


def macs_of(network: nn.Module, x: Tensor) -> float:
    """The multiply-accumulates a sample, by PyTorch's own count; it has none for its fused attention."""
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter, torch.no_grad():
            network(x)
    finally:
        torch.backends.mha.set_fastpath_enabled(True)
    return counter.get_total_flops() / 2 / len(x)


def random_levels(space: NetworkSpace, rng: np.random.Generator) -> Mapping[str, int]:
    return {knob.name: int(rng.choice(knob.levels)) for knob in space.knobs}

"""Layers that can be removed together from any recorded network, so that what is left still fits.

Two kinds are found, on the graph and not by the names of modules:

- A **branch**: one operand of a sum, from where it forks off what leads to the other operand. Without it the sum is the
  other operand alone: an identity shortcut; a projection or a padded one where the shape changes. Of two operands with
  layers the larger is the branch, so that the cheaper projection is what stays. What stays must depend on every input
  of the network on which the sum does: without its word embeddings an encoder would see nothing but positions. Branches
  nest where one lies within another; inside of a branch that is gone nothing is left to decide.
- A **run**: a convolution or linear layer with the normalisation and activations that it alone feeds, if what comes out
  has the shape of what goes in; a layer by itself if nothing follows. Without it the value before it is passed on.
  Within a branch there are no runs: the branch is the smaller loss, and the widths inside of it are tied to nothing.

Blocks of either kind never overlap otherwise: each ends in a call of its own, which gives way to an earlier value, so
any set of them can be removed (`search_spaces.graph.wiring`).
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Literal

import numpy as np
from torch import fx

from search_spaces.graph.analysis import Analysis
from search_spaces.graph.labels import FIXED, Labelled, Labels
from search_spaces.graph.wiring import Wiring

SUMS = ("add", "__add__", "__radd__", "iadd", "__iadd__")
LAYERS = ("Conv1d", "Conv2d", "Conv3d", "ConvTranspose1d", "ConvTranspose2d", "ConvTranspose3d", "Linear")
NORMS = (
    *("BatchNorm1d", "BatchNorm2d", "BatchNorm3d", "InstanceNorm1d", "InstanceNorm2d", "InstanceNorm3d"),
    *("GroupNorm", "LayerNorm", "RMSNorm", "batch_norm", "instance_norm", "group_norm", "layer_norm", "rms_norm"),
)
ACTIVATIONS = (
    *(
        "relu",
        "relu6",
        "hardtanh",
        "hardswish",
        "hardsigmoid",
        "sigmoid",
        "tanh",
        "silu",
        "mish",
        "gelu",
        "elu",
        "selu",
    ),
    *(
        "celu",
        "leaky_relu",
        "softplus",
        "softsign",
        "logsigmoid",
        "hardshrink",
        "softshrink",
        "tanhshrink",
        "threshold",
    ),
    *("prelu", "PReLU", "rrelu", "RReLU", "clamp", "dropout", "dropout2d", "Dropout", "Dropout2d"),
)
"""Calls of one tensor, element by element, and dropout, which is nothing in eval mode."""


@dataclass(frozen=True)
class Block:
    """Layers that are removed together."""

    name: str
    """The modules' common path if no other layer has it, else the first layer."""
    kind: Literal["branch", "run"]
    layers: tuple[str, ...]
    """The modules with parameters that go, in the order in which they run."""
    entry: str
    """The call whose value goes in."""
    exit: str
    """The call that gives way: the sum, or the last call of a run."""
    stays: str
    """The call whose value takes its place."""
    end: str
    """Where a skip arrives, before any activation: the sum, or the layer or normalisation of a run."""


def find_blocks(analysis: Analysis, wiring: Wiring) -> tuple[Block, ...]:
    """All removable blocks, in the order of their exits; names are distinct."""
    whole = wiring.without({}).reached
    found: list[tuple[int, Block]] = []
    inside = np.zeros(len(wiring.nodes), dtype=bool)
    for i in np.flatnonzero(whole).tolist():
        branch = _branch(analysis, wiring, whole, i)
        if branch is not None:
            found.append((i, branch[0]))
            inside |= branch[1]
    for i in np.flatnonzero(whole & ~inside).tolist():
        run = _run(analysis, wiring, i)
        if run is not None:
            found.append((wiring.position[run.exit], run))
    return _distinct([block for _, block in sorted(found, key=lambda pair: pair[0])])


def _branch(analysis: Analysis, wiring: Wiring, whole: np.ndarray, i: int) -> tuple[Block, np.ndarray] | None:
    """The branch that ends in the sum `i`, if it is one, and the calls that go with it: [n_calls] bool."""
    node = wiring.nodes[i]
    if wiring.kind[i] not in SUMS or node.kwargs or len(node.args) != 2:
        return None
    operands = [other for other in node.args if isinstance(other, fx.Node)]
    if len(set(operands)) != 2 or any(other.meta.get("shape") != node.meta["shape"] for other in operands):
        return None
    choices = []
    for stays in operands:
        keeps = wiring.position[stays.name]
        gone = whole & ~wiring.without({i: keeps}).alive
        layers, weights = _layers(analysis, wiring, gone)
        outside = {j for k in np.flatnonzero(gone).tolist() if k != i for j in wiring.inputs[k] if not gone[j]}
        forks = [j for j in outside if wiring.nodes[j].op != "get_attr" and wiring.depends(keeps, j)]
        if weights and forks and wiring.fed_alike(keeps, i):
            choices.append((weights, keeps, max(forks), layers, gone))
    if not choices:
        return None
    _, keeps, fork, layers, gone = max(choices, key=lambda choice: choice[:2])
    name = _common_path(layers, _layers(analysis, wiring, whole & ~gone)[0])
    return Block(name, "branch", layers, wiring.nodes[fork].name, node.name, wiring.nodes[keeps].name, node.name), gone


def _layers(analysis: Analysis, wiring: Wiring, among: np.ndarray) -> tuple[tuple[str, ...], int]:
    """The modules with parameters called among these calls ([n_calls] bool), and how many weights their matrices have.

    Parameters of one dimension, as those of a norm, count for nothing: by themselves they are no layer.
    """
    names, weights = [], 0
    for i in np.flatnonzero(among).tolist():
        node = wiring.nodes[i]
        if node.op == "call_module":
            parameters = list(analysis.network.get_submodule(str(node.target)).parameters())
            names += [str(node.target)] if parameters else []
            weights += sum(parameter.numel() for parameter in parameters if parameter.ndim > 1)
        elif node.op == "get_attr" and analysis.tensor(str(node.target)).ndim > 1:
            weights += analysis.tensor(str(node.target)).numel()
    return tuple(dict.fromkeys(names)), weights


def _run(analysis: Analysis, wiring: Wiring, i: int) -> Block | None:
    """The run that begins with the layer `i`, if it is one."""
    node = wiring.nodes[i]
    if node.op != "call_module" or wiring.kind[i] not in LAYERS or len(node.all_input_nodes) != 1:
        return None
    (entry,) = node.all_input_nodes
    if node.meta["shape"] != entry.meta.get("shape"):
        return None
    end = last = node
    while len(last.users) == 1:
        (user,) = last.users
        kind = wiring.kind[wiring.position[user.name]]
        if user.op == "output" or user.args[:1] != (last,) or kind not in (*NORMS, *ACTIVATIONS):
            break
        end = user if end is last and kind in NORMS else end
        last = user
    names = [str(n.target) for n in wiring.nodes[i : wiring.position[last.name] + 1] if n.op == "call_module"]
    layers = [name for name in names if any(True for _ in analysis.network.get_submodule(name).parameters())]
    return Block(str(node.target), "run", tuple(layers), entry.name, last.name, entry.name, end.name)


def _common_path(layers: tuple[str, ...], others: tuple[str, ...]) -> str:
    """The longest path that all `layers` and none of the `others` share, or else the first layer."""
    if not layers:
        return "branch"
    parts = [name.split(".") for name in layers]
    shared = 0
    while len({tuple(part[: shared + 1]) for part in parts}) == 1 and shared < min(map(len, parts)):
        shared += 1
    path = ".".join(parts[0][:shared])
    taken = any(other == path or other.startswith(f"{path}.") for other in others if other not in layers)
    return path if path and not taken else layers[0]


def _distinct(blocks: list[Block]) -> tuple[Block, ...]:
    """Blocks of one name, as where layers are shared, are numbered: `conv`, `conv#2`, ..."""
    times: Counter[str] = Counter()
    out = []
    for block in blocks:
        times[block.name] += 1
        name = block.name if times[block.name] == 1 else f"{block.name}#{times[block.name]}"
        out.append(Block(name, block.kind, block.layers, block.entry, block.exit, block.stays, block.end))
    return tuple(out)


def alike(labels: Labels, a: Labelled | None, b: Labelled | None) -> bool:
    """Whether two tensors have the same channels at the same places, however many of them go."""
    if a is None or b is None or len(a) != len(b):
        return False
    return all(len(x) == len(y) and np.array_equal(labels.roots(x), labels.roots(y)) for x, y in zip(a, b, strict=True))


def tied(labels: Labels, block: Block, a: Labelled | None, b: Labelled | None) -> Labels | None:
    """`labels` with what goes into a run, `a`, tied to what comes out, `b`, so that either can take the other's place.

    None where that would take away choices: channels could no longer go one by one, or not at all.
    """
    if a is None or b is None or len(a) != len(b):
        return None
    joined = labels.copy()
    for x, y in zip(a, b, strict=True):
        joined.tie(x, y, f"must fit without {block.name},")
    for along in (*a, *b):
        before, after = labels.roots(along), joined.roots(along)
        if not np.array_equal(before == FIXED, after == FIXED) or len(np.unique(before)) != len(np.unique(after)):
            return None
    return joined

"""What a pruned network is told of the inside of the original: hints, attention, features.

Student and teacher are graphs with the same node names, so a place in one is a place in the other.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal

import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F
from torch.nn.utils import skip_init

from automl.errors import ConfigError
from automl.training.teacher import Teacher, tapped
from automl.util.names import nearest
from search_spaces import NetworkSpace, Plan

Kind = Literal["fitnets", "attention", "features"]


def stage_ends(network: fx.GraphModule) -> tuple[str, ...]:
    """The last feature map of each resolution, [n, channels, height, width]: the nodes where the stages end.

    For a ResNet what goes into each downsampling, and what is pooled for the classifier. Raises `ConfigError` for a
    network without feature maps.
    """
    last: dict[tuple[int, ...], str] = {}
    for node in network.graph.nodes:
        size = _map_size(node)
        if size is not None and node.op not in ("placeholder", "get_attr"):
            last.pop(size, None)  # so that they stand in the order in which they end
            last[size] = node.name
    if not last:
        raise ConfigError("the network has no feature maps to be found: name `layers` whose outputs are compared")
    return tuple(last.values())


def _map_size(node: fx.Node) -> tuple[int, ...] | None:
    """Height and width of the feature map that a node computes, if it does."""
    shape = node.meta.get("shape")
    if not isinstance(shape, tuple) or len(shape) != 4 or not all(isinstance(size, int) for size in shape):
        return None
    return shape[2:] if shape[2:] != (1, 1) else None


def node_of(network: fx.GraphModule, name: str) -> str:
    """The node called `name`, or that computes last what the module of this name computes; none: `ConfigError`."""
    nodes = {node.name: node for node in network.graph.nodes if "shape" in node.meta}
    if name in nodes:
        return name
    calls: list[str] = [
        node.name for node in nodes.values() if node.op == "call_module" and _inside(str(node.target), name)
    ]
    if not calls:
        known = [*nodes, *(path for path, _ in network.named_modules())]
        raise ConfigError(f"the network has no layer {name!r}{nearest(name, known)}")
    return calls[-1]


def _inside(path: str, module: str) -> bool:
    return path == module or path.startswith(f"{module}.")


class Hints:
    """How far a pruned network is from its teacher at some places, as a scalar."""

    def __init__(self, space: NetworkSpace, plan: Plan, kind: Kind, layers: Sequence[str] = ()) -> None:
        """`plan`: what the student was built from; `layers`: of modules or nodes; none: where stages end."""
        network = space.original
        self.kind = kind
        self.nodes = tuple(node_of(network, name) for name in layers) or stage_ends(network)
        self.regressors = nn.ModuleList()
        shapes = {node.name: node.meta.get("shape") for node in network.graph.nodes}
        self._kept: list[list[tuple[int, Tensor]]] = []
        for node in self.nodes:
            shape, kept = shapes[node], space.kept_in_value(node, plan)
            if kind != "features" and len(shape) != 4:
                raise ConfigError(
                    f"{kind} compares feature maps, [n, channels, height, width], and {node!r} computes {list(shape)}: "
                    f"name other `layers`, or choose features"
                )
            lost = [(dim, torch.from_numpy(part)) for dim, part in enumerate(kept) if len(part) < shape[dim]]
            self._kept.append(lost)
            if kind == "fitnets":
                self.regressors.append(_regressor(torch.from_numpy(kept[1]), shape[1]))

    def compare(self, ours: Sequence[Tensor], theirs: Sequence[Tensor]) -> Tensor:
        """The sum over `nodes` of what the values of student and teacher differ by."""
        terms = []
        for i, (own, other) in enumerate(zip(ours, theirs, strict=True)):
            if self.kind == "fitnets":
                terms.append(hint(self.regressors[i](own), other))
            elif self.kind == "attention":
                terms.append(attention(own, other))
            else:
                self._kept[i] = [(dim, kept.to(other.device)) for dim, kept in self._kept[i]]  # once
                for dim, kept in self._kept[i]:
                    other = other.index_select(dim, kept)
                terms.append(features(own, other))
        return torch.stack(terms).sum()


def hint(regressed: Tensor, theirs: Tensor) -> Tensor:
    """Half the squared distance of a regressed map from the teacher's, averaged over its entries and the batch.

    Romero et al. 2015, "FitNets", equation 3, there a sum: averaged, it weighs as much for any size of map.
    """
    return (regressed.float() - theirs).square().mean() / 2


def attention(ours: Tensor, theirs: Tensor) -> Tensor:
    """Half the squared distance of the normalised attention maps, averaged over positions and the batch.

    A map of attention is the sum over channels of squares, divided by its norm over positions (Zagoruyko & Komodakis
    2017, "Paying more attention to attention", equation 2 with p = 2, squared and averaged as in their own code).
    """
    maps = [F.normalize(x.float().square().mean(1).flatten(1), dim=1) for x in (ours, theirs)]  # [n, positions]
    return (maps[0] - maps[1]).square().mean() / 2


def features(ours: Tensor, theirs: Tensor) -> Tensor:
    """The squared distance of each kept channel from the same one of the teacher, relative to the teacher's square."""
    return (ours.float() - theirs).square().mean() / theirs.square().mean().clamp(min=1e-12)


def _regressor(kept: Tensor, channels: int) -> nn.Module:
    """A 1x1 convolution from the channels kept to all; at first each goes to its own place, the others are zero."""
    conv: nn.Conv2d = skip_init(nn.Conv2d, len(kept), channels, 1)
    with torch.no_grad():
        conv.weight.zero_()
        conv.weight[kept, torch.arange(len(kept))] = 1.0
        nn.init.zeros_(conv.bias)  # type: ignore[arg-type]
    return conv


class HintLoss:
    """The hints as a loss of their own: with regressors, the first stage of training of FitNets (Romero et al. 2015).

    What comes after the last place compared gets no gradient from it.
    """

    def __init__(self, teacher: Teacher, hints: Hints) -> None:
        """`teacher`: one that gives the values of the nodes of `hints`."""
        self._teacher = teacher
        self._hints = hints

    def __call__(self, student: nn.Module, inputs: tuple[Tensor, ...], targets: Tensor) -> Tensor:
        """The hints' term for a batch; the targets do not matter."""
        return self.run(student, inputs)[2]

    def run(self, student: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, Tensor, Tensor]:
        """Outputs of `student`, which `begin` gave, and of the teacher, and the hints' term, from one run of each."""
        outputs, ours = student(*inputs)
        reference, theirs = self._teacher(inputs)
        return outputs, reference, self._hints.compare(ours, theirs)

    def parameters(self) -> Iterator[nn.Parameter]:
        """Those of the regressors."""
        return self._hints.regressors.parameters()

    def begin(self, network: nn.Module) -> nn.Module:
        """`network` so that it gives its values at the nodes too; the regressors go to its device."""
        self._hints.regressors.to(next(network.parameters()).device)
        return tapped(network, self._hints.nodes)

"""A supernet: one set of weights in which every Point of a space of cells names a network.

A network runs on its shared weights as the very module that the space would build for it, so that what is extracted,
a copy of those weights in a module of its own, computes the same to the last bit.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import pairwise, product
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.modules.batchnorm import _BatchNorm

from search_spaces.cells.architecture import Architecture, Stage
from search_spaces.cells.block_kinds import USES
from search_spaces.cells.block_layers import Block
from search_spaces.cells.cell_network import CellNetwork, begin_above_zero
from search_spaces.cells.modules import Cell, Standardize, Unstandardize
from search_spaces.cells.shared_parts import Part, head_parts, measured_buffers, shared_parts, stage_parts, stem_parts
from search_spaces.errors import SpaceError
from search_spaces.plan import Searched
from search_spaces.spaces.cells import ALWAYS, CellSpace, StageOptions
from search_spaces.types import Point

CELLS, NETWORKS = 4096, 256
"""How many modules without weights are kept for the next time."""


class Supernet(nn.Module):
    """The shared weights of the networks of a space of cells.

    Networks have no statistics of their own here: norms take those of the batch, in training and out of it. A kernel
    that is smaller than the largest is the centre of the next larger one, multiplied by a matrix that its layer's
    channels share (Cai et al. 2020, section 3.3), which begins as the identity.
    """

    def __init__(self, space: CellSpace, seed: int = 0) -> None:
        """`seed`: of the first weights."""
        super().__init__()
        self.space = space
        self.shown = space.original_point
        """The Point whose network `forward` runs."""
        frame = space.frame
        self.standard = Standardize(frame.channels, frame.size) if frame.standardized else nn.Identity()
        self.numbers = Unstandardize(frame.classes) if frame.numbers else nn.Identity()
        space.scales.put(self)
        largest, kernels = _largest(space)
        self.shared = nn.ParameterDict()
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            for key, part in sorted(largest.items()):
                self.shared[key] = _fresh(part)
            if frame.head == "convolution":
                begin_above_zero(self.shared["classes/bias"])
        self.kernels = {key: tuple(sorted(sizes)) for key, sizes in kernels.items() if len(sizes) > 1}
        """Shared tensor -> the sizes of kernel that networks have of it, ascending, where there are several."""
        for key, sizes in self.kernels.items():
            for small, large in pairwise(sizes):
                places = small ** largest[key].kernel
                self.shared[_matrix(key, large, small)] = nn.Parameter(torch.eye(places))

    def forward(self, *inputs: Any) -> Any:
        """What the network `shown` computes."""
        return self.at(self.shown, *inputs)

    def at(self, point: Point, *inputs: Any) -> Any:
        """What the network at `point` computes; gradients reach the shared weights."""
        architecture = self.space.architecture(self.space.levels(point))
        bare = _bare(architecture).train(self.training)
        return functional_call(bare, dict(self._weights(architecture)), inputs, strict=True)

    def plain(self, point: Point) -> nn.Module:
        """The network at `point` as the space builds it, with copies of the shared weights, in eval mode.

        The statistics of its norms are still to be estimated.
        """
        with torch.random.fork_rng(devices=[]):
            network = self.space.build(self.space.plan(point))
        own = {**dict(network.named_parameters()), **dict(network.named_buffers())}
        with torch.no_grad():
            for name, tensor in self._weights(self.space.architecture(self.space.levels(point))):
                own[name].copy_(tensor)
        return network.eval()

    def _weights(self, architecture: Architecture) -> Iterator[tuple[str, Tensor]]:
        """The parameters and buffers of a network by name, as parts of the shared tensors."""
        for part in shared_parts(architecture):
            yield part.name, self._piece(part)
        for name in measured_buffers(architecture.frame):
            yield name, self.get_buffer(name)

    def _piece(self, part: Part) -> Tensor:
        """What a parameter is: first channels, and of a kernel what its sizes have been brought down to."""
        whole: Tensor = self.shared[part.key]
        channels = len(part.shape) - part.kernel
        for dim, size in enumerate(part.shape[:channels]):
            whole = whole.narrow(dim, 0, size)
        sizes = self.kernels.get(part.key, ())
        for small, large in reversed(list(pairwise(sizes))):
            if part.shape[-1] <= small:
                whole = _centre(whole, part.kernel, small, large, self.shared[_matrix(part.key, large, small)])
        return whole


def supernet(space: Searched, seed: int = 0) -> Supernet:
    """The supernet of a space, with first weights drawn from `seed`. `SpaceError` if it is not one of cells."""
    if not isinstance(space, CellSpace):
        raise SpaceError("weights are shared among the networks of a space of cells, and this is none: `space: cells`")
    return Supernet(space, seed)


def _matrix(key: str, large: int, small: int) -> str:
    return f"{key}/{large}to{small}"


def _centre(whole: Tensor, dims: int, small: int, large: int, matrix: Tensor) -> Tensor:
    """The middle of kernels, [..., large, large] -> [..., small, small], each multiplied by `matrix`: [n, n]."""
    for dim in range(whole.ndim - dims, whole.ndim):
        whole = whole.narrow(dim, (large - small) // 2, small)
    return (whole.flatten(-dims) @ matrix.T).reshape(whole.shape)


def _largest(space: CellSpace) -> tuple[dict[str, Part], dict[str, set[int]]]:
    """Each shared tensor as the largest part that a network of the space has of it, and the kernels that there are."""
    found: dict[str, Part] = {}
    kernels: dict[str, set[int]] = {}

    def note(parts: Iterator[Part]) -> None:
        for part in parts:
            known = found.get(part.key, part).shape
            shape = tuple(max(a, b) for a, b in zip(known, part.shape, strict=True))
            found[part.key] = Part(part.name, part.key, shape, part.kernel)
            if part.kernel:
                kernels.setdefault(part.key, set()).add(part.shape[-1])

    reads: Sequence[int] = space.stem_widths
    note(stem_parts(space.frame, max(reads)))
    for i, options in enumerate(space.stages):
        for stage, read in product(_stages(options), reads):
            if stage.kind == "shuffle" or read == max(reads):
                note(stage_parts(space.frame, i, stage, read))
        reads = options.width
    note(head_parts(space.frame, max(reads)))
    return found, kernels


def _stages(options: StageOptions) -> Iterator[Stage]:
    """The stages, as deep as can be, among which is the largest part of every tensor."""
    for kind in options.kind:
        heeded = [
            name for name in ("reduce", "kernel", "expand", "squeeze", "groups", "excite", "norm") if _heeds(kind, name)
        ]
        widths = options.width if kind in ("fire", "shuffle") else (max(options.width),)
        for values in product(*(getattr(options, name) for name in heeded)):
            for width in widths:
                yield Stage(kind, width, max(options.depth), **dict(zip(heeded, values, strict=True)))


def _heeds(kind: str, name: str) -> bool:
    return name in ALWAYS or name in USES[kind]


def _fresh(part: Part) -> nn.Parameter:
    """First weights as the plain modules have them: of convolutions He et al.'s, of norms the identity."""
    tensor = torch.zeros(part.shape)
    if part.key.endswith("conv/weight"):
        nn.init.kaiming_normal_(tensor, mode="fan_out", nonlinearity="relu")
    elif part.key.endswith("norm/weight"):
        nn.init.ones_(tensor)
    elif part.key.endswith("weight"):  # of linear layers, and of squeeze and excitation
        nn.init.kaiming_uniform_(tensor, a=math.sqrt(5))
    return nn.Parameter(tensor)


@lru_cache(maxsize=NETWORKS)
def _bare(architecture: Architecture) -> nn.Module:
    """The module of a network without weights. The same layers serve all networks that have them at the same place."""
    with torch.random.fork_rng(devices=[]):
        return _emptied(CellNetwork(architecture, _bare_cell))


@lru_cache(maxsize=CELLS)
def _bare_cell(name: str, block: Block, dims: int, norm: bool, activation: str) -> Cell:
    """A block without weights, whose norms keep no statistics."""
    cell = Cell(block, dims, norm, activation)
    for layer in cell.modules():
        if isinstance(layer, _BatchNorm):
            layer.track_running_stats = False
            layer.running_mean = layer.running_var = layer.num_batches_tracked = None
    return cell


def _emptied(network: nn.Module) -> nn.Module:
    """`network` with nothing in its parameters, which take no memory while others stand in their place."""
    for parameter in network.parameters():
        parameter.data = torch.empty(0)
    return network

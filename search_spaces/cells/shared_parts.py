"""Which shared tensor each parameter of a network of cells is a part of, when networks of a space share weights.

A supernet holds, for each place in a network (stem, block of a stage, neck, classes) and each kind of block that may
stand there, the tensors of the largest one. A network has the first so many channels of each (Yu et al. 2019), the
first so many blocks of a stage, and of kernels the centre (Cai et al. 2020). Kinds of block share nothing with each
other. How a stage reduces its map, its activation, norm, dropout, and squeeze and excitation change no convolution, so
the convolutions are shared across them. Norms' scales and biases are shared as weights are; their statistics belong to
nobody (Yu & Huang 2019, section 3.4). In fire blocks and shuffle units channels stand in another order at each width,
so that first channels of one are not those of another: each width of theirs has tensors of its own.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from search_spaces.cells.architecture import Architecture, Frame, Stage, blocks
from search_spaces.cells.block_layers import Block, Conv, Excite
from search_spaces.cells.price import conv_tensors, parts, scale_tensors

STATISTICS = ("running_mean", "running_var", "num_batches_tracked")
"""What a norm has of the batches that it saw."""


@dataclass(frozen=True)
class Part:
    """A parameter of a network, as a part of a shared tensor."""

    name: str
    """The parameter's, in the network."""
    key: str
    """The shared tensor's: the place, the kind of block, the layer's role there."""
    shape: tuple[int, ...]
    """The parameter's: the first entries of each dimension, of a kernel the middle ones."""
    kernel: int = 0
    """How many dimensions, the last, are those of a kernel over the map."""


def shared_parts(architecture: Architecture) -> Iterator[Part]:
    """Every parameter of the network of `architecture`, in no order."""
    frame = architecture.frame
    yield from stem_parts(frame, architecture.stem_width)
    read = architecture.stem_width
    for i, stage in enumerate(architecture.stages):
        yield from stage_parts(frame, i, stage, read)
        read = stage.width
    yield from head_parts(frame, read)


def stem_parts(frame: Frame, width: int) -> Iterator[Part]:
    """The parameters of the stem."""
    yield from _of_block("stem.", "stem", frame.stem(width), frame, frame.norm)


def stage_parts(frame: Frame, index: int, stage: Stage, read: int) -> Iterator[Part]:
    """The parameters of a stage that reads `read` channels."""
    norm = frame.norm and stage.norm == "batch"
    for name, block in blocks(frame, index, stage, read):
        place = name.rstrip(".").replace(".", "/")
        yield from _of_block(name, f"{place}/{stage.kind}{_own(stage, read)}", block, frame, norm)
        if not place.endswith("pool"):
            read = stage.width


def head_parts(frame: Frame, read: int) -> Iterator[Part]:
    """The parameters of neck and classes behind a stage of `read` channels."""
    neck = frame.neck(read)
    yield from _of_block("neck.", "neck", neck, frame, frame.norm)
    ones = () if frame.head == "linear" else tuple(1 for _ in frame.size)
    yield Part("classes.weight", "classes/weight", (frame.classes, neck.made, *ones), len(ones))
    yield Part("classes.bias", "classes/bias", (frame.classes,))


def measured_buffers(frame: Frame) -> tuple[str, ...]:
    """The names of what networks of the frame standardise by: the same tensors in all of them."""
    found = scale_tensors("standard.", ()) if frame.standardized else []
    found += scale_tensors("numbers.", ()) if frame.numbers else []
    return tuple(name for name, _, _ in found)


def _own(stage: Stage, read: int) -> str:
    """What tells tensors of a kind apart that are not shared."""
    if stage.kind == "fire":
        return f"-{stage.width}-{stage.squeeze}"
    return f"-{read}-{stage.width}-{stage.groups}" if stage.kind == "shuffle" else ""


def _of_block(prefix: str, place: str, block: Block, frame: Frame, norm: bool) -> Iterator[Part]:
    """The parameters of a block. Convolutions are numbered from the end: where there is nothing to expand, the first is
    missing, and layers without parameters come and go between them."""
    for row, layers in (("body", block.body), ("branches", block.branches), ("shortcut", block.shortcut)):
        left = sum(isinstance(layer, Conv) for layer in layers)
        for name, layer in parts(layers, row):
            if isinstance(layer, Conv):
                yield from _of_conv(f"{prefix}{name}", f"{place}/{row}{left}", layer, len(frame.size), norm)
                left -= 1
            elif isinstance(layer, Excite):
                yield from _of_excite(f"{prefix}{name}", f"{place}/excite", layer, len(frame.size))


def _of_conv(prefix: str, key: str, conv: Conv, dims: int, norm: bool) -> Iterator[Part]:
    for name, _, shape in conv_tensors(conv, dims, norm, ""):
        if not name.endswith(STATISTICS):
            kernel = dims if name == "conv.weight" else 0
            yield Part(f"{prefix}{name}", f"{key}/{name.replace('.', '/')}", shape, kernel)


def _of_excite(prefix: str, key: str, excite: Excite, dims: int) -> Iterator[Part]:
    for name, made, read in (("down", excite.squeezed, excite.channels), ("up", excite.channels, excite.squeezed)):
        yield Part(f"{prefix}{name}.weight", f"{key}/{name}/weight", (made, read, *(1 for _ in range(dims))), dims)
        yield Part(f"{prefix}{name}.bias", f"{key}/{name}/bias", (made,))

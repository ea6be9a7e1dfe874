"""A whole network from blocks as plain data: a stem, stages of equal blocks, a head."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, fields, replace
from functools import lru_cache
from math import prod
from typing import Any

from search_spaces.cells.block_kinds import ACTIVATIONS, KINDS, NORMS, OF_ROWS, REDUCTIONS, Asked
from search_spaces.cells.block_layers import Block, Conv, Pool, Size
from search_spaces.cells.price import FRAME, Price, block_price, scale_tensors, tensors_price, total
from search_spaces.errors import SpaceError


@dataclass(frozen=True)
class Stage:
    """Blocks of one kind in a row; the first makes the map smaller, if any does, and changes the channels."""

    kind: str
    width: int
    """Channels that each of its blocks makes."""
    depth: int = 1
    """How many blocks."""
    reduce: str = "none"
    """How the map is made smaller: none, stride (of the first block), or a pool before it: max, average."""
    kernel: int = 3
    expand: int = 1
    squeeze: int = 1
    groups: int = 1
    excite: bool = False
    bypass: bool = False
    activation: str = "relu"
    dropout: float = 0.0
    """Which part of the values inside its blocks is zero in training."""
    norm: str = "batch"
    """What follows its layers, if the network has norms: batch (norms), or none, and they have biases instead."""

    def __post_init__(self) -> None:
        for name, known in (("kind", KINDS), ("reduce", REDUCTIONS), ("activation", ACTIVATIONS), ("norm", NORMS)):
            value = getattr(self, name)
            if value not in known:
                raise SpaceError(f"unknown {name} {value!r} of a stage: expected one of {', '.join(known)}")
        for name in ("width", "depth", "kernel", "expand", "squeeze", "groups"):
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise SpaceError(f"{name} of a stage: expected an integer >= 1, got {value!r}")
        if self.kernel % 2 == 0:
            raise SpaceError(f"kernel of a stage: expected an odd number, got {self.kernel}")
        if not 0 <= self.dropout < 1:
            raise SpaceError(f"dropout of a stage: expected a part of at least 0 and below 1, got {self.dropout!r}")

    def require_fitting(self, size: Size) -> None:
        """Raise `SpaceError` if its blocks cannot be made for a map of `size`."""
        if size:
            return
        wrong = [
            name
            for name, is_so in (
                (f"kind {self.kind}", self.kind not in OF_ROWS),
                (f"reduce {self.reduce}", self.reduce != "none"),
                ("excite", self.excite),
            )
            if is_so
        ]
        if wrong:
            raise SpaceError(
                f"rows of a table have no map, and {wrong[0]} needs one: expected kinds {', '.join(OF_ROWS)}, reduce "
                f"none, and no squeeze and excitation"
            )

    def asked(self, frame: Frame, index: int, read: int, first: bool) -> Asked:
        """What its first block is asked to be, or any other, when it reads so many channels."""
        stride = 2 if first and self.reduce == "stride" else 1
        return Asked(
            read, self.width, stride, self.kernel, self.expand, self.squeeze, self.groups, self.excite, self.bypass,
            projected=frame.projected, after_stem=first and index == 0, dropout=self.dropout,
        )  # fmt: skip


@dataclass(frozen=True)
class Frame:
    """What a network is built into, and what all its stages share."""

    channels: int = 3
    """Of an image or a signal; of a table the columns."""
    size: Size = (32, 32)
    """Height and width of an image, (length,) of a signal, () of a row of a table."""
    classes: int = 10
    """How many scores are put out, or numbers."""
    stem_kernel: int = 3
    stem_stride: int = 1
    stem_pool: bool = False
    """Whether a max pool follows the stem, whatever the first stage does."""
    activation: str = "relu"
    """Of stem and head."""
    head: str = "linear"
    """Whether classes are told by a linear layer after the mean over the map, or by a 1 x 1 convolution before it."""
    head_width: int = 0
    """Channels of a 1 x 1 convolution before that; 0 for none."""
    norm: bool = True
    """Whether convolutions have batch norms; if not, they have biases."""
    padded: bool = True
    """Whether strided stem and pools count the border as the middle of a window, as most networks do."""
    projected: bool = True
    """Whether the strided shortcut of a residual block is a 1 x 1 convolution; if not, channels are padded."""
    standardized: bool = False
    """Whether the first layer takes the mean of each channel away and divides by its standard deviation."""
    numbers: bool = False
    """Whether numbers are put out: the last layer multiplies by the targets' standard deviation and adds their mean."""

    def __post_init__(self) -> None:
        if len(self.size) > 2 or min(self.size, default=1) < 1:
            raise SpaceError(
                f"size: expected (height, width) of an image, (length,) of a signal, or () of a row of a table, got "
                f"{self.size}"
            )
        if self.head not in ("linear", "convolution"):
            raise SpaceError(f"unknown head {self.head!r}: expected linear or convolution")
        if self.activation not in ACTIVATIONS:
            raise SpaceError(f"unknown activation {self.activation!r}: expected one of {', '.join(ACTIVATIONS)}")

    def stem(self, width: int) -> Block:
        """The convolution that reads the image."""
        conv = Conv(self.channels, width, self.stem_kernel, self.stem_stride, padded=self.padded)
        return Block((conv, Pool(padded=self.padded)) if self.stem_pool else (conv,), made=width)

    def neck(self, read: int) -> Block:
        """The 1 x 1 convolution before the classes; nothing where there is none."""
        body = (Conv(read, self.head_width),) if self.head_width else ()
        return Block(body, made=self.head_width or read)


@dataclass(frozen=True)
class Architecture:
    """A network that can be priced, built and written down, from nothing else."""

    frame: Frame
    stem_width: int
    stages: tuple[Stage, ...]

    def price(self) -> Price:
        """What it costs, in the order of `price.METRICS`."""
        out, size = stem_price(self.frame, self.stem_width)
        read = self.stem_width
        for i, stage in enumerate(self.stages):
            own, size = stage_price(self.frame, i, stage, read, size)
            out, read = total(out, own), stage.width
        return total(out, head_price(self.frame, read, size))

    def to_record(self) -> dict[str, Any]:
        """Plain data, for JSON; what stands at its default is left out."""
        record: dict[str, Any] = {"stem_width": self.stem_width}
        record |= {key: value for key, value in asdict(self.frame).items() if value != getattr(Frame(), key)}
        return record | {"stages": [_stage_record(stage) for stage in self.stages]}

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> Architecture:
        """The inverse of `to_record`. `SpaceError` for what is no architecture."""
        try:
            own = {key: value for key, value in record.items() if key not in ("stem_width", "stages", "operator")}
            if "size" in own:
                own["size"] = tuple(int(side) for side in own["size"])
            return cls(Frame(**own), int(record["stem_width"]), tuple(Stage(**stage) for stage in record["stages"]))
        except (TypeError, KeyError, ValueError, AttributeError) as error:
            if isinstance(error, SpaceError):
                raise
            raise SpaceError(
                f"expected an architecture (stem_width, stages), got {str(record)[:80]}: {error}"
            ) from error


def _stage_record(stage: Stage) -> dict[str, Any]:
    usual = {field.name: field.default for field in fields(Stage)}
    return {key: value for key, value in asdict(stage).items() if value != usual[key]}


def blocks(frame: Frame, index: int, stage: Stage, read: int) -> Iterator[tuple[str, Block]]:
    """The blocks of a stage that reads `read` channels, with the names of their modules: a pool, if any, is first."""
    if stage.reduce in ("max", "average"):
        yield f"stages.{index}.pool.", Block((Pool(stage.reduce == "average", frame.padded),), made=read)
    for j in range(stage.depth):
        asked = stage.asked(frame, index, read if j == 0 else stage.width, first=j == 0)
        yield f"stages.{index}.block{j}.", KINDS[stage.kind](asked)


@lru_cache(maxsize=50_000)
def stage_price(frame: Frame, index: int, stage: Stage, read: int, size: Size) -> tuple[Price, Size]:
    """What a stage costs that reads `read` channels on a map of `size`, and the size of what it makes."""
    stage = replace(stage, activation="relu", dropout=0.0)
    prices = []
    for prefix, block in blocks(frame, index, stage, read):
        own, size = block_price(block, size, frame.norm and stage.norm == "batch", prefix)
        prices.append(own)
    return total(*prices), size


def stem_price(frame: Frame, width: int) -> tuple[Price, Size]:
    """What the stem costs, with what belongs to no block, and the size of what it makes."""
    own, size = block_price(frame.stem(width), frame.size, frame.norm, "stem.")
    scales = [*scale_tensors("standard.", (frame.channels, *(1 for _ in frame.size)))] if frame.standardized else []
    return total(own, tensors_price(0, scales), (0.0, 0.0, float(FRAME))), size


def head_price(frame: Frame, read: int, size: Size) -> Price:
    """What the head costs."""
    neck = frame.neck(read)
    own, _ = block_price(neck, size, frame.norm, "neck.")
    ones = () if frame.head == "linear" else tuple(1 for _ in size)
    positions = 1 if frame.head == "linear" else prod(size)
    weights = [
        ("classes.weight", "F32", (frame.classes, neck.made, *ones)),
        ("classes.bias", "F32", (frame.classes,)),
        *(scale_tensors("numbers.", (frame.classes,)) if frame.numbers else []),
    ]
    return total(own, tensors_price(frame.classes * neck.made * positions, weights))

"""The network of an architecture, built from nothing."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable

from torch import Tensor, nn

from search_spaces.cells.architecture import Architecture, blocks
from search_spaces.cells.block_layers import Block, Conv
from search_spaces.cells.modules import ACTIVATION_MODULES, Cell, Standardize, Unstandardize, convolution
from search_spaces.errors import SpaceError

MakesCell = Callable[[str, Block, int, bool, str], Cell]
"""(name, block, dimensions of the map, whether there are norms, activation) -> the module of a block."""


def new_cell(name: str, block: Block, dims: int, norm: bool, activation: str) -> Cell:
    """A block with new weights."""
    return Cell(block, dims, norm, activation)


def begin_above_zero(bias: Tensor) -> None:
    """Put first biases of classes whose scores are activated at 1.

    A class whose scores the activation makes 0 on every input learns nothing. Among random networks without norms that
    befalls 42 % of the classes with usual biases, and 0.2 % with these. Weights stay as usual: with SqueezeNet's, of
    standard deviation 0.01, it befalls none, but what is below learns more slowly.
    """
    nn.init.ones_(bias)


class CellNetwork(nn.Module):
    """Stem, stages, head. Its weights are new, and by what `standard` and `numbers` scale is still to be put there."""

    def __init__(self, architecture: Architecture, cell: MakesCell = new_cell) -> None:
        super().__init__()
        self.architecture = architecture
        frame, read = architecture.frame, architecture.stem_width
        dims = len(frame.size)
        self.standard = Standardize(frame.channels, frame.size) if frame.standardized else nn.Identity()
        self.stem = cell("stem.", frame.stem(read), dims, frame.norm, frame.activation)
        stages = []
        for i, stage in enumerate(architecture.stages):
            stage.require_fitting(frame.size)
            norm = frame.norm and stage.norm == "batch"
            own: OrderedDict[str, nn.Module] = OrderedDict(
                (name.split(".")[-2], cell(name, block, dims, norm, stage.activation))
                for name, block in blocks(frame, i, stage, read)
            )
            stages.append(nn.Sequential(own))
            read = stage.width
        self.stages = nn.Sequential(*stages)
        neck = frame.neck(read)
        self.neck = cell("neck.", neck, dims, frame.norm, frame.activation)
        self.head = frame.head
        self.activation: nn.Module = nn.Identity()
        if frame.head == "linear":
            self.classes: nn.Module = nn.Linear(neck.made, frame.classes)
        else:
            self.classes = convolution(Conv(neck.made, frame.classes), dims, bias=True)
            begin_above_zero(self.classes.get_parameter("bias"))
            self.activation = ACTIVATION_MODULES[frame.activation]()

        self.map = tuple(range(2, 2 + dims))
        self.numbers = Unstandardize(frame.classes) if frame.numbers else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """[n, channels, *size] -> [n, classes]."""
        out = self.neck(self.stages(self.stem(self.standard(x))))
        if self.head == "linear":
            scores: Tensor = self.numbers(self.classes(self.mean(out)))
        else:
            scores = self.numbers(self.mean(self.activation(self.classes(out))))
        return scores

    def mean(self, x: Tensor) -> Tensor:
        """The mean over the map: [n, channels, *size] -> [n, channels]."""
        return x.mean(dim=self.map) if self.map else x


def network_of(architecture: Architecture) -> CellNetwork:
    """The network of `architecture` with new weights. `SpaceError` if its layers do not fit each other."""
    try:
        return CellNetwork(architecture)
    except (ValueError, RuntimeError, ZeroDivisionError) as error:
        raise SpaceError(f"this architecture cannot be built: {error}. Choose widths that its groups divide") from error

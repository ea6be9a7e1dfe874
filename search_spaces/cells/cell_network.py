"""The network of an architecture, built from nothing."""

from __future__ import annotations

from collections import OrderedDict

from torch import Tensor, nn

from search_spaces.cells.architecture import Architecture, blocks
from search_spaces.cells.modules import ACTIVATION_MODULES, Cell
from search_spaces.errors import SpaceError


class CellNetwork(nn.Module):
    """Stem, stages, head. Its weights are new."""

    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        self.architecture = architecture
        frame, read = architecture.frame, architecture.stem_width
        self.stem = Cell(frame.stem(read), frame.norm, frame.activation)
        stages = []
        for i, stage in enumerate(architecture.stages):
            own: OrderedDict[str, nn.Module] = OrderedDict(
                (name.split(".")[-2], Cell(block, frame.norm, stage.activation))
                for name, block in blocks(frame, i, stage, read)
            )
            stages.append(nn.Sequential(own))
            read = stage.width
        self.stages = nn.Sequential(*stages)
        neck = frame.neck(read)
        self.neck = Cell(neck, frame.norm, frame.activation)
        self.head = frame.head
        self.activation: nn.Module = nn.Identity()
        if frame.head == "linear":
            self.classes: nn.Module = nn.Linear(neck.made, frame.classes)
        else:
            self.classes = nn.Conv2d(neck.made, frame.classes, 1)
            self.activation = ACTIVATION_MODULES[frame.activation]()

    def forward(self, x: Tensor) -> Tensor:
        """[n, channels, h, w] -> [n, classes]."""
        out = self.neck(self.stages(self.stem(x)))
        if self.head == "linear":
            logits: Tensor = self.classes(out.mean(dim=(2, 3)))
            return logits
        scores: Tensor = self.activation(self.classes(out)).mean(dim=(2, 3))
        return scores


def network_of(architecture: Architecture) -> CellNetwork:
    """The network of `architecture` with new weights. `SpaceError` if its layers do not fit each other."""
    try:
        return CellNetwork(architecture)
    except (ValueError, RuntimeError, ZeroDivisionError) as error:
        raise SpaceError(f"this architecture cannot be built: {error}. Choose widths that its groups divide") from error

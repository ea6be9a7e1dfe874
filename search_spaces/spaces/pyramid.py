"""The space of cells that a study file asks for: stages that halve the map and double the channels."""

from __future__ import annotations

from search_spaces.cells.architecture import Frame
from search_spaces.cells.block_layers import Size
from search_spaces.cells.cells_options import CellsOptions
from search_spaces.spaces.cells import CellSpace, StageOptions

SMALL = 64
"""Images of at most so many pixels are read at their full size, and have 3 stages; larger ones 4."""
LARGE = 128
"""Above so many pixels a pool follows the strided stem, as in ResNets for ImageNet."""


def pyramid(options: CellsOptions, channels: int, size: Size, classes: int) -> CellSpace:
    """The space of networks for images of these channels and this size, in so many classes.

    `SpaceError` where some architecture could not be built.
    """
    side = max(size)
    frame = Frame(
        channels,
        size,
        classes,
        stem_stride=1 if side <= SMALL else 2,
        stem_pool=side > LARGE,
        activation=options.activation,
    )
    count = options.stages or (3 if side <= SMALL else 4)
    return CellSpace(frame, options.widths, [_stage(options, i) for i in range(count)])


def _stage(options: CellsOptions, i: int) -> StageOptions:
    return StageOptions(
        kind=options.kinds,
        width=tuple(width * 2**i for width in options.widths),
        depth=options.depths,
        reduce=options.first_reduce if i == 0 else ("stride",),
        kernel=options.kernels,
        expand=options.expand,
        excite=(False, True) if options.excite else (False,),
        activation=(options.activation,),
    )

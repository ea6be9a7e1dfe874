"""The space of cells that a study file asks for: stages that halve the map and double the channels.

Rows of a table have no map, and their stages are as wide as each other.
"""

from __future__ import annotations

from dataclasses import replace

from search_spaces.cells.architecture import Frame
from search_spaces.cells.cells_options import CellsOptions
from search_spaces.cells.scales import Scales
from search_spaces.spaces.cells import CellSpace, StageOptions

SMALL = 64
"""Maps of at most so many places a side are read at their full size, and have 3 stages; larger ones 4."""
LARGE = 128
"""Above so many places a pool follows the strided stem, as in ResNets for ImageNet."""
OF_ROWS = 2
"""Stages for rows of a table."""
STEM_OF_SIGNALS = 7
"""The kernel of the stem that reads a signal: a neighbourhood in one dimension has few places."""


def pyramid(options: CellsOptions, given: Frame, scales: Scales | None = None) -> CellSpace:
    """The space of networks for what `given` says of inputs (channels, size, whether they are standardised) and outputs
    (how many, whether they are numbers), which standardise by `scales`.

    `SpaceError` where some architecture could not be built.
    """
    dims = len(given.size)
    options = options.for_maps_of(dims)
    assert options.widths is not None
    side = max(given.size, default=1)
    frame = replace(
        given,
        stem_kernel=STEM_OF_SIGNALS if dims == 1 else Frame.stem_kernel,
        stem_stride=1 if side <= SMALL else 2,
        stem_pool=side > LARGE,
        activation=options.activation,
    )
    count = options.stages or (OF_ROWS if dims == 0 else 3 if side <= SMALL else 4)
    return CellSpace(frame, options.widths, [_stage(options, i, dims) for i in range(count)], scales)


def _stage(options: CellsOptions, i: int, dims: int) -> StageOptions:
    assert (
        options.kinds
        and options.widths
        and options.kernels
        and options.dropouts
        and options.norms
        and options.activations
    )
    reduce = ("none",) if dims == 0 else options.first_reduce if i == 0 else ("stride",)
    return StageOptions(
        kind=options.kinds,
        width=tuple(width * (2**i if dims else 1) for width in options.widths),
        depth=options.depths,
        reduce=reduce,
        kernel=options.kernels,
        expand=options.expand,
        excite=(False, True) if options.excite else (False,),
        activation=options.activations,
        norm=options.norms,
        dropout=options.dropouts,
    )

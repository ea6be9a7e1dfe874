"""A model of pieces whose times were not measured: they grow with what is read and what is made."""

import numpy as np

from automl.config.latency import LatencyOptions
from automl.measures.pieces import Grid, PieceModel, layers_of, shapes_of


def made_up_model(space):
    levels = [
        space.original_levels,
        space.lowest,
        np.array([knob.levels[len(knob.levels) // 2] for knob in space.knobs]),
    ]
    shapes = {
        shape
        for one in levels
        for layer in layers_of(shapes_of(space), space.sheet(one))
        for shape, *_ in (*layer.pieces, layer.whole)
    }
    grids = {}
    for shape in shapes:
        ends = (0.01 * shape.kernel[0], 0.1 * shape.kernel[0] * shape.kernel[1])
        grids[shape] = Grid((1.0, 32.0), (1.0, 32.0), ((0.001, ends[0]), (ends[0], ends[1])))
    return PieceModel(9.0, grids, (1.0, 0.01, 0.5, 0.0), 2.0, 0.05, "a processor", LatencyOptions())

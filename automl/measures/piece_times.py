"""A `PieceModel` measured: the shapes of a space at a grid of widths, and some of its networks whole."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

import numpy as np
from scipy.optimize import nnls
from torch import nn

from automl.config.latency import LatencyOptions
from automl.measures.backends.side_by_side import Effort, side_by_side
from automl.measures.fast_widths import Maker
from automl.measures.latency import LatencyComparison
from automl.measures.pieces import Grid, PieceModel, Shape, features_of, layers_of, shapes_of
from automl.types import Say, silent
from search_spaces import NetworkSpace

GRID = 5
"""Widths at which a shape is measured, of what it reads and of what it makes."""
DRAWN = 200
"""Random choices that tell which widths there are."""
NETWORKS = 12
"""Random networks that are measured whole."""
EFFORT = Effort(rounds=20, seconds=1.0, half_width=0.05, repeats=1)
"""For a piece."""
Widths = tuple[set[int], set[int]]
"""What layers of a shape read, and what they make."""
Comparer = Callable[[Mapping[str, nn.Module]], LatencyComparison]
"""Times networks side by side; the first is the reference."""


def measure_pieces(
    space: NetworkSpace,
    original: nn.Module,
    options: LatencyOptions,
    make: Maker,
    compare: Comparer,
    say: Say = silent,
    known: Mapping[Shape, Grid] | None = None,
) -> PieceModel:
    """Measure all that the networks of `space` are made of, then `NETWORKS` of them beside the original.

    `known`: times of shapes that were measured before on the same device, of as many samples; what has become of the
    machine since then is in the networks that are measured whole, to which the model is fitted.
    """
    rng = np.random.default_rng(0)
    grids = measured_grids(space, options, make, say, known)
    say(f"measuring {NETWORKS} networks of the space beside the original")
    chosen = [space.original_levels, space.lowest, *(drawn(space, rng) for _ in range(NETWORKS - 1))]
    networks = {str(i): space.build(space.plan(space.point(levels.tolist()))).eval() for i, levels in enumerate(chosen)}
    comparison = compare({"original": original, **networks})
    original_ms = comparison.latency("original").value  # in float; the first of `networks` is the same in its format
    times = original_ms * np.array([comparison.ratio(name).value for name in networks])
    features = np.stack([features_of(layers_of(shapes_of(space), space.sheet(levels)), grids) for levels in chosen])
    weights = _fitted(features, times)
    busy = comparison.times.half_width
    return PieceModel(
        original_ms=round(original_ms, 6),
        grids=grids,
        weights=tuple(weights.tolist()),
        scale=float(times[0] / (features[0] @ weights)),
        held_out=_held_out(features, times),
        device=comparison.device,
        options=options,
        busy=busy,
    )


def measured_grids(
    space: NetworkSpace,
    options: LatencyOptions,
    make: Maker,
    say: Say = silent,
    known: Mapping[Shape, Grid] | None = None,
) -> dict[Shape, Grid]:
    """Measure the shapes of layers in the networks of `space` but for those that `known` has at all their widths."""
    widths = _widths(space, np.random.default_rng(0))
    old = {shape: grid for shape, grid in (known or {}).items() if shape in widths and grid.covers(*widths[shape])}
    if old:
        say(f"{len(old)} of {len(widths)} shapes of layers have been measured before")
    new = {shape: both for shape, both in widths.items() if shape not in old}
    return old | _grids(new, make, options.threads, say)


def _widths(space: NetworkSpace, rng: np.random.Generator) -> dict[Shape, Widths]:
    """Shape -> what its layers read and make, over random networks of the space, the largest and the smallest."""
    found: dict[Shape, tuple[set[int], set[int]]] = {}
    shapes = shapes_of(space)
    for levels in (space.original_levels, space.lowest, space.highest, *(drawn(space, rng) for _ in range(DRAWN))):
        for layer in layers_of(shapes, space.sheet(levels)):
            for shape, read, made in {*layer.pieces, layer.whole}:
                reads, mades = found.setdefault(shape, (set(), set()))
                reads.add(int(read))
                mades.add(int(made))
    return found


def drawn(space: NetworkSpace, rng: np.random.Generator) -> np.ndarray:
    """Random levels, large together or small together as much as one by one."""
    share = rng.uniform()
    levels = [knob.levels[int(np.clip(rng.normal(share, 0.3), 0, 0.999) * len(knob.levels))] for knob in space.knobs]
    return np.array(levels)


def _grids(widths: Mapping[Shape, Widths], make: Maker, threads: int, say: Say) -> dict[Shape, Grid]:
    """The times of each shape."""
    if not widths:
        return {}
    say(f"measuring {len(widths)} shapes of layers at up to {GRID} x {GRID} widths")
    clock = time.process_time if threads == 1 else time.perf_counter
    grids = {}
    for shape, (reads, mades) in sorted(widths.items()):
        known: dict[tuple[int, int], float] = {}
        rows, columns = ([1] if shape.groups > 1 else _chosen(reads)), _chosen(mades)
        for read in rows:
            for made in columns:
                pair = (min(read, made), max(read, made)) if shape.groups == 1 else (read, made)
                if pair not in known:
                    run, layers = make(shape, read, made)
                    times = side_by_side({"chain": run}, EFFORT, clock).rounds_ms["chain"]
                    known[pair] = float(np.median(times)) / layers
        table = np.array(
            [[known[(min(a, b), max(a, b)) if shape.groups == 1 else (a, b)] for b in columns] for a in rows]
        )
        grids[shape] = Grid(
            tuple(map(float, rows)), tuple(map(float, columns)), tuple(tuple(row) for row in _rising(table).tolist())
        )
    return grids


def _chosen(widths: set[int]) -> list[int]:
    """At most `GRID` of the widths, both ends among them."""
    ordered = sorted(widths)
    places = np.unique(np.linspace(0, len(ordered) - 1, GRID).round().astype(int))
    return [ordered[place] for place in places]


def _rising(table: np.ndarray) -> np.ndarray:
    """The nearest times that never fall along either width, [reads, mades]: isotonic in turn until both hold."""
    from sklearn.isotonic import isotonic_regression

    for _ in range(20):
        table = np.stack([isotonic_regression(row) for row in table])
        table = np.stack([isotonic_regression(column) for column in table.T]).T
    return np.maximum.accumulate(np.maximum.accumulate(table, axis=0), axis=1)


def _fitted(features: np.ndarray, times: np.ndarray) -> np.ndarray:
    """The weights of the features, [n, 4], for relative errors of `times`, [n]; the original counts three times."""
    rows = np.array([0, 0, *range(len(times))])
    weights: np.ndarray = nnls(features[rows] / times[rows, None], np.ones(len(rows)))[0]
    return weights


def _held_out(features: np.ndarray, times: np.ndarray) -> float:
    """The mean relative error on each measured network, predicted from the others and the original."""
    errors = []
    for i in range(1, len(times)):
        others = np.array([k for k in range(len(times)) if k != i])
        weights = _fitted(features[others], times[others])
        scale = times[0] / float(features[0] @ weights)
        errors.append(abs(scale * float(features[i] @ weights) / times[i] - 1))
    return float(np.mean(errors))

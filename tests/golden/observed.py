"""What is recorded of a space: every answer that an agent or an evaluation gets from it, as plain data."""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.torch import load

from automl.export import export
from automl.export.manifest import read_manifest
from automl.study.setup import Setup
from automl.util.fingerprint import fingerprint
from search_spaces import DepthStep, Plan, Point, Recorded, SparsityStep
from search_spaces.codecs.packing import metadata_of
from search_spaces.codecs.reader import FOLDED, FOLDED_LZMA, unfolded
from tests.golden.cases import Case, outputs
from tests.kits.plans import kept_by

RANDOM, PLANNED, WALKED = 30, 5, 3
"""Random Points with their costs; how many of them are planned and built; along how many the bounds are asked for."""


def levels(space: Any, point: Point) -> list[int]:
    """The levels of a Point in knob order."""
    return [point[knob.name] for knob in space.knobs]


def draws(space: Any) -> dict[str, Any]:
    """What is asked of a space: levels for Points, not all of them canonical, and keep fractions for projections."""
    rng = np.random.default_rng(17)
    return {
        "levels": [[int(rng.choice(knob.levels)) for knob in space.knobs] for _ in range(RANDOM)],
        "wanted": [rng.uniform(0.05, 1.0, len(space.knobs)).round(3).tolist() for _ in range(PLANNED)],
    }


def limits(space: Any, case: Case) -> list[dict[str, float]]:
    """The budgets of a case in absolute units."""
    whole = {metric: space.cost(space.original_point, metric) for metric in space.metrics}
    return [{metric: part * whole[metric] for metric, part in parts.items()} for parts in case.limits]


def space_record(setup: Setup, case: Case, drawn: Mapping[str, Any]) -> dict[str, Any]:
    """Knobs, features, costs, bounds, projections."""
    space = setup.space
    points = [space.point(chosen) for chosen in drawn["levels"]]
    budgets = limits(space, case)
    projected = [[levels(space, space.project(np.array(w), b)) for w in drawn["wanted"]] for b in budgets]
    return {
        "knobs": [[knob.name, list(knob.levels), knob.unit, knob.size] for knob in space.knobs],
        "original": levels(space, space.original_point),
        "metrics": list(space.metrics),
        "feature_names": list(space.feature_names),
        "features": np.asarray(space.features()).tolist(),
        "points": [levels(space, point) for point in points],
        "keys": [point.key for point in points],
        "encoded": [space.encode(point).tolist() for point in points[:PLANNED]],
        "costs": {metric: [space.cost(point, metric) for point in points] for metric in space.metrics},
        "sequence": np.asarray(space.sequence(points[0])).tolist(),
        "limits": budgets,
        "study_limits": setup.limits,
        "projected": projected,
        "decoded": [levels(space, space.decode(np.array(w))) for w in drawn["wanted"]],
        "bounds": [_bounds(space, chosen[:WALKED], b) for chosen, b in zip(projected, budgets, strict=True)],
    }


def _bounds(space: Any, chosen: list[list[int]], budget: Mapping[str, float]) -> list[list[list[int]]]:
    """The bounds of every knob on the way to some Points."""
    return [[list(space.bounds(one[:t], budget)) for t in range(len(one))] for one in chosen]


def built_record(space: Any, plan: Plan) -> dict[str, Any]:
    """What a plan builds: a hash of every weight by name, which slicing leaves exact, and what the network computes."""
    network = space.build(plan).eval()
    return {"state": fingerprint(network), "outputs": outputs(network)}


def export_record(setup: Setup, plan: Plan, out: Path) -> dict[str, Any]:
    """The hash of the exported file, before it was compressed if it was, and the keys of the manifest."""
    files = export(
        setup.space.build(plan), setup.problem.example_inputs, plan, out, ["safetensors"], manifest={"study": 1}
    )
    manifest = read_manifest(out)
    content = files[0].path.read_bytes()
    if metadata_of(content) in (
        FOLDED,
        FOLDED_LZMA,
    ):  # builds of these differ in what they make, not in what it stands for
        content = unfolded({name: part.numpy() for name, part in load(content).items()})
    return {
        "sha256": sha256(content).hexdigest(),
        "bytes": len(content),
        "keys": sorted(manifest),
        "file_keys": sorted(manifest["files"]["safetensors"]),
        "layers": manifest["layers"],
    }


def described(plan: Plan, space: Any) -> dict[str, Any]:
    """What a plan says, step by step, without what it keeps whole, which may be named or not.

    This is the one place of these tests that knows how a plan is made.
    """
    sizes = {knob.name: knob.size for knob in space.knobs}
    sizes |= {group.name: group.size for group in Recorded(space.original).groups}  # Plans of depth speak of these
    depth, sparse = plan.get(DepthStep), plan.get(SparsityStep)
    weights = {name: count for name, count in sparse.counts.items() if count < sizes[name]}
    return {
        "depth": {"removed": list(depth.removed), "skips": [list(pair) for pair in depth.skips]},
        "channels": {name: list(kept) for name, kept in kept_by(plan).items() if len(kept) < sizes[name]},
        "weights": weights,
        "scales": {name: list(scale) for name, scale in sparse.scales.items() if name in weights},
    }

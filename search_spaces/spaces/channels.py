"""The space of channel widths: for every coupled group of channels of a network, how many are kept."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from fnmatch import fnmatch
from typing import Any

import numpy as np
from torch import fx, nn

from search_spaces.errors import SpaceError
from search_spaces.graph.analysis import Analysis
from search_spaces.graph.groups import Fixed, Group, find_fixed
from search_spaces.graph.recorded import Blueprint, LayerSlice
from search_spaces.graph.surgery import restore
from search_spaces.graph.trace import trace
from search_spaces.pricing.terms import METRICS, CostModel
from search_spaces.spaces.wall import CostedSpace
from search_spaces.types import Knob, Plan, Point


class ChannelSpace(CostedSpace):
    """Per coupled group of channels, how many are kept, on any network that can be recorded.

    Raises `TraceError` if the model cannot be recorded, `SpaceError` for a bad option or if no channel can change.

    Args:
        model: the network; it is copied, and never changed.
        example_inputs: positional arguments on which its forward runs, batch first.
        min_keep: the smallest fraction of a group's channels that may remain, in (0, 1].
        round_to: keep multiples of this many channels of the layer that makes the group (or all of them).
        steps: only this many widths of each group, evenly spaced up to the full one; None for all.
        exclude: names of groups or layers to leave as they are; `*` and `?` match as in file names.
    """

    feature_names: tuple[str, ...] = (
        "index",
        "out_channels",
        "in_channels",
        "height",
        "width",
        "stride",
        "kernel",
        "macs",
    )

    def __init__(
        self,
        model: nn.Module,
        example_inputs: Sequence[Any],
        *,
        min_keep: float = 0.1,
        round_to: int = 1,
        steps: int | None = None,
        exclude: Sequence[str] = (),
    ) -> None:
        if not 0 < min_keep <= 1:
            raise SpaceError(f"min_keep is a fraction in (0, 1], got {min_keep}")
        if round_to < 1:
            raise SpaceError(f"round_to is a number of channels, at least 1, got {round_to}")
        if steps is not None and steps < 2:
            raise SpaceError(f"steps is a number of widths, at least 2, got {steps}")
        self.original: fx.GraphModule = trace(model, example_inputs)
        options = {"min_keep": min_keep, "round_to": round_to, "steps": steps, "exclude": exclude}
        self._arguments: tuple[tuple[Any, ...], dict[str, Any]] = (tuple(example_inputs), options)
        self._blueprint = Blueprint(self.original)
        self._analysis, found = self._analysed(exclude)
        self._require_matches(exclude, found)
        left_out = [group for group in found if _matches(group, exclude)]
        self.groups: tuple[Group, ...] = tuple(group for group in found if group not in left_out)
        excluded = [Fixed(group.name, group.size, "is excluded by the study") for group in left_out]
        self.fixed: tuple[Fixed, ...] = (*find_fixed(self._analysis, found), *excluded)
        self.not_understood: Mapping[str, str] = dict(self._analysis.opaque)
        """Layer or call -> its function, where the effect on channels is not known."""
        widths = tuple(_knob(group, min_keep, round_to, steps) for group in self.groups)
        self.knobs: tuple[Knob, ...] = self._all_knobs(widths)
        if not self.knobs:
            reasons = "; ".join(f"{item.name}: {item.reason}" for item in self.fixed[:3])
            raise SpaceError(f"no channels of this network can change, so there is nothing to search ({reasons})")
        self._left = {group.name: np.arange(group.size) for group in self.groups}
        """Group -> the channels that may be kept: all, unless the space is `narrowed`."""
        self._costs = CostModel(self._analysis, self.groups)
        self._added: dict[str, Callable[[np.ndarray], float]] = {}
        self.metrics: tuple[str, ...] = METRICS

    def __reduce__(self) -> tuple[Any, ...]:
        # Recording and analysing again is quick and exact; a graph's names need not survive pickling.
        return _remake, (type(self), self.original, *self._arguments, self._added, self._left)

    def _analysed(self, exclude: Sequence[str]) -> tuple[Analysis, tuple[Group, ...]]:
        """What is known of the network's channels, with further ties that the space may need, and their groups."""
        return self._blueprint.analysis, self._blueprint.groups

    def _all_knobs(self, widths: tuple[Knob, ...]) -> tuple[Knob, ...]:
        """The knobs of the space: those of the groups' widths, and whatever there is beside them."""
        return widths

    def _require_matches(self, patterns: Sequence[str], groups: Sequence[Group]) -> None:
        for pattern in patterns:
            if not any(_matches(group, [pattern]) for group in groups):
                names = ", ".join(group.name for group in groups[:5])
                raise SpaceError(f"exclude pattern {pattern!r} matches no group; there are {names}, ...")

    def add_cost(self, metric: str, cost: Callable[[np.ndarray], float]) -> None:
        """Let budgets limit `metric` too: `cost(levels)`, of [n_knobs], must never fall when a level rises.

        It is pickled with the space. A metric that is there already is a `SpaceError`.
        """
        if metric in self.metrics:
            raise SpaceError(f"the space has the cost {metric!r} already; give the new one another name")
        self._added[metric] = cost
        self.metrics = (*self.metrics, metric)

    def cost_of_levels(self, levels: np.ndarray, metric: str) -> float:
        """The cost of the network with `levels` channels kept in each group: [n_knobs]."""
        return self._added[metric](levels) if metric in self._added else self._costs.cost(levels, metric)

    def macs_share(self, name: str) -> float:
        """The fraction of the original's MACs in which the channels of group `name` take part."""
        index = next(i for i, group in enumerate(self.groups) if group.name == name)
        macs = self._costs.macs_by_term(np.array([group.size for group in self.groups]))
        return float(macs[self._costs.terms_of(index)].sum() / macs.sum())

    def plan(self, point: Point, scores: Mapping[str, np.ndarray] | None = None) -> Plan:
        """Which channels to keep: in each group those with the highest scores, as many as `point` says.

        Args:
            point: a legal Point of this space.
            scores: group -> importance of each channel, [size]; by default the L1 norm of the weights that read it.
        """
        self.point(self.levels(point).tolist())  # illegal levels are refused
        scores = scores if scores is not None else self.magnitudes
        kept = {}
        for group in self.groups:
            left = self._left[group.name]
            chosen = best(np.asarray(scores[group.name])[left], point[group.name])
            kept[group.name] = tuple(left[list(chosen)].tolist())
        return Plan(kept)

    @property
    def narrowest(self) -> np.ndarray:
        """The levels at which every group is as narrow as it can be, and no layer is gone: [n_knobs]."""
        return self.lowest

    @property
    def magnitudes(self) -> dict[str, np.ndarray]:
        """Group -> L1 norm of the weights that read each channel (or make it, if none does): [size]."""
        out = {}
        for group in self.groups:
            role = "in" if any(member.role == "in" for member in group.members) else "out"
            total = np.zeros(group.size)
            for member in group.members:
                if member.role == role:
                    weight = self._analysis.tensor(member.parameter).detach().abs().double().numpy()
                    along = np.moveaxis(weight, member.dim, 0).reshape(weight.shape[member.dim], -1).sum(axis=1)
                    total += along[member.indices].sum(axis=1)
            out[group.name] = total
        return out

    def build(self, plan: Plan) -> fx.GraphModule:
        """A new network, smaller for real, with the original's module names; the original is untouched."""
        return self._blueprint.build(self._whole(plan))

    def slices(self, plan: Plan) -> dict[str, LayerSlice]:
        """For every convolution and linear layer left, the channels that `plan` keeps, by the layer's name."""
        return self._blueprint.slices(self._whole(plan))

    def kept_in_value(self, node: str, plan: Plan) -> tuple[np.ndarray, ...]:
        """What `plan` keeps of the tensor that a node of the network's graph computes: indices along each dimension."""
        labelled = self._blueprint.labelled(node)
        if labelled is None:
            raise SpaceError(f"no node {node!r} of this network's graph computes a tensor")
        kept = self._blueprint.kept(self._whole(plan))
        return tuple(kept.indices(labels) for labels in labelled)

    def narrowed(self, network: nn.Module, plan: Plan) -> ChannelSpace:
        """What `network`, built from `plan` and trained since, can still lose, in the numbering of this space.

        What the plan removed stays removed: knobs end at the levels it keeps, and plans choose among what it keeps.
        The weights are those of `network`; the new `original` has the shape of the old one, with zeros where channels
        are gone, and computes what `network` computes, unless it normalises over channels.
        """
        kept = self._blueprint.kept(self._whole(plan))
        narrowed = copy.copy(self)
        narrowed.original = restore(self._analysis, kept, network)
        narrowed._blueprint = Blueprint(narrowed.original)
        narrowed._analysis = narrowed._blueprint.analysis
        narrowed._added = dict(self._added)
        narrowed._leave({name: np.intersect1d(left, plan.kept.get(name, left)) for name, left in self._left.items()})
        return narrowed

    def _leave(self, left: Mapping[str, np.ndarray]) -> None:
        """From now on only these channels of each group may be kept."""
        self._left = dict(left)
        knobs = []
        for knob in self.knobs:
            most = len(left[knob.name])
            levels = (*(level for level in knob.levels if level < most), most)
            knobs.append(Knob(knob.name, levels, knob.unit, knob.size))
        self.knobs = tuple(knobs)

    def _whole(self, plan: Plan) -> Plan:
        """`plan` with what is left of the groups that it does not name; a `SpaceError` if it keeps anything else."""
        kept, sizes = dict(plan.kept), {group.name: group.size for group in self.groups}
        for name, left in self._left.items():
            if len(left) < sizes[name]:
                kept.setdefault(name, tuple(left.tolist()))
                if not np.isin(kept[name], left).all():
                    raise SpaceError(
                        f"the plan keeps channels {kept[name]} of {name!r}, expected some of {left.tolist()}"
                    )
        return replace(plan, kept=kept)

    def features(self) -> np.ndarray:
        """What is known of each group's first layer, each column scaled to [0, 1]: [n_knobs, 8].

        The static part of the AMC state (He et al. 2018, section 3.1): t, n, c, h, w, stride, k, FLOPs[t].
        """
        return scaled(np.array([(t, *self._described(group)) for t, group in enumerate(self.groups)], dtype=float))

    def _described(self, group: Group) -> tuple[float, ...]:
        """Output and input channels, height, width, stride, kernel and share of the MACs of a group's first layer."""
        made = next(m for m in group.members if m.role == "out")
        weight = self._analysis.tensor(made.parameter).shape
        layer = self._analysis.geometry.get(made.parameter)
        height, width, stride = layer if layer is not None else (1, 1, 1)
        kernel = weight[-1] if len(weight) > 2 else 1
        macs = self.macs_share(group.name)
        return (weight[made.dim], weight[1 - made.dim], height, width, stride, kernel, macs)


def scaled(table: np.ndarray) -> np.ndarray:
    """`table`, [rows, columns], with each column stretched to [0, 1]; a constant one becomes 0."""
    span = table.max(axis=0) - table.min(axis=0)
    return (table - table.min(axis=0)) / np.where(span > 0, span, 1.0)


def best(scores: np.ndarray, count: int) -> tuple[int, ...]:
    """The positions of the `count` highest of `scores` ([size]), ascending; of two as high the first."""
    best_first = np.argsort(-np.asarray(scores), kind="stable")
    return tuple(sorted(int(i) for i in best_first[:count]))


def _remake(
    kind: type[ChannelSpace],
    model: nn.Module,
    example_inputs: Sequence[Any],
    options: dict[str, Any],
    added: Mapping[str, Callable[[np.ndarray], float]],
    left: Mapping[str, np.ndarray],
) -> ChannelSpace:
    space = kind(model, example_inputs, **options)
    for metric, cost in added.items():
        space.add_cost(metric, cost)
    space._leave(left)
    return space


def _knob(group: Group, min_keep: float, round_to: int, steps: int | None) -> Knob:
    """Legal widths: multiples of `round_to` channels of the first layer, from `min_keep` on, and the full width.

    With `steps`, of these the ones nearest to multiples of size / steps, from `min_keep` on.
    """
    made = next(member for member in group.members if member.role == "out")
    per_channel = made.indices.shape[1]
    lowest = max(1, math.ceil(min_keep * group.size - 1e-9))
    levels = [k for k in range(lowest, group.size) if k * per_channel % round_to == 0]
    knob = Knob(group.name, (*levels, group.size))
    if steps is None:
        return knob
    nearest = {knob.nearest(i / steps) for i in range(1, steps + 1) if i / steps >= min_keep - 1e-9}
    return Knob(group.name, tuple(sorted(nearest)))


def _matches(group: Group, patterns: Sequence[str]) -> bool:
    return any(fnmatch(name, pattern) for name in (group.name, *group.layers) for pattern in patterns)

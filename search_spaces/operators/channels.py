"""Channels: for every coupled group of channels of a network, how many are kept."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatch
from typing import Any, ClassVar, Self

import numpy as np

from search_spaces.errors import SpaceError
from search_spaces.graph.groups import Fixed, Group, find_fixed, find_groups
from search_spaces.graph.recorded import Cut, LayerSlice
from search_spaces.operators.base import Basis, Listing, Operator, Scores, first_few
from search_spaces.operators.options import ChannelsOptions
from search_spaces.operators.step import Step
from search_spaces.pricing.sheet import Sheet
from search_spaces.types import Knob


@dataclass(frozen=True)
class ChannelsStep(Step):
    """Which channels are kept."""

    operator: ClassVar[str] = "channels"

    kept: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    """Group -> indices of the channels kept, ascending. A group not named is kept whole."""

    def to_record(self) -> dict[str, Any]:
        """The step as plain data."""
        return {"kept": {name: list(indices) for name, indices in self.kept.items()}}

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> Self:
        """The inverse of `to_record`."""
        return cls({name: tuple(indices) for name, indices in record["kept"].items()})

    def within(self, cut: Cut) -> Cut:
        """`cut` with these channels."""
        return replace(cut, kept=self.kept)


class Channels(Operator):
    """Offers a width for each coupled group of channels."""

    name: ClassVar[str] = "channels"
    marks: ClassVar[tuple[str, ...]] = ("channels",)
    options_type = ChannelsOptions
    step_type = ChannelsStep

    def __init__(self, basis: Basis, options: ChannelsOptions) -> None:
        analysis = basis.analysis
        found = find_groups(analysis)
        _require_matches("exclude", options.exclude, found, basis.passed_over)
        _require_matches("widths", list(options.widths), found, basis.passed_over)
        left_out = [Fixed(g.name, g.size, reason) for g in found if (reason := _reason(g, options)) is not None]
        names = {item.name for item in left_out}
        self.groups: tuple[Group, ...] = tuple(group for group in found if group.name not in names)
        self.fixed: tuple[Fixed, ...] = (*find_fixed(analysis, found), *left_out)
        """What cannot change, and why."""
        self.not_understood: Mapping[str, str] = dict(analysis.opaque)
        """Layer or call -> its function, where the effect on channels is not known."""
        self.knobs = tuple(_knob(group, options) for group in self.groups)
        self.left = {group.name: np.arange(group.size) for group in self.groups}
        """Group -> the channels that may be kept: all, unless the operator is `narrowed`."""
        narrowest = np.array([knob.levels[0] for knob in self.knobs], dtype=np.int64)
        self.basis = basis.changed(groups=self.groups, narrowest=narrowest)

    def price(self, sheet: Sheet, levels: np.ndarray) -> Sheet:
        """The sheet with `levels` channels in each group."""
        return sheet.changed(widths=levels)

    def active(self, sheet: Sheet, levels: np.ndarray) -> np.ndarray:
        """A width makes a difference where anything that is left depends on it."""
        if sheet.presence is None:
            return np.ones(len(self.knobs), dtype=bool)
        return sheet.presence.groups

    def step(self, sheet: Sheet, levels: np.ndarray, scores: Scores | None) -> ChannelsStep:
        """Keep in each group the channels with the highest scores, by default the L1 norm of the weights that read
        them.

        Channels are named by the groups of the recorded network, which do not depend on what else may be removed; where
        calls may be removed, only the groups that lose some.
        """
        known = {group.name for group in self.groups} <= (scores or {}).keys()
        scores = {**({} if known else self.magnitudes), **(scores or {})}
        active = self.active(sheet, levels)
        lost: list[int] = []
        for group, level, is_active in zip(self.groups, levels.tolist(), active, strict=True):
            left = self.left[group.name]
            kept = left[list(best(np.asarray(scores[group.name])[left], level))] if is_active else range(group.size)
            lost += np.delete(np.array(group.roots), kept).tolist()
        offered = {group.name for group in self.groups} if sheet.presence is None else set()
        named = {}
        for group in self.basis.recorded.groups:
            stays = ~np.isin(self.basis.analysis.labels.roots(np.array(group.roots)), lost)
            if group.name in offered or not stays.all():
                named[group.name] = tuple(np.flatnonzero(stays).tolist())
        return ChannelsStep(named)

    def narrowest(self) -> dict[str, LayerSlice]:
        """What every layer keeps where each group is as narrow as it can be."""
        levels = np.array([knob.levels[0] for knob in self.knobs], dtype=np.int64)
        step = self.step(self.price(self.basis.whole, levels), levels, None)
        return self.basis.recorded.slices(self.whole(step.within(Cut())))

    def whole(self, cut: Cut) -> Cut:
        """`cut` with what is left of the groups that it does not name; a `SpaceError` if it keeps anything else."""
        kept, sizes = dict(cut.kept), {group.name: group.size for group in self.groups}
        for name, left in self.left.items():
            if len(left) < sizes[name]:
                kept.setdefault(name, tuple(left.tolist()))
                if not np.isin(kept[name], left).all():
                    raise SpaceError(
                        f"the plan keeps channels {kept[name]} of {name!r}, expected some of {left.tolist()}"
                    )
        return replace(cut, kept=kept)

    def narrowed(self, basis: Basis, kept: Mapping[str, Sequence[int] | np.ndarray]) -> Channels:
        """What the network of `basis`, which has this one's shape, can still lose after all but `kept` has gone."""
        narrowed = copy.copy(self)
        narrowed.left = {name: np.intersect1d(left, kept.get(name, left)) for name, left in self.left.items()}
        knobs = []
        for knob in self.knobs:
            most = len(narrowed.left[knob.name])
            knobs.append(replace(knob, levels=(*(level for level in knob.levels if level < most), most)))
        narrowed.knobs = tuple(knobs)
        narrowed.basis = basis.changed(groups=self.groups, narrowest=self.basis.narrowest)
        return narrowed

    @property
    def magnitudes(self) -> dict[str, np.ndarray]:
        """Group -> L1 norm of the weights that read each channel (or make it, if none does): [size]."""
        out = {}
        for group in self.groups:
            role = "in" if any(member.role == "in" for member in group.members) else "out"
            total = np.zeros(group.size)
            for member in group.members:
                if member.role == role:
                    weight = self.basis.analysis.tensor(member.parameter).detach().abs().double().numpy()
                    along = np.moveaxis(weight, member.dim, 0).reshape(weight.shape[member.dim], -1).sum(axis=1)
                    total += along[member.indices].sum(axis=1)
            out[group.name] = total
        return out

    def macs_share(self, name: str) -> float:
        """The fraction of the original's MACs in which the channels of group `name` take part."""
        return self.basis.terms.macs_share(next(i for i, group in enumerate(self.groups) if group.name == name))

    def inventory(self) -> tuple[Listing, ...]:
        """The groups, and the channels that cannot change."""
        rows = [
            (g.name, str(g.size), str(knob.levels[0]), f"{self.macs_share(g.name):.1%}", first_few(g.layers))
            for g, knob in zip(self.groups, self.knobs, strict=True)
        ]
        count = f"{len(rows)} groups of channels that stay or go together (MACs: share in which they take part)"
        fixed = [(item.name, str(item.channels), item.reason) for item in self.fixed]
        strange = [(name, function) for name, function in self.not_understood.items()]
        listings = [
            Listing(count, ("group", "channels", "fewest", "MACs", "layers"), tuple(rows), (0, 4)),
            Listing("" if fixed else "nothing is fixed", ("cannot change", "channels", "reason"), tuple(fixed), (0, 2)),
        ]
        if strange:
            listings.append(Listing("", ("not understood, so left as it is", "function"), tuple(strange), (0, 1)))
        return tuple(listings)

    def described(self) -> np.ndarray:
        """Of each group's first layer."""
        rows = []
        for group in self.groups:
            made = next(m for m in group.members if m.role == "out")
            weight = self.basis.analysis.tensor(made.parameter).shape
            layer = self.basis.analysis.geometry.get(made.parameter)
            height, width, stride = layer if layer is not None else (1, 1, 1)
            kernel = weight[-1] if len(weight) > 2 else 1
            share = self.macs_share(group.name)
            rows.append((weight[made.dim], weight[1 - made.dim], height, width, stride, kernel, share))
        return np.array(rows, dtype=float).reshape(len(rows), 7)


def best(scores: np.ndarray, count: int) -> tuple[int, ...]:
    """The positions of the `count` highest of `scores` ([size]), ascending; of two as high the first."""
    best_first = np.argsort(-np.asarray(scores), kind="stable")
    return tuple(sorted(int(i) for i in best_first[:count]))


def _knob(group: Group, options: ChannelsOptions) -> Knob:
    """Legal widths: multiples of `round_to` channels of the first layer, from `min_keep` on, and the full width.

    Of these those that `widths` allows. With `steps`, of these the ones nearest to multiples of size / steps, from
    `min_keep` on.
    """
    made = next(member for member in group.members if member.role == "out")
    per_channel = made.indices.shape[1]
    lowest = max(1, math.ceil(options.min_keep * group.size - 1e-9))
    levels = [k for k in range(lowest, group.size) if k * per_channel % options.round_to == 0]
    for pattern, widths in options.widths.items():
        levels = [k for k in levels if k in widths or not _matches(group, [pattern])]
    knob = Knob(group.name, (*levels, group.size), operator="channels", site=group.name)
    if options.steps is None:
        return knob
    shares = [i / options.steps for i in range(1, options.steps + 1)]
    nearest = {knob.nearest(share) for share in shares if share >= options.min_keep - 1e-9}
    return replace(knob, levels=tuple(sorted(nearest)))


def _reason(group: Group, options: ChannelsOptions) -> str | None:
    """Why a group stays whole though it could be narrower, or None."""
    if _matches(group, options.exclude):
        return "is excluded by the study"
    none = any(not widths and _matches(group, [pattern]) for pattern, widths in options.widths.items())
    return "is offered no narrower width" if none else None


def _matches(group: Group, patterns: Sequence[str]) -> bool:
    return any(fnmatch(name, pattern) for name in (group.name, *group.layers) for pattern in patterns)


def _require_matches(option: str, patterns: Sequence[str], groups: Sequence[Group], others: Sequence[str]) -> None:
    """Raise a `SpaceError` for a pattern of an option that matches neither a group nor one of the `others`."""
    for pattern in patterns:
        elsewhere = any(fnmatch(name, pattern) for name in others)
        if not elsewhere and not any(_matches(group, [pattern]) for group in groups):
            names = ", ".join(group.name for group in groups[:5])
            raise SpaceError(f"{option} pattern {pattern!r} matches no group; there are {names}, ...")

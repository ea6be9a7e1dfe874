"""Blocks that may be removed, as a space of conditional knobs, with a made-up accuracy whose best choice is known."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from torch import nn

from search_spaces import ChannelsStep, CostedSpace, Knob, Plan, Point


class ToyDepthSpace(CostedSpace):
    """`blocks` blocks, each with a bit and a width, and a skip. The width of a removed block is not active.

    An inactive width stands at its lowest level. A block costs in proportion to its width.
    """

    metrics = ("macs", "params")
    feature_names = ("index", "size", "kind")

    def __init__(self, blocks: int = 4, size: int = 16) -> None:
        self.blocks, self.size = blocks, size
        pairs = [
            (Knob(f"block{i}", (0, 1), "block", kind="gate"), Knob(f"width{i}", tuple(range(2, size + 1))))
            for i in range(blocks)
        ]
        self.knobs = (*(knob for pair in pairs for knob in pair), Knob("skip", (0, 1), "skip", kind="free"))

    def active(self, levels: Sequence[int]) -> np.ndarray:
        """Whether each knob matters: [n_knobs]."""
        out = np.ones(len(self.knobs), dtype=bool)
        out[1:-1:2] = np.asarray(levels)[:-1:2] == 1
        return out

    def point(self, levels: Sequence[int]) -> Point:
        """The canonical Point: inactive widths stand at their lowest."""
        super().point(levels)
        return super().point(np.where(self.active(levels), levels, self.lowest).tolist())

    def project(self, wanted: np.ndarray, limits: Mapping[str, float]) -> Point:
        """Blocks wanted by less than a half go, unless all would; then the widths shrink until the limits are kept."""
        if not limits:
            return self.decode(wanted)
        self.require_feasible(limits)
        bits = self._bits & (np.asarray(wanted) >= 0.5)
        floor = self.lowest + bits
        for t in np.argsort(wanted):
            if self.within(floor, limits):
                break
            floor[t] = self.lowest[t]
        fixed = np.where(self._bits, floor, 0)
        for factor in np.linspace(1, 0, 50):
            widths = np.maximum(self.lowest, factor * np.asarray(wanted) * self.highest).astype(int)
            levels = np.where(self._bits, fixed, widths)
            if self.within(levels, limits):
                break
        return self.fill(levels.tolist(), np.asarray(wanted, dtype=float), limits)

    def fill(self, levels: Sequence[int], wanted: np.ndarray, limits: Mapping[str, float]) -> Point:
        """Widths of blocks that are there rise, the one furthest below what is wanted first; bits stay as they are."""
        current = self.levels(self.point(levels))
        rising = [t for t in np.flatnonzero(self.active(current) & ~self._bits) if limits]
        while rising:
            t = min(rising, key=lambda t: (current[t] / max(wanted[t], 1e-9), t))
            current[t] += 1
            if current[t] > self.size or not self.within(current, limits):
                current[t] -= 1
                rising.remove(t)
        return self.point(current.tolist())

    def cost_of_levels(self, levels: np.ndarray, metric: str) -> float:
        levels = np.asarray(levels)
        each = np.arange(1, self.blocks + 1) if metric == "params" else np.ones(self.blocks)
        return float(50 + 10 * levels[-1] + (9 * each * levels[:-1:2] * levels[1:-1:2]).sum())

    def features(self) -> np.ndarray:
        n = len(self.knobs)
        sizes = np.array([knob.levels[-1] for knob in self.knobs]) / self.size
        return np.stack([np.arange(n) / (n - 1), sizes, [float(knob.is_bit) for knob in self.knobs]], axis=1)

    def plan(self, point: Point) -> Plan:
        return Plan((ChannelsStep({name: tuple(range(level)) for name, level in point.items()}),))

    def build(self, plan: Plan) -> nn.Module:
        raise NotImplementedError("a space of costs alone")


class ToyDepthAccuracy:
    """Accuracy 0.9, less 0.15 for each of the `needed` blocks that is gone and up to 0.15 as its width falls.

    All other blocks are of no use whatever.
    """

    best = 0.9

    def __init__(self, space: ToyDepthSpace, needed: Sequence[int], width: int = 8) -> None:
        self.space, self.needed, self.width = space, tuple(needed), width

    @property
    def limits(self) -> dict[str, float]:
        """The budget at which the needed blocks, `width` wide, are the best choice."""
        return {"macs": 60.0 + 9 * self.width * len(self.needed)}

    @property
    def sensitivity(self) -> dict[str, np.ndarray]:
        """Error curves of the widths, which know nothing of what is needed, and none of the bits: [n_levels]."""
        widths = [knob for knob in self.space.knobs if not knob.is_bit]
        return {knob.name: (1 - np.array(knob.levels) / knob.size) ** 2 for knob in widths}

    def __call__(self, point: Point) -> float:
        lost = [max(1 - point[f"width{i}"] / self.width, 0.0) if point[f"block{i}"] else 1.0 for i in self.needed]
        return self.best - 0.15 * sum(lost)

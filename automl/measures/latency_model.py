"""A latency table: what narrowing each group of channels is worth in time, measured beside the original network.

For every group the network is timed with that group alone at a handful of widths, round by round beside the original,
so that only ratios of the same rounds are used. The model is additive,

    latency(widths) = original * max(1 - sum over groups of (1 - ratio[group](width)), ratio of the smallest network)

It says nothing about pairs: where two groups share a layer, narrowing one leaves less for the other to save, and the
sum overstates what both save. So a table is good enough to search by, and not to promise anything: what is reported is
measured on the network built (`automl.evaluation.certify_latency`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

import numpy as np
from torch import Tensor, nn

from automl.config.latency import LatencyOptions
from automl.errors import ConfigError, StudyError
from automl.measures.latency import LatencyComparison, compare_latency
from automl.types import Say, silent
from search_spaces import Knob, NetworkSpace, Plan

BLOCK, ROUND_MS = 10, 10.0
"""Rounds measured between two looks at the precision, and how long a network runs in each."""
PRECISION = 0.01
"""The standard error of a ratio at which measuring stops."""
MAX_ROUNDS = 40
"""It stops here in any case; on a busy machine the precision is not reached, and the table records its own."""


@dataclass(frozen=True)
class Curve:
    """The time of the network with one group narrowed, by that of the whole network timed in the same rounds."""

    group: str
    levels: tuple[int, ...]
    """The widths timed, ascending, the last the whole one."""
    ratios: tuple[float, ...]
    """Never falling; the last is 1."""


@dataclass(frozen=True)
class LatencyTable:
    """Predicts the latency of a network from its widths; never falls when a width rises."""

    original_ms: float
    smallest: float
    """Time by the original's of the network with every group at its smallest: below it nothing is predicted."""
    curves: tuple[Curve, ...]
    """One a group, in the order of the space's knobs."""
    error: float
    """The largest standard error of a ratio in the table."""
    rounds: int
    """The most rounds that a comparison took."""
    device: str
    options: LatencyOptions

    def __call__(self, levels: np.ndarray) -> float:
        """The predicted latency in ms, to the nanosecond, with `levels` channels kept in each group: [n_groups]."""
        saved = self._savings[np.arange(len(self.curves)), levels].sum()
        return round(self.original_ms * max(1.0 - float(saved), self.smallest), 6)

    @cached_property
    def _savings(self) -> np.ndarray:
        """The part of the original's time saved by each group at each width: [n_groups, widest + 1]."""
        widths = np.arange(1 + max(curve.levels[-1] for curve in self.curves))
        return np.stack([1 - np.interp(widths, curve.levels, curve.ratios) for curve in self.curves])

    @property
    def unsteady(self) -> str | None:
        """What is wrong with the table's precision, or None."""
        if self.error <= 2 * PRECISION:
            return None
        return (
            f"the latency table was measured on a busy machine: after {self.rounds} rounds the standard error of a "
            f"ratio is up to {self.error:.1%}, where {PRECISION:.0%} is wanted"
        )

    def to_record(self) -> dict[str, Any]:
        """Plain data for the database."""
        curves = [{"group": c.group, "levels": list(c.levels), "ratios": list(c.ratios)} for c in self.curves]
        return {**asdict(self), "curves": curves}

    @classmethod
    def from_record(cls, recorded: Mapping[str, Any], space: NetworkSpace) -> LatencyTable:
        """The inverse of `to_record`. `StudyError` if the table was measured on a network of other groups."""
        curves = [Curve(c["group"], tuple(c["levels"]), tuple(c["ratios"])) for c in recorded["curves"]]
        measured = [(curve.group, curve.levels[0], curve.levels[-1]) for curve in curves]
        if measured != [(knob.name, knob.levels[0], knob.levels[-1]) for knob in space.knobs]:
            raise StudyError(
                "the latency table on record was measured on a network with other groups of channels. Put the network "
                "back to go on with the study, or give the new one another name"
            )
        return cls(**{**recorded, "curves": tuple(curves), "options": LatencyOptions(**recorded["options"])})


def measure_latency_table(
    space: NetworkSpace,
    example_inputs: Sequence[Tensor],
    options: LatencyOptions,
    say: Say = silent,
) -> LatencyTable:
    """Time the network with each group of `space` narrowed alone, beside the original; see the module's docstring.

    Takes about `len(knobs) * widths * 0.1` seconds on a quiet machine, four times that on a busy one, or 10 passes of
    each network where they take longer. `example_inputs`: [n, ...] each, of which a batch is made. A `ConfigError` for
    a space in which other things than widths are chosen: a table cannot say what they save together.
    """
    strange = next((knob for knob in space.knobs if knob.operator != "channels"), None)
    if strange is not None:
        raise ConfigError(
            f"a latency table prices the widths of groups, and this space also has {strange.name!r}, a {strange.unit}: "
            f"limit macs, params or size_bytes instead"
        )
    inputs = batch_of(example_inputs, options.batch)
    original = space.build(Plan()).eval()
    say(f"measuring the latency of {len(space.knobs)} groups at {options.widths} widths, beside the original network")
    comparisons = []
    curves = []
    for index, knob in enumerate(space.knobs):
        levels = _timed_levels(knob, options.widths)
        comparisons.append(compare_closely(original, _narrowed(space, index, levels), inputs, options.threads))
        ratios = [comparisons[-1].ratio(str(level)).value for level in levels]
        curves.append(Curve(knob.name, levels, _never_falling(ratios)))
    smallest = space.build(space.plan(space.point(space.lowest.tolist()))).eval()
    comparisons.append(compare_closely(original, {"smallest": smallest}, inputs, options.threads))
    times = np.concatenate([comparison.rounds_ms[comparison.reference] for comparison in comparisons])
    return LatencyTable(
        original_ms=round(float(np.median(times)), 6),
        smallest=min(comparisons[-1].ratio("smallest").value, 1.0),
        curves=tuple(curves),
        error=max(precision(comparison) for comparison in comparisons),
        rounds=max(len(comparison.rounds_ms[comparison.reference]) for comparison in comparisons),
        device=comparisons[-1].device,
        options=options,
    )


def compare_closely(
    original: nn.Module, networks: Mapping[str, nn.Module], inputs: Sequence[Tensor], threads: int
) -> LatencyComparison:
    """`compare_latency` beside `original`, until each ratio is known to `PRECISION` or `MAX_ROUNDS` are over."""
    together = {"original": original, **networks}
    rounds: dict[str, np.ndarray] = {name: np.empty(0) for name in together}
    while True:
        block = compare_latency(together, inputs, rounds=BLOCK, threads=threads, round_ms=ROUND_MS)
        rounds = {name: np.concatenate([times, block.rounds_ms[name]]) for name, times in rounds.items()}
        comparison = LatencyComparison(rounds, block.device)
        if precision(comparison) <= PRECISION or len(rounds["original"]) >= MAX_ROUNDS:
            return comparison


def precision(comparison: LatencyComparison) -> float:
    """The largest standard error of a ratio: of a median, from its interquartile range as if of a normal variable."""
    ratios = [comparison.ratio(name) for name in comparison.rounds_ms if name != comparison.reference]
    return max(0.93 * (ratio.spread or 0.0) / math.sqrt(ratio.n) for ratio in ratios)


def batch_of(example_inputs: Sequence[Tensor], size: int) -> tuple[Tensor, ...]:
    """`size` samples of each input, those given over and over: [size, ...]."""
    return tuple(x[[i % len(x) for i in range(size)]] for x in example_inputs)


def _timed_levels(knob: Knob, widths: int) -> tuple[int, ...]:
    """At most `widths` levels, evenly spread over those of the knob, both ends among them."""
    positions = np.unique(np.linspace(0, len(knob.levels) - 1, widths).round().astype(int))
    return tuple(knob.levels[position] for position in positions)


def _narrowed(space: NetworkSpace, index: int, levels: Sequence[int]) -> dict[str, nn.Module]:
    """Level -> the network with knob `index` at that level and every other one whole."""
    networks: dict[str, nn.Module] = {}
    for level in levels:
        whole = space.highest
        whole[index] = level
        networks[str(level)] = space.build(space.plan(space.point(whole.tolist()))).eval()
    return networks


def _never_falling(ratios: Sequence[float]) -> tuple[float, ...]:
    """The nearest ratios that never fall as the level rises (isotonic regression), by the last, which becomes 1.

    The whole network was timed like the narrowed ones, and they are compared with it, not with the original: what
    disturbs the original's own times is in every ratio, and would be taken for something that each group saves.
    """
    from sklearn.isotonic import isotonic_regression

    risen = isotonic_regression(ratios)
    return tuple(float(ratio) for ratio in risen / risen[-1])

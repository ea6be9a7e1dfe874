"""A latency table: what narrowing each group of channels is worth in time, measured beside the original network.

For every group the network is timed with that group alone at a handful of widths, round by round beside the original,
so that only ratios of the same rounds are used. The model is additive,

    latency(widths) = original * max(1 - sum over groups of (1 - ratio[group](width)), ratio of the smallest network)

It says nothing about pairs: where two groups share a layer, narrowing one leaves less for the other to save, and the
sum overstates what both save. So a table is good enough to search by, and not to promise anything: what is reported is
measured on the network built (`automl.evaluation.certify_latency`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property, partial
from typing import Any

import numpy as np
from torch import Tensor, nn

from automl.config.latency import LatencyOptions
from automl.errors import ConfigError, StudyError
from automl.measures.backends.side_by_side import Effort
from automl.measures.latency import batch_of, compare_latency
from automl.types import Say, silent
from search_spaces import Knob, NetworkSpace, Plan

PRECISION = 0.02
"""Half the 95 % interval of a ratio at which measuring stops; on a busy machine it is not reached, and the table says
so."""
EFFORT = Effort(rounds=60, seconds=2.0, half_width=PRECISION)


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
    """The widest half interval of a ratio in the table."""
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
            f"the latency table was measured on a busy machine: after {self.rounds} rounds half the 95 % interval of "
            f"a ratio is up to {self.error:.1%}, where {PRECISION:.0%} is wanted"
        )

    def scaled(self, factor: float) -> LatencyTable:
        """One that predicts `factor` times as much of every network."""
        return replace(self, original_ms=self.original_ms * factor)

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
    compare = partial(compare_latency, inputs=inputs, threads=options.threads, effort=EFFORT)
    comparisons = []
    curves = []
    for index, knob in enumerate(space.knobs):
        levels = _timed_levels(knob, options.widths)
        comparisons.append(compare({"original": original, **_narrowed(space, index, levels)}))
        ratios = [comparisons[-1].ratio(str(level)).value for level in levels]
        curves.append(Curve(knob.name, levels, _never_falling(ratios)))
    smallest = space.build(space.plan(space.point(space.lowest.tolist()))).eval()
    comparisons.append(compare({"original": original, "smallest": smallest}))
    times = np.concatenate([comparison.times.rounds_ms["original"] for comparison in comparisons])
    return LatencyTable(
        original_ms=round(float(np.median(times)), 6),
        smallest=min(comparisons[-1].ratio("smallest").value, 1.0),
        curves=tuple(curves),
        error=max(comparison.times.half_width for comparison in comparisons),
        rounds=max(comparison.times.rounds for comparison in comparisons),
        device=comparisons[-1].device,
        options=options,
    )


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

"""The one way of measuring: networks run in turn, round by round, and compared within the rounds.

In every round each network runs for about `round_ms`, at least once, in an order that reverses from round to round, so
that a change of the machine's pace meets all of them. What is worth something on a busy machine is the ratio of two
times of one round. A block of rounds in which the reference's own time was unsteady is thrown away and repeated, a few
times; what stays unsteady is said to be.

What runs on one thread is timed by that thread's processor time: the same as the time that passes where the machine is
idle, and without the time in which others had the core where it is not.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from automl.measures.backends.intervals import Estimate, estimated

Run = Callable[[], object]
"""Runs a network once on inputs that it has been given."""
Clock = Callable[[], float]
"""Seconds since some moment: that pass (`time.perf_counter`), of the process, or of the thread."""

STEADY = 0.10
"""The reference's times may drift or spread by this fraction before they are called unsteady."""


@dataclass(frozen=True)
class Effort:
    """How long is measured."""

    round_ms: float = 5.0
    """How long a network runs in a round; short, so that both runs of a pair meet the same machine."""
    block: int = 10
    """Rounds between two looks at the precision."""
    rounds: int = 200
    """Measuring stops after these."""
    seconds: float = 6.0
    """It stops at the end of the block in which so much time has passed."""
    half_width: float = 0.01
    """Half the 95 % interval, as a part of the value, at which measuring stops before."""
    repeats: int = 2
    """How many unsteady blocks are thrown away."""

    def __post_init__(self) -> None:
        if self.block < 1 or self.rounds < 1:
            raise ValueError(f"expected at least one round, got {self.rounds} in blocks of {self.block}")


USUAL = Effort()
"""Of whoever says nothing else."""


@dataclass(frozen=True)
class Comparison:
    """Times of several networks measured in turn, round by round. The first one is the reference."""

    rounds_ms: Mapping[str, np.ndarray]
    """Network -> mean time of one forward pass in each round: [rounds], in ms."""
    thrown_away: int = 0
    """Blocks of rounds that were unsteady and repeated."""

    @property
    def reference(self) -> str:
        """The name of the network that the others are compared with."""
        return next(iter(self.rounds_ms))

    @property
    def rounds(self) -> int:
        """How often each network was timed."""
        return len(self.rounds_ms[self.reference])

    def latency_ms(self, name: str) -> Estimate:
        """The median time of a forward pass over the rounds."""
        return estimated(self.rounds_ms[name])

    def ratio(self, name: str) -> Estimate:
        """The median over the rounds of this network's time by the reference's in the same round; below 1 is faster.

        Pairing cancels whatever slows the machine for longer than a round, so this is far steadier than the times.
        """
        return estimated(self.rounds_ms[name] / self.rounds_ms[self.reference])

    @property
    def half_width(self) -> float:
        """The widest half interval: of the ratios, or of the time of a network that was measured alone."""
        others = [name for name in self.rounds_ms if name != self.reference]
        if not others:
            return self.latency_ms(self.reference).half_width
        return max(self.ratio(name).half_width for name in others)

    @property
    def drift(self) -> float:
        """How far the reference's median moved from the first half of the rounds to the second, as a fraction."""
        times = self.rounds_ms[self.reference]
        half = len(times) // 2
        if not half:
            return 0.0
        return float(np.median(times[-half:]) / np.median(times[:half]) - 1)

    @property
    def unsteady(self) -> str | None:
        """What is wrong with the machine's pace, by the reference's own times, or None if it was steady."""
        times = self.rounds_ms[self.reference]
        if abs(self.drift) <= STEADY and _spread(times) <= STEADY:
            return None
        return (
            f"the machine's pace was unsteady: over {len(times)} rounds the reference drifted by "
            f"{self.drift:+.0%} and spread by {_spread(times):.0%} (interquartile range by median), where "
            f"{STEADY:.0%} is steady. Trust the ratios rather than the times, or measure again on an idle machine"
        )


def side_by_side(runs: Mapping[str, Run], effort: Effort | None = None, clock: Clock = time.perf_counter) -> Comparison:
    """Time each of `runs` by `clock` until the ratios to the first are as precise as `effort` wants, or it is over."""
    if not runs:
        raise ValueError("expected at least one network to time, got none")
    effort = effort or USUAL
    loops = {name: _loops(run, effort.round_ms, clock) for name, run in runs.items()}
    kept: dict[str, np.ndarray] = {name: np.empty(0) for name in runs}
    thrown_away = 0
    end = time.perf_counter() + effort.seconds
    while True:
        block = _block(runs, loops, effort.block, clock)
        if thrown_away < effort.repeats and _spread(next(iter(block.values()))) > STEADY:
            thrown_away += 1
            continue
        kept = {name: np.concatenate([times, block[name]]) for name, times in kept.items()}
        comparison = Comparison(kept, thrown_away)
        over = comparison.rounds >= effort.rounds or time.perf_counter() > end
        if over or comparison.half_width <= effort.half_width:
            return comparison


def _block(runs: Mapping[str, Run], loops: Mapping[str, int], rounds: int, clock: Clock) -> dict[str, np.ndarray]:
    """Network -> mean time of a pass in each round: [rounds], in ms."""
    times: dict[str, list[float]] = {name: [] for name in runs}
    order = list(runs)
    for _ in range(rounds):
        for name in order:
            times[name].append(_time_ms(runs[name], loops[name], clock))
        order.reverse()
    return {name: np.array(times[name]) for name in runs}


def _spread(times: np.ndarray) -> float:
    """The interquartile range by the median."""
    low, middle, high = np.percentile(times, [25, 50, 75])
    return float((high - low) / middle)


def _loops(run: Run, round_ms: float, clock: Clock) -> int:
    """How many passes last about `round_ms`; running them warms caches and memory up."""
    loops = 1
    _time_ms(run, loops, clock)
    while True:
        once = _time_ms(run, loops, clock)
        if once * loops >= round_ms / 2:
            return max(1, round(round_ms / once))
        loops *= 2


def _time_ms(run: Run, loops: int, clock: Clock) -> float:
    """The mean time of one pass over `loops` passes, in ms."""
    start = clock()
    for _ in range(loops):
        run()
    return (clock() - start) * 1e3 / loops

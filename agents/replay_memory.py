"""The replay memory of an off-policy agent: explicit transitions, drawn evenly."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Transitions:
    """Steps of episodes, row by row; float32, so that they go into a network as they are."""

    states: np.ndarray
    """[n, n_features]"""
    actions: np.ndarray
    """[n, 1]: the keep fractions executed, not those the actor named before wall and rounding."""
    rewards: np.ndarray
    """[n, 1]"""
    next_states: np.ndarray
    """[n, n_features]; zeros, and never looked at, after the last step of an episode."""
    done: np.ndarray
    """[n, 1]: 1 at the last step of an episode, else 0."""

    def __len__(self) -> int:
        return len(self.states)

    @classmethod
    def joined(cls, episodes: Sequence[Transitions]) -> Transitions:
        """The steps of all `episodes`, one after the other."""
        columns = zip(*(vars(episode).values() for episode in episodes), strict=True)
        return cls(*(np.concatenate(column) for column in columns))


class Replay:
    """The last `capacity` transitions. Every one of them is equally likely to be drawn."""

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self._rows: Transitions | None = None

    def __len__(self) -> int:
        return 0 if self._rows is None else len(self._rows)

    def add(self, episode: Transitions) -> None:
        """Append the steps of one episode; the oldest steps beyond the capacity are forgotten."""
        rows = episode if self._rows is None else Transitions.joined([self._rows, episode])
        self._rows = Transitions(*(column[-self.capacity :] for column in vars(rows).values()))

    def reward_moments(self) -> tuple[float, float]:
        """Mean and standard deviation of the rewards stored."""
        if self._rows is None:
            raise ValueError("expected transitions to average, the replay memory is empty: add an episode first")
        return float(self._rows.rewards.mean(dtype=np.float64)), float(self._rows.rewards.std(dtype=np.float64))

    def sample(self, n: int, rng: np.random.Generator) -> Transitions:
        """`n` transitions drawn with replacement, so that an `n` above the number stored is no special case."""
        if self._rows is None:
            raise ValueError("expected transitions to draw from, the replay memory is empty: add an episode first")
        rows = rng.integers(0, len(self._rows), n)
        return Transitions(*(column[rows] for column in vars(self._rows).values()))

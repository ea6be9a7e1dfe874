"""By which method a training brings a network to its zeros: what a study may ask of each."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Literal

from automl.errors import ConfigError
from automl.util.names import nearest
from search_spaces import offered_names

DEFAULTS: Mapping[str, Mapping[str, Any]] = {
    "gradual": {"begins": 0.0, "ends": 0.7, "every": 100},
    "iterative": {"rounds": 3, "rewind": "rate", "first": "prune", "early": 0.0},
    "set": {"ends": 0.75, "every": 100, "fraction": 0.3},
    "rigl": {"ends": 0.75, "every": 100, "fraction": 0.3},
    "ac_dc": {"begins": 0.1, "ends": 0.75, "rounds": 4},
    "cram": {"ends": 0.9, "radius": 0.05, "plus": True, "shares": (1.0,)},
    "l0": {"ends": 0.75, "strength": 1e-5, "gate_rate": 0.02, "dropout": 0.3},
    "constrained_l0": {"ends": 0.75, "dual_rate": 0.03, "gate_rate": 0.05, "dropout": 0.3},
    "scl": {"ends": 0.75, "strength": 0.01, "mask_rate": 0.3},
    "constrained_scl": {"ends": 0.75, "dual_rate": 1e-3, "mask_rate": 0.3},
    "supermask": {"scores": "magnitude", "score_rate": 1.0},
}
"""Method -> its options and their defaults."""

_RANGES: Mapping[str, tuple[float, float, str]] = {
    "begins": (0, 1, "a part of the training, at least 0 and below 1"),
    "ends": (0, math.nextafter(1, 2), "a part of the training, at least 0 and at most 1"),
    "every": (1, math.inf, "a whole number of steps, at least 1"),
    "rounds": (1, math.inf, "a whole number of at least 1"),
    "early": (0, 1, "a part of the first round, at least 0 and below 1"),
    "fraction": (0, math.nextafter(1, 2), "a part of the weights that are there, in [0, 1]"),
    "radius": (0, math.inf, "at least 0"),
    "strength": (0, math.inf, "at least 0"),
    "dual_rate": (0, math.inf, "at least 0"),
    "gate_rate": (0, math.inf, "at least 0"),
    "dropout": (math.nextafter(0, 1), 1, "a probability above 0 and below 1"),
    "mask_rate": (0, math.inf, "at least 0"),
    "score_rate": (0, math.inf, "at least 0"),
}
"""Option -> lowest, upper bound (never reached), and the same in words."""
_GROWN = ("set", "rigl")
"""Methods that begin with the zeros of the trial, and let others take their places."""


def known_methods() -> list[str]:
    """The names of all methods: ours, and those that packages bring."""
    return [*DEFAULTS, *offered_names("automl.methods", DEFAULTS)]


@dataclass(frozen=True)
class MethodOptions:
    """The choices of a method; one that cannot be, or that another method has, is a `ConfigError`.

    Whatever the method, each tensor ends with as many weights as the trial's network has there, in the pattern of the
    operator sparsity. An option that is left out has the default of the method (`DEFAULTS`).
    """

    name: str
    """gradual: magnitude pruning along a cubic curve (Zhu & Gupta 2017). iterative: prune and tune in rounds, with the
    learning rate or the weights rewound (Renda et al. 2020; Frankle & Carbin 2019). set, rigl: sparse from the start;
    the smallest weights go, and others grow at random (Mocanu et al. 2018) or by their gradients (Evci et al. 2020).
    ac_dc: sparse and dense phases by turns (Peste et al. 2021). cram: steps for the network as it is once pruned (Peste
    et al. 2023). l0: gates with a penalty on how many are open (Louizos et al. 2018); constrained_l0: the same with a
    multiplier a tensor that finds the number wanted (Gallego-Posada et al. 2022). scl: a mask is learnt beside the
    weights, with a price on what passes (Tang et al. 2022); constrained_scl: the same with a multiplier a tensor.
    supermask: weights stay what they are, and which of them pass is learnt (Ramanujan et al. 2020). Or one that a
    package brings."""
    begins: float | None = None
    """Which part of the training comes before the first weight goes (gradual, ac_dc)."""
    ends: float | None = None
    """From which part of the training on the places of zeros are settled (all but iterative, which settles them when
    its last round begins, and supermask, which learns them to the end)."""
    every: int | None = None
    """Steps between two changes of the zeros (gradual, set, rigl)."""
    rounds: int | None = None
    """Rounds of prune and tune, through each of which the learning rate goes its whole way (iterative); or sparse
    phases before the last, each followed by a dense one (ac_dc)."""
    rewind: Literal["rate", "weights"] | None = None
    """What each round of iterative goes back to: the beginning of the learning rate's schedule, or the weights early in
    the first round too, which is then dense."""
    first: Literal["prune", "train"] | None = None
    """Whether the first round of iterative begins with pruning, or trains the dense network."""
    early: float | None = None
    """After which part of the first round the weights are noted that are gone back to; 0: at its beginning, as for
    lottery tickets (iterative)."""
    fraction: float | None = None
    """Of the weights that are there, the part that changes places at first; it falls along half a cosine to 0 (set,
    rigl)."""
    radius: float | None = None
    """How far a step up the gradient goes before the network is pruned to look at (cram)."""
    plus: bool | None = None
    """Whether a step goes by the dense network's gradient too, CrAM+ (cram)."""
    shares: tuple[float, ...] | None = None
    """Parts of the zeros, one of which is drawn at each step; [0.5, 0.75, 1] prepares for several sparsities (cram)."""
    strength: float | None = None
    """What the number of open gates, or of weights that pass, is multiplied by in the loss (l0, scl)."""
    dual_rate: float | None = None
    """The learning rate of the multipliers (constrained_l0, constrained_scl)."""
    gate_rate: float | None = None
    """The learning rate of the gates, which Adam moves (l0, constrained_l0)."""
    dropout: float | None = None
    """How probably a gate is shut at first (l0, constrained_l0)."""
    mask_rate: float | None = None
    """The learning rate of what decides which weights pass (scl, constrained_scl)."""
    scores: Literal["magnitude", "random"] | None = None
    """What the scores of weights are at first: their magnitude, or random as for new weights (supermask)."""
    score_rate: float | None = None
    """The highest learning rate of the scores, which follows the schedule of the training (supermask)."""
    options: Mapping[str, Any] | None = None
    """What a method that a package brings is told; its own package says what there is."""

    def __post_init__(self) -> None:
        if self.name not in known_methods():
            raise ConfigError(f"name cannot be {self.name!r}{nearest(str(self.name), known_methods())}")
        for option in (one.name for one in fields(self) if one.name != "name" and getattr(self, one.name) is not None):
            if option not in self._takes:
                raise ConfigError(
                    f"{option} is no option of {self.name}: leave it out, or use {' or '.join(self._takes)}"
                )
            low, high, expected = _RANGES.get(option, (-math.inf, math.inf, ""))
            if option in _RANGES and not low <= getattr(self, option) < high:
                raise ConfigError(f"{option} is {expected}, got {getattr(self, option)}")
        if self.shares is not None and not (self.shares and all(0 < share <= 1 for share in self.shares)):
            raise ConfigError(f"shares are parts of the zeros, above 0 and at most 1, got {list(self.shares)}")
        settled = self.settled
        if not settled.get("begins", 0) <= settled.get("ends", 1):
            raise ConfigError(f"begins must not be after ends, got {settled['begins']} and {settled['ends']}")
        if settled.get("rewind") == "weights" and (settled["first"] == "prune" or settled["rounds"] < 2):
            raise ConfigError(
                "rewind: weights goes back to weights of a first round that is dense: set `first: train` and 2 rounds "
                "or more"
            )
        if settled.get("first") == "train" and settled["rounds"] < 2:
            raise ConfigError("first: train prunes when the second round begins: set 2 rounds or more, got 1")

    @property
    def _takes(self) -> tuple[str, ...]:
        """The fields that its options are in."""
        return tuple(DEFAULTS.get(self.name, ("options",)))

    @property
    def settled(self) -> dict[str, Any]:
        """Every option of this method with its value; of one that a package brings, those that are given."""
        if self.name not in DEFAULTS:
            return dict(self.options or {})
        given = {option: getattr(self, option) for option in DEFAULTS[self.name]}
        return {option: DEFAULTS[self.name][option] if value is None else value for option, value in given.items()}

    @property
    def dense(self) -> bool:
        """Whether it begins with all weights, and not with the zeros of the trial."""
        return self.name not in _GROWN

    @property
    def cycles(self) -> int:
        """How often the learning rate goes its whole way."""
        return int(self.settled["rounds"]) if self.name == "iterative" else 1

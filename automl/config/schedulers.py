"""Which trials that are trained go on, decided after every epoch: what a study may ask of Ray Tune's schedulers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args, get_type_hints

from automl.errors import ConfigError
from automl.util.names import nearest

DEFAULTS: Mapping[str, Mapping[str, Any]] = {
    "asha": {"grace_epochs": 1, "reduction": 4.0, "brackets": 1},
    "hyperband": {"reduction": 3.0},
    "median": {"grace_epochs": 1, "min_trials": 3},
}
"""Scheduler -> its options and their defaults."""

_AT_LEAST = {"grace_epochs": 1, "brackets": 1, "min_trials": 1}


@dataclass(frozen=True)
class SchedulerOptions:
    """The choices of a scheduler; one that cannot be, or that another scheduler has, is a `ConfigError`.

    An option that is left out has the default of the scheduler (`DEFAULTS`).
    """

    name: Literal["asha", "hyperband", "median"]
    """asha: asynchronous successive halving (Li et al. 2020, arXiv 1810.05934), which compares a trial with those that
    have come as far. hyperband: brackets of trials that wait for each other and are halved together (Li et al. 2018,
    arXiv 1603.06560). median: a trial ends once its best is worse than the median of the others' averages so far
    (Golovin et al. 2017, "Google Vizier", section 3.2)."""
    grace_epochs: int | None = None
    """No trial ends before so many epochs."""
    reduction: float | None = None
    """One trial in so many goes on from each look to the next, and trains so many times as long until then."""
    brackets: int | None = None
    """In how many groups the trials are compared, each of which looks first after `reduction` times as many epochs as
    the one before; into which a trial falls is drawn."""
    min_trials: int | None = None
    """How many others must have come as far for a median."""

    def __post_init__(self) -> None:
        names = get_args(get_type_hints(type(self))["name"])
        if self.name not in names:
            raise ConfigError(f"name cannot be {self.name!r}{nearest(str(self.name), names)}")
        for option in ("grace_epochs", "reduction", "brackets", "min_trials"):
            value = getattr(self, option)
            if value is None:
                continue
            if option not in DEFAULTS[self.name]:
                raise ConfigError(
                    f"{option} is no option of {self.name}: leave it out, or use {' or '.join(DEFAULTS[self.name])}"
                )
            if option in _AT_LEAST and value < _AT_LEAST[option]:
                raise ConfigError(f"{option} must be at least {_AT_LEAST[option]}, got {value}")
        if self.reduction is not None and not self.reduction > 1:
            raise ConfigError(f"reduction must be above 1, got {self.reduction:g}")

    @property
    def settled(self) -> dict[str, Any]:
        """Every option of this scheduler with its value."""
        given = {option: getattr(self, option) for option in DEFAULTS[self.name]}
        return {option: given[option] or default for option, default in DEFAULTS[self.name].items()}

    def require_useful(self, epochs: int) -> None:
        """Raise `ConfigError` unless a trial of `epochs` epochs could be ended early."""
        first = self._first_look(epochs)
        if first >= epochs:
            raise ConfigError(
                f"{self.name} would end no trial early: with {self._in_words()} it looks first after {first:g} of "
                f"{epochs} epochs. Train for more epochs, or set these lower"
            )

    def _first_look(self, epochs: int) -> float:
        """The epochs after which the scheduler looks first, in the bracket that looks last."""
        options = self.settled
        if self.name == "asha":
            return float(options["grace_epochs"] * options["reduction"] ** (options["brackets"] - 1))
        if self.name == "hyperband":
            return float(epochs / options["reduction"] if epochs >= options["reduction"] else epochs)
        return float(options["grace_epochs"])

    def _in_words(self) -> str:
        return ", ".join(f"{option} {value:g}" for option, value in self.settled.items())

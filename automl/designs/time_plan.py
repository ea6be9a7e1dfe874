"""How the time for a design is spent, planned backwards from its end.

Half of it goes to the last trainings: of the reference and of the best network that was found, so that the two can be
compared. A tenth is for the first training of the reference, before which there is nothing to hand over. What is left
is for short trainings of other networks, all of the same predicted seconds: a network that is slow to train sees fewer
images, as it will in its last training.
"""

from __future__ import annotations

from dataclasses import dataclass

from automl.config.training import TrainingOptions
from automl.errors import ConfigError
from automl.util.duration import duration

FINAL, SEARCH = 0.5, 0.4
"""The shares of the last trainings and of the short ones."""
LEAST_S = 20.0
"""Less time is no use."""
LEAST_EACH_S = 0.01
"""What a training may take at least: above 0, however slow the machine is."""
USUAL_S = 15.0
"""What a short training takes, if there is time for enough of them."""
FEWEST, MOST = 8, 200
"""How many short trainings there are."""
SHORT = 20
"""The most epochs of a short training, unless these have fewer than `STEPS` steps."""
LONGER = 5
"""How many times as many epochs a last training may have."""
SMALLEST, STEPS_EPOCH, STEPS = 32, 20, 400
"""The smallest batch; how many steps an epoch and a short training are to have."""
LAST, LAST_S = 0.15, 15.0
"""What measuring on test data, timing and writing files take: a part of the time, at most so many seconds."""


@dataclass(frozen=True)
class TimePlan:
    """What a design does with its time."""

    trials: int
    """How many short trainings."""
    trial_s: float
    search_s: float
    """What those of an agent take all together."""
    final_s: float
    """What each of the last trainings takes."""
    epochs: int
    """The most of a short training."""

    @property
    def told(self) -> str:
        """The plan for people."""
        return (
            f"the plan: about {self.trials} trainings of {duration(self.trial_s)}, then the best network and the "
            f"reference for {duration(self.final_s)} each"
        )


def require_enough(seconds: float) -> None:
    """Raise `ConfigError` for less time than anything can be done in."""
    if seconds < LEAST_S:
        raise ConfigError(f"expected a time of at least {duration(LEAST_S)}, got {duration(seconds)}")


def plan_time(
    seconds: float, epoch_s: float, validation_s: float, *, epochs: int = SHORT, searches: int = 1, workers: int = 1
) -> TimePlan:
    """The plan for so much time, if the reference takes `epoch_s` for an epoch, and `validation_s` to be validated.

    `epochs`: the most of a short training. `searches`: agents and seeds that search. Each has the same time, and its
    best network is trained as long as the reference; these trainings are one after the other. `workers`: how many short
    ones there are at a time.
    """
    seconds -= min(LAST_S, LAST * seconds)
    final_s = FINAL * seconds / (1 + searches) * epoch_s / (epoch_s + validation_s)
    search_s = SEARCH * seconds / searches * workers
    trials = min(max(round(search_s / USUAL_S), FEWEST), MOST)
    trial_s = search_s / trials
    if epochs * epoch_s < trial_s:  # few samples: what is left is for more networks
        trial_s = epochs * epoch_s
        trials = min(max(round(search_s / (trial_s + validation_s)), FEWEST), MOST)
    trial_s, search_s, final_s = (max(round(each, 2), LEAST_EACH_S) for each in (trial_s, search_s, final_s))
    return TimePlan(trials, trial_s, search_s, final_s, epochs)


def short_epochs(samples: int) -> int:
    """Of a short training at most: so many that even a few `samples` make `STEPS` of the smallest batch."""
    return max(SHORT, -(-STEPS * SMALLEST // samples))


def batch_size(samples: int, short: float) -> int:
    """Of a training: so many images that an epoch of all `samples` has `STEPS_EPOCH` steps or more, and a training on
    `short` of them `STEPS`, as far as can be."""
    size = TrainingOptions.batch_size
    while size > SMALLEST and (samples < STEPS_EPOCH * size or short < STEPS * size):
        size //= 2
    return size

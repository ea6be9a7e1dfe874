"""Optuna's samplers as agents: TPE, CMA-ES and NSGA-II (https://optuna.org, version 5), on the budget.

The variables are the keep fractions of the knobs that have several levels, and the levels of choices, without an order.
What a sampler suggests is projected onto the budget, and the sampler is told what was executed, not what it suggested;
more is better, by the goal's utility.

A sampler is a function of a study of finished trials and of a seed. So the agent keeps such a study in memory. A
trial is proposed by a new sampler, seeded for that trial, on a copy of it. A trial that is told enters the study
itself; where a sampler keeps its state with the trials (CMA-ES its distribution, NSGA-II its generations), by being
asked for anew with its variables fixed to what was executed. So a trial counts for the generation in which it is told,
not for the one in which it was proposed, which can differ only where trials run at the same time, and the history told
restores the study exactly. Stopped trials are in it with their estimates, failed and infeasible ones are not.

What has been tried already is drawn anew, as what is running is; if the sampler insists, it is moved by small exchanges
between knobs until it is new.
"""

from __future__ import annotations

import copy
import math
from abc import abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np

from agents.base import REDRAWS, Counts, NumberedAgent
from agents.front import Load
from agents.moves import exchange, within
from agents.random_search import random_point
from agents.types import Task, Trial
from agents.uniform import uniform_point
from search_spaces import Knob, Point

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution
    from optuna.samplers import BaseSampler

STRAY = 0.1
"""The widest step of the exchanges that make a repeated suggestion new."""


class _Sampled(NumberedAgent):
    """An Optuna sampler behind our interface; a subclass makes the sampler."""

    directions: ClassVar[tuple[Literal["maximize", "minimize"], ...]] = ("maximize",)
    """Of the values a trial has in the study."""
    keeps_state_in_trials: ClassVar[bool] = True
    """Whether the sampler attaches to a trial what it needs later."""

    def __init__(self, task: Task, options: object) -> None:
        import optuna

        super().__init__(task, options)
        self.startup = 0
        """How many trials are random Points before the sampler is asked."""
        self.free = [knob for knob in self.space.knobs if len(knob.levels) > 1]
        self.ranges = {knob.name: (knob.least, 1.0) for knob in self.free}
        """Of each variable, by the name of its knob."""
        with _quiet():
            self.study = optuna.create_study(directions=list(self.directions))
        self._tried: set[Point] = set()

    @abstractmethod
    def new_sampler(self, seed: int) -> BaseSampler:
        """A sampler that has drawn nothing yet."""

    def sampler(self, seed: int) -> BaseSampler:
        """A new sampler that knows the variables, rather than look for them in every trial of the study."""
        sampler = self.new_sampler(seed)
        variables = self._distributions()
        sampler.infer_relative_search_space = lambda study, trial: variables  # type: ignore[method-assign]
        return sampler

    def propose(self, number: int, taken: set[Point]) -> Point | None:
        """A random Point at first, then what the sampler suggests, on the budget."""
        rng = self.exploring(number)
        known = self._tried | taken
        return next((point for point in self._candidates(number, rng, taken) if point not in known), None)

    def learn(self, trial: Trial) -> None:
        """The trial enters the study as executed, if it has a value."""
        from optuna.trial import create_trial

        self._tried.add(trial.point)
        if not self.valued(trial):
            return
        params, values = self._params(trial.point), self.objectives(trial)
        if not self.keeps_state_in_trials:
            self.study.add_trial(create_trial(params=params, distributions=self._distributions(), values=values))
            return
        self.study.sampler = self.sampler(int(self.learning(trial.number).integers(2**31)))
        self.study.enqueue_trial(params)
        asked = self.study.ask()
        _ = asked.relative_params  # the sampler attaches its state when it samples, which fixed variables forgo
        for name, variable in self._distributions().items():
            asked._suggest(name, variable)
        self.study.tell(asked, values)

    def objectives(self, trial: Trial) -> list[float]:
        """The values of a trial in the study, one for each of `directions`."""
        return [trial.utility(self.goal)]

    def legal(self, keeps: np.ndarray) -> Point:
        """The Point that a suggestion ([n_knobs], in [0, 1]) stands for."""
        return self.space.project(keeps, self.limits)

    def _candidates(self, number: int, rng: np.random.Generator, taken: set[Point]) -> Iterator[Point]:
        """Points to try, best first."""
        if number < self.startup:
            for _ in range(1 + REDRAWS):
                yield random_point(self.space, self.limits, rng)
        for point in self._suggestions(rng, taken):
            yield point
        for _ in range(REDRAWS):
            point = exchange(self.space, point, self.limits, rng, STRAY)
            yield point

    def _suggestions(self, rng: np.random.Generator, taken: set[Point]) -> Iterator[Point]:
        """What the sampler suggests, again and again, on a copy of the study where `taken` are running."""
        from optuna.trial import TrialState as OptunaState
        from optuna.trial import create_trial

        distributions = self._distributions()
        finished = self.study.get_trials(deepcopy=False)
        study = copy.deepcopy(self.study, {id(trial): trial for trial in finished})  # finished trials never change
        for point in sorted(taken, key=lambda point: point.key):
            params = self._params(point)
            study.add_trial(create_trial(state=OptunaState.RUNNING, params=params, distributions=distributions))
        study.sampler = self.sampler(int(rng.integers(2**31)))
        lowest = [knob.least for knob in self.space.knobs]
        for _ in range(1 + REDRAWS):
            params = study.ask(distributions).params
            keeps = [_keep(knob, params.get(knob.name)) for knob in self.space.knobs]
            yield self.legal(np.clip(keeps, lowest, 1.0))

    def _distributions(self) -> dict[str, BaseDistribution]:
        from optuna.distributions import CategoricalDistribution, FloatDistribution

        return {
            knob.name: CategoricalDistribution(knob.levels)
            if knob.kind == "choice"
            else FloatDistribution(*self.ranges[knob.name])
            for knob in self.free
        }

    def _params(self, point: Point) -> dict[str, float]:
        return {
            knob.name: point[knob.name] if knob.kind == "choice" else knob.keep(point[knob.name]) for knob in self.free
        }


def _keep(knob: Knob, suggested: float | None) -> float:
    """The keep fraction that a suggestion stands for; without one the original's."""
    if knob.kind == "choice":
        return knob.keep(knob.original if suggested is None else int(suggested))
    return 1.0 if suggested is None else suggested


@dataclass(frozen=True)
class TpeOptions(Counts):
    """What may be set."""

    startup: int | None = None
    """Random Points before the sampler is asked; by default a tenth of the trials planned, at most 20."""
    candidates: int = 24
    """How many draws from the density of good Points are compared."""


class Tpe(_Sampled):
    """Tree-structured Parzen estimator, multivariate (Bergstra et al. 2011; Watanabe, arXiv 2304.11127).

    Trials that are running count as bad (constant liar), so that several at a time keep apart.
    """

    Options: ClassVar[type] = TpeOptions
    keeps_state_in_trials: ClassVar[bool] = False

    def __init__(self, task: Task, options: TpeOptions) -> None:
        super().__init__(task, options)
        self.startup = options.startup or min(max(self.trials // 10, 1), 20)
        self.candidates = options.candidates

    def new_sampler(self, seed: int) -> BaseSampler:
        """TPE without random trials of its own."""
        from optuna.samplers import TPESampler

        return TPESampler(
            seed=seed, n_startup_trials=0, n_ei_candidates=self.candidates, multivariate=True, constant_liar=True
        )


@dataclass(frozen=True)
class CmaEsOptions(Counts):
    """What may be set."""

    population: int | None = field(default=None, metadata={"least": 3})
    """Trials in a generation, at least 3; by default 4 + 3 ln(n_knobs), the algorithm's own."""


class CmaEs(_Sampled):
    """Covariance matrix adaptation (Hansen, arXiv 1604.00772), from the uniform Point; without limits, from half.

    Optuna starts in the middle of a variable's range with a standard deviation of a sixth of it. So every range is
    symmetric about the keep fraction of the uniform Point and as wide as it has to be; a suggestion outside of the
    legal levels is clipped.
    """

    Options: ClassVar[type] = CmaEsOptions
    takes_choices: ClassVar[bool] = False

    def __init__(self, task: Task, options: CmaEsOptions) -> None:
        super().__init__(task, options)
        self.population = options.population
        uniform = uniform_point(self.space, self.limits)
        for knob in self.free:
            middle, (low, high) = knob.keep(uniform[knob.name]), self.ranges[knob.name]
            half = max(middle - low, high - middle) + 1e-9  # both ends must stay within when rounded
            self.ranges[knob.name] = (middle - half, middle + half)

    def new_sampler(self, seed: int) -> BaseSampler:
        """CMA-ES that has its state from the study."""
        from optuna.samplers import CmaEsSampler

        return CmaEsSampler(seed=seed, n_startup_trials=0, popsize=self.population)


@dataclass(frozen=True)
class Nsga2Options(Counts):
    """What may be set."""

    population: int | None = field(default=None, metadata={"least": 2})
    """Trials in a generation, at least 2; by default 1.5 * sqrt(trials planned). As many random Points come first."""


class Nsga2(_Sampled):
    """NSGA-II (Deb et al. 2002): the front between the goal's utility and the load, the largest of cost / limit.

    A front is its point. So only what is over the budget is projected onto it; what is below is left there.
    """

    Options: ClassVar[type] = Nsga2Options
    directions: ClassVar[tuple[Literal["maximize", "minimize"], ...]] = ("maximize", "minimize")

    def __init__(self, task: Task, options: Nsga2Options) -> None:
        super().__init__(task, options)
        self.population = options.population or max(round(1.5 * math.sqrt(self.trials)), 2)
        self.startup = self.population
        self.load = Load(self.space, self.limits)

    def new_sampler(self, seed: int) -> BaseSampler:
        """NSGA-II that has its generations from the study."""
        from optuna.samplers import NSGAIISampler

        return NSGAIISampler(seed=seed, population_size=self.population)

    def objectives(self, trial: Trial) -> list[float]:
        """Utility, and load: of the whole network's first cost where there is no limit."""
        return [trial.utility(self.goal), self.load(trial.point)]

    def legal(self, keeps: np.ndarray) -> Point:
        """The nearest Point, if it is within the limits."""
        point = self.space.decode(keeps)
        inside = within(self.space, [point[knob.name] for knob in self.space.knobs], self.limits)
        return point if inside else super().legal(keeps)


@contextmanager
def _quiet() -> Iterator[None]:
    """Optuna says that it has made a study in memory, which is of no interest; its level is set back at once."""
    from optuna import logging

    before = logging.get_verbosity()
    logging.set_verbosity(logging.WARNING)
    try:
        yield
    finally:
        logging.set_verbosity(before)

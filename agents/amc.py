"""AMC: AutoML for Model Compression (He et al., ECCV 2018, arXiv 1802.03494).

An actor walks the knobs in order and names a keep fraction for each; a wall keeps it where the budget can still be
met exactly; the whole Point is evaluated once, and its reward is the reward of every step of the walk. Learning is
DDPG on the levels executed, which a told Point alone gives back, so a history restores the agent.

Chosen where the paper leaves room, or where the known implementations err:

- The wall is two-sided and on exact costs: no episode ends over the budget or far below it (`Space.bounds`); what
  the last steps leave over is filled up (`Space.fill`) before the Point is handed out.
- What is stored and learnt from is the keep fraction executed, after wall, rounding and fill. All steps are
  stored, and the last one is not bootstrapped from.
- The schedule spans the trials planned: a quarter of them is warm-up, and the noise falls to `FINAL_NOISE` at the
  last one. The paper's figures are fixed for 400 trials.
- Trials stopped in a race count as the done ones; a failed or infeasible one is counted, and teaches nothing.

Beyond the paper, since with it a hundred trials on 27 knobs end where random search does (the actor runs into corners
before the critic knows anything); `PAPER` turns all of it off:

- The walk is anchored. It starts from a Point: the uniform one on the budget, trial 0. Warm-up episodes are walks
  around it with the noise of the first action, the actor learns what to add to it, and the state tells knobs apart
  (`agents.ddpg`). Without an anchor they are random Points on the budget, those that random search would try with
  the same seed: the paper's U(0, 1) for every action ends far below the budget.
- The actor imitates the best tenth of the episodes, and rewards are standardised (`agents.ddpg`).
- `discount` is 0: Q is the reward of the episode. Copied to every step and discounted by 1, as in the paper, it counts
  as often as there are steps left, and has to find its way through as many slow updates.

`AmcWarm` starts from the exact allocation by error curves (`agents.allocation`) instead of the uniform Point.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import ClassVar

import numpy as np
from scipy.special import ndtr, ndtri

from agents.allocation import Allocator
from agents.base import REDRAWS, NumberedAgent
from agents.ddpg import Ddpg
from agents.errors import AgentError
from agents.random_search import random_point
from agents.replay_memory import Replay, Transitions
from agents.types import Task, Trial
from agents.uniform import uniform_point
from search_spaces import Point

FINAL_NOISE = 0.02
"""Standard deviation of the noise at the last trial planned, unless `noise_decay` is given."""

BEST_SHARE = 0.1
"""The part of the episodes that is imitated."""

DYNAMIC_FEATURES = ("reduced", "rest", "previous_keep")

PAPER = {
    "anchored": False,
    "imitation": 0.0,
    "standardise": False,
    "discount": 1.0,
    "noise": 0.5,
    "hidden": 300,
    "actor_lr": 1e-4,
}
"""The options of the paper and the code released for it."""


@dataclass(frozen=True)
class AmcOptions:
    """What may be set; see `PAPER` for the paper's."""

    warmup: int | None = None
    """Episodes before the actor acts; by default a quarter of the trials."""
    noise: float = 0.3
    """Standard deviation of the truncated-normal noise on the first action after warm-up."""
    noise_decay: float | None = None
    """Factor on the noise from one trial to the next; by default such that it ends at `FINAL_NOISE`."""
    anchored: bool = True
    """Start from a Point, and learn what to add to it."""
    imitation: float = 10.0
    """Weight of the imitation of the best episodes in the actor's loss, beside Q in standard deviations of the reward:
    at 10 and a slope of 2 per unit of keep, the actor goes 0.1 beyond what it imitates."""
    standardise: bool = True
    """Measure rewards in standard deviations from their mean, not from a moving average."""
    hidden: int = 64
    """Units in each of the two hidden layers of actor and critic."""
    actor_lr: float = 1e-3
    """Learning rate of the actor."""
    critic_lr: float = 1e-3
    """Learning rate of the critic."""
    tau: float = 0.01
    """How far the slow networks follow at each update, in [0, 1]."""
    discount: float = 0.0
    """0 makes Q the reward of the episode; the paper's 1 adds it up over the steps left."""
    batch_size: int = 64
    """Transitions in a gradient step."""
    updates_per_step: int = 1
    """Gradient steps for each transition told, once the warm-up is over."""
    replay_size: int | None = None
    """Transitions remembered; by default those of the last 100 episodes."""

    def __post_init__(self) -> None:
        at_least = {"warmup": 0, "hidden": 1, "batch_size": 1, "updates_per_step": 1, "replay_size": 1}
        upper = {"noise_decay": 1.0, "tau": 1.0, "discount": 1.0}
        for field in fields(self):
            name, value = field.name, getattr(self, field.name)
            if value is None and field.default is None:
                continue
            if isinstance(field.default, bool):
                if not isinstance(value, bool):
                    raise AgentError(f"option {name!r}: expected true or false, got {value!r}")
            elif name in at_least:
                if not isinstance(value, int) or isinstance(value, bool) or value < at_least[name]:
                    raise AgentError(f"option {name!r}: expected an integer >= {at_least[name]}, got {value!r}")
            elif isinstance(value, bool) or not isinstance(value, int | float):
                raise AgentError(f"option {name!r}: expected a number, got {value!r}")
            elif not 0 <= value <= upper.get(name, math.inf) or not math.isfinite(value):
                allowed = f"in [0, {upper[name]:g}]" if name in upper else ">= 0"
                raise AgentError(f"option {name!r}: expected a finite number {allowed}, got {value!r}")


class Amc(NumberedAgent):
    """DDPG over the knobs of a space, one whole Point an episode."""

    Options: ClassVar[type] = AmcOptions
    takes_choices: ClassVar[bool] = False

    def __init__(self, task: Task, options: AmcOptions) -> None:
        super().__init__(task, options)
        self.knobs = self.space.knobs
        self.static = np.asarray(self.space.features(), dtype=np.float64)  # [n_knobs, n_features]
        self.metric = self._tightest()
        self.full_cost = self._cost([], highest=True)
        self.start = self.starting_point(task) if options.anchored else None
        self.warmup = self.trials // 4 if options.warmup is None else options.warmup
        self.noise = options.noise
        self.decay = options.noise_decay if options.noise_decay is not None else self._default_decay()
        self.updates = options.updates_per_step * len(self.knobs)
        self.replay = Replay(options.replay_size or 100 * len(self.knobs))
        self.episodes: list[tuple[float, Transitions]] = []
        """Reward and steps of every episode learnt from."""
        self.ddpg = Ddpg(
            len(self.state([])),
            self.learning(0).spawn(1)[0],
            hidden=options.hidden,
            actor_lr=options.actor_lr,
            critic_lr=options.critic_lr,
            tau=options.tau,
            discount=options.discount,
            batch_size=options.batch_size,
            anchor=self.static.shape[1] + len(DYNAMIC_FEATURES) if options.anchored else None,
            imitation=options.imitation,
            standardise=options.standardise,
        )
        self._diagnostics: dict[str, float] = {}

    def starting_point(self, task: Task) -> Point:
        """Where an anchored walk starts: the uniform Point on the budget; without one, half of everything."""
        return uniform_point(self.space, self.limits)

    def propose(self, number: int, taken: set[Point]) -> Point | None:
        """The start or a random Point during warm-up, else a walk of the noisy actor."""
        rng = self.exploring(number)
        for redraw in range(1 + REDRAWS):
            point = self.draw(number, redraw, rng)
            if point not in taken:
                return point
        return None

    def draw(self, number: int, redraw: int, rng: np.random.Generator) -> Point:
        """The Point of trial `number` if `redraw` earlier ones were taken."""
        # A policy with little noise left repeats itself; every redraw strays a little further.
        sigma = max(self.sigma(number), redraw * FINAL_NOISE)
        if number >= self.warmup:
            return self.walk(sigma, rng, lambda prefix: self.ddpg.act(self.state(prefix)))
        if self.start is None:
            return random_point(self.space, self.limits, rng)
        if number == redraw == 0:
            return self.start
        return self.walk(sigma, rng, self.anchor)

    def learn(self, trial: Trial) -> None:
        """Store the trial's transitions and, once the warm-up is over, update the networks."""
        if not self.valued(trial):
            return
        reward = trial.utility(self.goal)
        steps = self.transitions(trial.point, reward)
        self.replay.add(steps)
        self.episodes.append((reward, steps))
        if self.told < self.warmup:
            return
        by_reward = sorted(self.episodes, key=lambda episode: -episode[0])
        best = Transitions.joined([steps for _, steps in by_reward[: max(1, int(BEST_SHARE * len(by_reward)))]])
        loss, q_mean = self.ddpg.learn(self.replay, self.updates, self.learning(trial.number), best)
        assert self.ddpg.baseline is not None
        self._diagnostics = {
            "noise": self.sigma(trial.number),
            "critic_loss": loss,
            "q_mean": q_mean,
            "baseline": self.ddpg.baseline,
        }

    def diagnostics(self) -> Mapping[str, float]:
        """Of the last update: noise, mean critic loss, mean Q of the batches, reward baseline; empty before it."""
        return self._diagnostics

    def sigma(self, number: int) -> float:
        """Standard deviation of the noise in trial `number`; it falls once the warm-up is over."""
        return self.noise * self.decay ** max(number - self.warmup, 0)

    def walk(self, sigma: float, rng: np.random.Generator, policy: Callable[[Sequence[int]], float]) -> Point:
        """One episode: for every knob the policy's keep fraction plus noise, within the wall; then the fill."""
        levels: list[int] = []
        actions: list[float] = []
        for knob in self.knobs:
            action = truncated_normal(policy(levels), sigma, rng)
            low, high = self.space.bounds(levels, self.limits)
            levels.append(min(max(knob.nearest(action), low), high))
            actions.append(action)
        return self.space.fill(levels, np.array(actions), self.limits)

    def anchor(self, prefix: Sequence[int]) -> float:
        """The keep fraction of the knob after `prefix` in the Point that the walk starts from."""
        assert self.start is not None
        knob = self.knobs[len(prefix)]
        return knob.keep(self.start[knob.name])

    def state(self, prefix: Sequence[int]) -> np.ndarray:
        """What the actor sees before it decides the knob after `prefix`: [n_features + 3], anchored + 1 + n_knobs.

        The knob's static features; in a space of channels the paper's (t, n, c, h, w, stride, k, MACs[t]). Then
        `reduced`, the part of the original cost the decided knobs have removed with all later ones whole; `rest`,
        the part that this and the later knobs could still remove; and the keep fraction decided last, 1 at first.
        An anchored walk adds the knob's anchor, and which knob it is, one-hot.
        """
        t = len(prefix)
        whole = self._cost(prefix, highest=True)
        smallest = self._cost(prefix, highest=False)
        previous = self.knobs[t - 1].keep(prefix[-1]) if t else 1.0
        dynamic = (1 - whole / self.full_cost, (whole - smallest) / self.full_cost, previous)
        anchored = () if self.start is None else (self.anchor(prefix), *np.eye(len(self.knobs))[t])
        return np.concatenate([self.static[t], dynamic, anchored])

    def transitions(self, point: Point, reward: float) -> Transitions:
        """The steps by which a walk reaches `point`, each with the reward of the whole episode (AMC, section 3.3)."""
        n = len(self.knobs)
        levels = [point[knob.name] for knob in self.knobs]
        states = np.array([self.state(levels[:t]) for t in range(n)], dtype=np.float32)
        keeps = [[knob.keep(level)] for knob, level in zip(self.knobs, levels, strict=True)]
        return Transitions(
            states=states,
            actions=np.array(keeps, dtype=np.float32),
            rewards=np.full((n, 1), reward, dtype=np.float32),
            next_states=np.concatenate([states[1:], np.zeros_like(states[:1])]),
            done=np.array([[0.0]] * (n - 1) + [[1.0]], dtype=np.float32),
        )

    def _cost(self, prefix: Sequence[int], *, highest: bool) -> float:
        """The cost with `prefix` decided and every later knob at its highest or lowest level."""
        later = [knob.levels[-1 if highest else 0] for knob in self.knobs[len(prefix) :]]
        return self.space.cost(self.space.point([*prefix, *later]), self.metric)

    def _tightest(self) -> str:
        """The cost the state speaks of: the one whose limit is the smallest part of the original's."""
        if not self.limits:
            return self.space.metrics[0]
        original = self.space.original_point
        return min(self.limits, key=lambda metric: self.limits[metric] / self.space.cost(original, metric))

    def _default_decay(self) -> float:
        """The factor that takes the noise from its start, after warm-up, to `FINAL_NOISE` at the last trial."""
        steps = self.trials - 1 - self.warmup
        return min((FINAL_NOISE / self.noise) ** (1 / steps), 1.0) if steps > 0 and self.noise > 0 else 1.0


@dataclass(frozen=True)
class AmcWarmOptions(AmcOptions):
    """The same, but for less noise: the start is worth staying near."""

    noise: float = 0.1


class AmcWarm(Amc):
    """AMC that starts from the exact allocation by error curves: the search begins where the searchless recipe ends."""

    Options: ClassVar[type] = AmcWarmOptions
    uses_sensitivity: ClassVar[bool] = True

    def __init__(self, task: Task, options: AmcOptions) -> None:
        if not options.anchored:
            raise AgentError("option 'anchored': expected true, the exact allocation is the anchor; or choose 'amc'")
        super().__init__(task, options)

    def starting_point(self, task: Task) -> Point:
        """The Point of least loss by the curves within the limits; `AgentError` if there are no curves."""
        if not self.limits:  # the least loss is the whole network's, from where there is one way only
            return super().starting_point(task)
        return Allocator(self.space, self.limits, task.sensitivity).plain()


def truncated_normal(mean: float, sigma: float, rng: np.random.Generator) -> float:
    """One draw from N(mean, sigma^2) cut to [0, 1], by the inverse of its distribution; `mean` is in [0, 1]."""
    if sigma == 0:
        return mean
    low, high = ndtr((0 - mean) / sigma), ndtr((1 - mean) / sigma)
    return float(np.clip(mean + sigma * ndtri(low + rng.random() * (high - low)), 0.0, 1.0))

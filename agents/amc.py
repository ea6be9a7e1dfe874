"""AMC: AutoML for Model Compression (He et al., ECCV 2018, arXiv 1802.03494).

An actor walks the knobs in order and names a keep fraction for each; a wall keeps it where the budget can still be
met exactly; the whole Point is evaluated once, and its reward is the reward of every step of the walk. Learning is
DDPG on the levels executed, which a told Point alone gives back, so a history restores the agent.

Chosen where the paper leaves room, or where the known implementations err:

- The wall is two-sided and on exact costs: no episode ends over the budget or far below it (`Space.bounds`); what
  the last steps leave over is filled up (`Space.fill`) before the Point is handed out.
- Warm-up episodes are random Points on the budget, the ones random search would try with the same seed, since
  U(0, 1) for every action ends far below it.
- What is stored and learnt from is the keep fraction executed, after wall, rounding and fill. All steps are
  stored, and the last one is not bootstrapped from.
- The schedule spans the trials planned: a quarter of them is warm-up, and the noise falls to `FINAL_NOISE` at the
  last one. The paper's figures are fixed for 400 trials.
- A trial without a value (failed, infeasible) is counted, and nothing is learnt from it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import ClassVar

import numpy as np
from scipy.special import ndtr, ndtri

from agents.base import REDRAWS, NumberedAgent
from agents.ddpg import Ddpg
from agents.errors import AgentError
from agents.random_search import random_point
from agents.replay import Replay, Transitions
from agents.types import Task, Trial
from search_spaces import Point

FINAL_NOISE = 0.02
"""Standard deviation of the noise at the last trial planned, unless `noise_decay` is given."""

DYNAMIC_FEATURES = ("reduced", "rest", "previous_keep")


@dataclass(frozen=True)
class AmcOptions:
    """What may be set; defaults are the paper's or the released code's, but for the schedule (see above)."""

    warmup: int | None = None
    """Random episodes before the actor acts; by default a quarter of the trials."""
    noise: float = 0.5
    """Standard deviation of the truncated-normal noise on the first action after warm-up."""
    noise_decay: float | None = None
    """Factor on the noise from one trial to the next; by default such that it ends at `FINAL_NOISE`."""
    hidden: int = 300
    actor_lr: float = 1e-4
    critic_lr: float = 1e-3
    tau: float = 0.01
    """How far the slow networks follow at each update, in [0, 1]."""
    discount: float = 1.0
    """The paper's 1 adds the reward up over the steps left; 0 makes Q the reward itself, which is learnt sooner where
    there are many knobs and few trials."""
    batch_size: int = 64
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
            if name in at_least:
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

    def __init__(self, task: Task, options: AmcOptions) -> None:
        super().__init__(task, options)
        self.knobs = self.space.knobs
        self.static = np.asarray(self.space.features(), dtype=np.float64)  # [n_knobs, n_features]
        self.metric = self._tightest()
        self.full_cost = self._cost([], highest=True)
        self.warmup = self.trials // 4 if options.warmup is None else options.warmup
        self.noise = options.noise
        self.decay = options.noise_decay if options.noise_decay is not None else self._default_decay()
        self.updates = options.updates_per_step * len(self.knobs)
        self.replay = Replay(options.replay_size or 100 * len(self.knobs))
        self.ddpg = Ddpg(
            self.static.shape[1] + len(DYNAMIC_FEATURES),
            self.learning(0).spawn(1)[0],
            hidden=options.hidden,
            actor_lr=options.actor_lr,
            critic_lr=options.critic_lr,
            tau=options.tau,
            discount=options.discount,
            batch_size=options.batch_size,
        )
        self._diagnostics: dict[str, float] = {}

    def propose(self, number: int, taken: set[Point]) -> Point | None:
        """A random Point during warm-up, else a walk of the noisy actor."""
        rng = self.exploring(number)
        for redraw in range(1 + REDRAWS):
            if number < self.warmup:
                point = random_point(self.space, self.limits, rng)
            else:
                # A policy with little noise left repeats itself; every redraw strays a little further.
                point = self.walk(max(self.sigma(number), redraw * FINAL_NOISE), rng)
            if point not in taken:
                return point
        return None

    def learn(self, trial: Trial) -> None:
        """Store the trial's transitions and, once the warm-up is over, update the networks."""
        if self.goal.metric not in trial.values:
            return
        self.replay.add(self.transitions(trial.point, trial.utility(self.goal)))
        if self.told < self.warmup:
            return
        loss, q_mean = self.ddpg.learn(self.replay, self.updates, self.learning(trial.number))
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
        """Standard deviation of the noise in trial `number`; 0 during warm-up, which has no actor."""
        return 0.0 if number < self.warmup else self.noise * self.decay ** (number - self.warmup)

    def walk(self, sigma: float, rng: np.random.Generator) -> Point:
        """One episode: for every knob the actor's keep fraction plus noise, within the wall; then the fill."""
        levels: list[int] = []
        actions: list[float] = []
        for knob in self.knobs:
            action = truncated_normal(self.ddpg.act(self.state(levels)), sigma, rng)
            low, high = self.space.bounds(levels, self.limits)
            levels.append(min(max(knob.nearest(action), low), high))
            actions.append(action)
        return self.space.fill(levels, np.array(actions), self.limits)

    def state(self, prefix: Sequence[int]) -> np.ndarray:
        """What the actor sees before it decides the knob after `prefix`: [n_features + 3].

        The knob's static features; for a `ChannelSpace` the paper's (t, n, c, h, w, stride, k, MACs[t]). Then
        `reduced`, the part of the original cost the decided knobs have removed with all later ones whole; `rest`,
        the part that this and the later knobs could still remove; and the keep fraction decided last, 1 at first.
        """
        t = len(prefix)
        whole = self._cost(prefix, highest=True)
        smallest = self._cost(prefix, highest=False)
        previous = self.knobs[t - 1].keep(prefix[-1]) if t else 1.0
        dynamic = (1 - whole / self.full_cost, (whole - smallest) / self.full_cost, previous)
        return np.concatenate([self.static[t], dynamic])

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
        original = self.space.point([knob.levels[-1] for knob in self.knobs])
        return min(self.limits, key=lambda metric: self.limits[metric] / self.space.cost(original, metric))

    def _default_decay(self) -> float:
        """The factor that takes the noise from its start, after warm-up, to `FINAL_NOISE` at the last trial."""
        steps = self.trials - 1 - self.warmup
        return min((FINAL_NOISE / self.noise) ** (1 / steps), 1.0) if steps > 0 and self.noise > 0 else 1.0


def truncated_normal(mean: float, sigma: float, rng: np.random.Generator) -> float:
    """One draw from N(mean, sigma^2) cut to [0, 1], by the inverse of its distribution; `mean` is in [0, 1]."""
    if sigma == 0:
        return mean
    low, high = ndtr((0 - mean) / sigma), ndtr((1 - mean) / sigma)
    return float(np.clip(mean + sigma * ndtri(low + rng.random() * (high - low)), 0.0, 1.0))

"""N2N learning: layers removed, then layers shrunk, by policy gradients (Ashok et al., ICLR 2018, arXiv 1709.06030).

Stage 1: a bidirectional LSTM reads the blocks of the original network and says of each with what probability it stays
(section 3.2). Stage 2: an LSTM goes through the widths of the best network of stage 1, and draws for each one of ten
keep fractions, given the one before (section 3.3). Both learn by REINFORCE, Adam on

    -1/m * sum over roll-outs k and steps t of log pi(a_t) * (R_k - b)

after every m = 5 roll-outs, b the exponential moving average of the rewards (section 3.4). The reward is the goal's
utility: for the paper's own, C (2 - C) A / A_teacher, that is the objective `compression_reward`.

Chosen where the paper leaves room:

- A space has one knob a block and one a group of coupled channels, so a policy reads one row for each: its features.
  Bits that are not blocks stay as the original has them.
- Both stages share the trials: half of them each, or all where there are only blocks or only widths. The paper has 500
  roll-outs in each, so in a hundred trials little is learnt.
- A budget. The paper's variant for constraints gives a network that breaks one the reward -1; here none is proposed:
  the widths of a network over the limits are scaled by one factor until they are kept, and if that is not enough the
  space projects it. What budget is left is used up. Without limits nothing is changed.
- What is learnt from is what was executed, which a told Point alone gives back: the nearest of the ten fractions where
  rounding or the budget has changed it. Widths of removed blocks, which change nothing, are passed over.
- Trials without a value teach nothing. What is running is drawn anew; what has been tried is not.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from agents.base import REDRAWS, Counts, NumberedAgent
from agents.errors import AgentError
from agents.moves import within
from agents.networks import one_thread, seeded
from agents.types import Task, Trial
from search_spaces import Point, Space

KEEPS = np.arange(1, 11) / 10
"""The keep fractions that the shrinkage policy chooses from."""


@dataclass(frozen=True)
class N2nOptions(Counts):
    """What may be set. The defaults are the paper's where no other is named."""

    removal_trials: int | None = None
    """Trials of the first stage, where there are blocks and widths; by default half of those planned."""
    rollouts: int = 5
    """Trials between two updates of a policy."""
    hidden: int = 30
    """Units of an LSTM in each direction."""
    layers: int = 2
    """Of an LSTM."""
    removal_lr: float = 0.003
    """Of Adam for the removal policy, as released."""
    shrinkage_lr: float = 0.01
    """Of Adam for the shrinkage policy; the code released has 0.1."""
    decay: float = 0.9
    """Of the moving average of the rewards; the paper does not name it."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, most in (("removal_lr", math.inf), ("shrinkage_lr", math.inf), ("decay", 1.0)):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < most:
                raise AgentError(f"option {name!r}: expected a number in [0, {most:g}), got {value!r}")


class N2n(NumberedAgent):
    """Two policies, one after the other."""

    Options: ClassVar[type] = N2nOptions
    takes_choices: ClassVar[bool] = False

    def __init__(self, task: Task, options: N2nOptions) -> None:
        super().__init__(task, options)
        knobs, features = self.space.knobs, torch.from_numpy(self.space.features()).float()
        self.original = [knob.nearest(1.0) for knob in knobs]
        self.blocks = [t for t, knob in enumerate(knobs) if knob.kind == "gate"]
        self.widths = [t for t, knob in enumerate(knobs) if not knob.is_bit and len(knob.levels) > 1]
        half = self.trials // 2 if options.removal_trials is None else options.removal_trials
        self.removal_trials = half if self.blocks and self.widths else self.trials if self.blocks else 0
        rng, shape = self.learning(0).spawn(1)[0], (features.shape[1], options.hidden, options.layers)
        self.removal = _Learner(Removal(*shape, rng), features[self.blocks], options.removal_lr, options)
        self.shrinkage = _Learner(Shrinkage(*shape, rng), features[self.widths], options.shrinkage_lr, options)
        self.best = -math.inf
        self.base = self.original
        """The levels of the best network of the first stage: [n_knobs]."""

    def propose(self, number: int, taken: set[Point]) -> Point | None:
        """A roll-out of the policy whose stage trial `number` belongs to."""
        rng = self.exploring(number)
        for _ in range(1 + REDRAWS):
            point = self.rollout(number, rng)
            if point not in taken:
                return point
        return None

    def rollout(self, number: int, rng: np.random.Generator) -> Point:
        """One network drawn from the policy of the stage, within the limits."""
        removing = number < self.removal_trials
        levels = list(self.original if removing else self.base)
        if removing:
            for t, action in zip(self.blocks, self.removal.sample(range(len(self.blocks)), rng), strict=True):
                levels[t] = action
        else:
            active = self._active(levels)
            for i, action in zip(active, self.shrinkage.sample(active, rng), strict=True):
                levels[self.widths[i]] = self.space.knobs[self.widths[i]].nearest(KEEPS[action])
        return squeezed(self.space, levels, self.widths, self.limits)

    def learn(self, trial: Trial) -> None:
        """Keep the best network of the first stage; update a policy once it has a batch of roll-outs."""
        if not self.valued(trial):
            return
        reward, levels = trial.utility(self.goal), [trial.point[knob.name] for knob in self.space.knobs]
        if trial.number < self.removal_trials:
            self.removal.add(list(range(len(self.blocks))), [levels[t] for t in self.blocks], reward)
            if reward > self.best:
                # The shrinkage policy names keep fractions of the original's widths.
                self.best, self.base = reward, levels
        elif self.widths:
            active = self._active(levels)
            keeps = [self.space.knobs[t].keep(levels[t]) for t in (self.widths[i] for i in active)]
            self.shrinkage.add(active, [int(np.abs(KEEPS - keep).argmin()) for keep in keeps], reward)

    def diagnostics(self) -> Mapping[str, float]:
        """The moving averages of the rewards, once there are any."""
        learners = {"removal_baseline": self.removal, "shrinkage_baseline": self.shrinkage}
        return {name: learner.baseline for name, learner in learners.items() if learner.baseline is not None}

    def _active(self, levels: Sequence[int]) -> list[int]:
        """Which of `widths` make a difference, by their positions: not those of a removed block."""
        out = []
        for i, t in enumerate(self.widths):
            low, high = list(levels), list(levels)
            low[t], high[t] = self.space.knobs[t].levels[0], self.space.knobs[t].levels[-1]
            if self.space.point(low) != self.space.point(high):
                out.append(i)
        return out


class Removal(nn.Module):
    """The logits of taking each block out and of keeping it, from all blocks at once."""

    def __init__(self, columns: int, hidden: int, layers: int, rng: np.random.Generator) -> None:
        super().__init__()
        bound = 1 / math.sqrt(hidden)
        self.lstm = seeded(nn.LSTM, columns, hidden, layers, bound=bound, rng=rng, bidirectional=True)
        self.head = seeded(nn.Linear, 2 * hidden, 2, bound=1 / math.sqrt(2 * hidden), rng=rng)

    def log_probabilities(self, rows: Tensor, actions: Sequence[int]) -> Tensor:
        """Of every action at each block: `rows` [n_blocks, n_columns], result [n_blocks, 2]."""
        logits: Tensor = self.head(self.lstm(rows)[0])
        return logits.log_softmax(dim=1)

    def sample(self, rows: Tensor, rng: np.random.Generator) -> list[int]:
        """An action for each block: 1 if it stays."""
        stays = self.log_probabilities(rows, ())[:, 1].exp().numpy()
        return [int(u < p) for u, p in zip(rng.random(len(stays)), stays, strict=True)]


class Shrinkage(nn.Module):
    """The logits of each of `KEEPS` for width after width, given the fraction drawn before."""

    def __init__(self, columns: int, hidden: int, layers: int, rng: np.random.Generator) -> None:
        super().__init__()
        bound = 1 / math.sqrt(hidden)
        self.lstm = seeded(nn.LSTM, columns + 1, hidden, layers, bound=bound, rng=rng)
        self.head = seeded(nn.Linear, hidden, len(KEEPS), bound=bound, rng=rng)

    def log_probabilities(self, rows: Tensor, actions: Sequence[int]) -> Tensor:
        """Of every action at each width, had `actions` been taken: `rows` [n, n_columns], result [n, n_actions]."""
        before = torch.tensor([1.0, *(KEEPS[action] for action in actions[:-1])], dtype=torch.float32)
        logits: Tensor = self.head(self.lstm(torch.cat([rows, before[:, None]], dim=1))[0])
        return logits.log_softmax(dim=1)

    def sample(self, rows: Tensor, rng: np.random.Generator) -> list[int]:
        """An action for each width."""
        actions: list[int] = []
        before, memory = 1.0, None
        for row in rows:
            out, memory = self.lstm(torch.cat([row, torch.tensor([before])])[None], memory)
            chances = self.head(out)[0].softmax(dim=0).double().numpy()
            actions.append(int(rng.choice(len(KEEPS), p=chances / chances.sum())))
            before = float(KEEPS[actions[-1]])
        return actions


class _Learner:
    """A policy, its roll-outs since the last update, and the moving average of its rewards."""

    def __init__(self, policy: Removal | Shrinkage, rows: Tensor, lr: float, options: N2nOptions) -> None:
        self.policy, self.rows = policy, rows  # [n_steps, n_columns]
        self.step = torch.optim.Adam(policy.parameters(), lr, fused=True)
        self.size, self.decay = options.rollouts, options.decay
        self.baseline: float | None = None
        self._batch: list[tuple[list[int], list[int], float]] = []

    def sample(self, steps: Sequence[int], rng: np.random.Generator) -> list[int]:
        """An action for each of `steps`, by their positions in `rows`."""
        with one_thread(), torch.no_grad():
            return self.policy.sample(self.rows[list(steps)], rng) if len(steps) else []

    def add(self, steps: list[int], actions: list[int], reward: float) -> None:
        """Remember one roll-out; every `size` of them, learn and forget."""
        self._batch.append((steps, actions, reward))
        if len(self._batch) < self.size:
            return
        rewards = [reward for _, _, reward in self._batch]
        if self.baseline is None:
            self.baseline = float(np.mean(rewards))
        with one_thread():
            loss = -torch.stack([self._weighed(*rollout) for rollout in self._batch if rollout[0]] or [torch.zeros(())])
            if loss.requires_grad:
                self.step.zero_grad()
                loss.sum().div(len(self._batch)).backward()
                self.step.step()
        self.baseline = self.decay * self.baseline + (1 - self.decay) * float(np.mean(rewards))
        self._batch = []

    def _weighed(self, steps: list[int], actions: list[int], reward: float) -> Tensor:
        """The log probability of a roll-out times its advantage: a scalar."""
        assert self.baseline is not None
        of_each = self.policy.log_probabilities(self.rows[steps], actions)
        return of_each[range(len(actions)), actions].sum() * (reward - self.baseline)


def squeezed(space: Space, levels: Sequence[int], widths: Sequence[int], limits: Mapping[str, float]) -> Point:
    """The Point at `levels`, its `widths` scaled by one factor until the limits are kept, then filled up to them.

    Where the smallest widths are still too much, the space projects it.
    """
    keeps = np.array([knob.keep(level) for knob, level in zip(space.knobs, levels, strict=True)])

    def scaled(factor: float) -> list[int]:
        out = list(levels)
        for t in widths:
            low = [level for level in space.knobs[t].levels if space.knobs[t].keep(level) <= factor * keeps[t] + 1e-9]
            out[t] = low[-1] if low else space.knobs[t].levels[0]
        return out

    if not limits:
        return space.point(levels)
    if not within(space, scaled(0.0), limits):
        return space.project(keeps, limits)
    low, high = 0.0, 1.0
    for _ in range(20):
        middle = (low + high) / 2
        low, high = (middle, high) if within(space, scaled(middle), limits) else (low, middle)
    return space.fill(scaled(1.0 if within(space, scaled(1.0), limits) else low), keeps, limits)

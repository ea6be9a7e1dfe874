"""DDPG (Lillicrap et al. 2016, arXiv 1509.02971) for one action in (0, 1], as AMC uses it.

Networks and the order of updates are those of the code the AMC authors released. Three things may be added, since a
hundred episodes are too few for a critic of 27 steps to lead an actor that starts anywhere:

- an *anchor*: a column of the state holds a keep fraction, and the actor starts there and learns what to add;
- *imitation* of the best episodes, by a term (actor(s) - a)^2 beside -Q (Oh et al. 2018, "Self-Imitation Learning";
  the form is that of TD3+BC, Fujimoto & Gu 2021, equation 3): far from what was tried, Q is a guess;
- rewards *standardised* over the replay memory, since those of a search differ by a hundredth of what they are.
"""

from __future__ import annotations

import copy
import math

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from agents.networks import one_thread, seeded
from agents.replay_memory import Replay, Transitions

BASELINE_ALPHA = 0.5
"""Weight of the newest batch in the moving average of rewards, as released."""


ANCHOR_SCALE = 0.01
"""What the weights of an anchored actor's last layer are multiplied by, so that it starts at its anchor."""

ANCHOR_EDGE = 0.02
"""Anchors nearer to 0 or 1 count as this far from them: a sigmoid gets there never."""


class Actor(nn.Module):
    """State -> keep fraction: two hidden ReLU layers, a sigmoid; with an anchor, what is added to its logit."""

    def __init__(self, features: int, hidden: int, rng: np.random.Generator, anchor: int | None) -> None:
        super().__init__()
        self.anchor = anchor
        self.first = _linear(features, hidden, rng)
        self.second = _linear(hidden, hidden, rng)
        self.last = _linear(hidden, 1, rng, 1.0 if anchor is None else ANCHOR_SCALE)

    def forward(self, states: Tensor) -> Tensor:
        """[n, n_features] -> [n, 1]."""
        out = self.last(F.relu(self.second(F.relu(self.first(states)))))
        if self.anchor is not None:
            out = out + torch.logit(states[:, self.anchor, None], eps=ANCHOR_EDGE)
        return torch.sigmoid(out)


class Critic(nn.Module):
    """State and action -> Q: one linear layer for each, summed, ReLU, one hidden ReLU layer."""

    def __init__(self, features: int, hidden: int, rng: np.random.Generator) -> None:
        super().__init__()
        self.of_state = _linear(features, hidden, rng)
        self.of_action = _linear(1, hidden, rng)
        self.second = _linear(hidden, hidden, rng)
        self.last = _linear(hidden, 1, rng)

    def forward(self, states: Tensor, actions: Tensor) -> Tensor:
        """[n, n_features], [n, 1] -> [n, 1]."""
        values: Tensor = self.last(F.relu(self.second(F.relu(self.of_state(states) + self.of_action(actions)))))
        return values


class Ddpg:
    """Actor, critic, their slow copies and the reward baseline; deterministic given the generators handed in.

    Args:
        anchor: the column of the state that holds the keep fraction at which the actor starts; None for none.
        imitation: weight of the term that pulls the actor to the best episodes; 0 for the paper's actor.
        standardise: measure rewards from their mean over the replay memory, in standard deviations; otherwise from a
            moving average of batches, as released.
    """

    def __init__(
        self,
        features: int,
        rng: np.random.Generator,
        *,
        hidden: int,
        actor_lr: float,
        critic_lr: float,
        tau: float,
        discount: float,
        batch_size: int,
        anchor: int | None = None,
        imitation: float = 0.0,
        standardise: bool = False,
    ) -> None:
        self.tau, self.discount, self.batch_size = tau, discount, batch_size
        self.imitation, self.standardise = imitation, standardise
        self.actor = Actor(features, hidden, rng, anchor)
        self.critic = Critic(features, hidden, rng)
        self.slow_actor = copy.deepcopy(self.actor).requires_grad_(False)
        self.slow_critic = copy.deepcopy(self.critic).requires_grad_(False)
        self.actor_step = torch.optim.Adam(self.actor.parameters(), actor_lr, fused=True)
        self.critic_step = torch.optim.Adam(self.critic.parameters(), critic_lr, fused=True)
        self.baseline: float | None = None
        self.scale = 1.0
        """What rewards are divided by."""

    def act(self, state: np.ndarray) -> float:
        """The policy's keep fraction for one state, [n_features], without noise."""
        with one_thread(), torch.no_grad():
            return float(self.actor(torch.from_numpy(state.astype(np.float32))[None]))

    def learn(
        self, replay: Replay, updates: int, rng: np.random.Generator, best: Transitions | None = None
    ) -> tuple[float, float]:
        """`updates` gradient steps of both networks on batches from `replay`: mean critic loss, mean Q.

        `best`: the steps of the best episodes, which the actor imitates.
        """
        if self.standardise:
            self.baseline, spread = replay.reward_moments()
            self.scale = spread or 1.0
        losses, values = [], []
        with one_thread():
            for _ in range(updates):
                loss, value = self._update(replay, best, rng)
                losses.append(loss)
                values.append(value)
        return float(np.mean(losses)), float(np.mean(values))

    def targets(self, rewards: Tensor, next_states: Tensor, done: Tensor) -> Tensor:
        """What Q should be: r - b + discount * Q'(s', mu'(s')) (AMC, eq. 2), nothing to come after the last step."""
        assert self.baseline is not None
        with torch.no_grad():
            ahead: Tensor = self.slow_critic(next_states, self.slow_actor(next_states))
            return (rewards - self.baseline) / self.scale + self.discount * (1 - done) * ahead

    def _update(self, replay: Replay, best: Transitions | None, rng: np.random.Generator) -> tuple[float, float]:
        batch = replay.sample(self.batch_size, rng)
        states, actions, rewards, next_states, done = (torch.from_numpy(column) for column in vars(batch).values())
        if not self.standardise:
            mean_reward = float(batch.rewards.mean())
            if self.baseline is None:
                self.baseline = mean_reward
            self.baseline += BASELINE_ALPHA * (mean_reward - self.baseline)

        q = self.critic(states, actions)
        critic_loss = F.mse_loss(q, self.targets(rewards, next_states, done))
        self.critic_step.zero_grad()
        critic_loss.backward()
        self.critic_step.step()

        actor_loss = -self.critic(states, self.actor(states)).mean()
        if best is not None and self.imitation > 0:
            rows = rng.integers(0, len(best), self.batch_size)
            named = self.actor(torch.from_numpy(best.states[rows]))
            actor_loss = actor_loss + self.imitation * F.mse_loss(named, torch.from_numpy(best.actions[rows]))
        self.actor_step.zero_grad()
        # Gradients of the actor only: the critic's, which `backward` would fill in too, are of no use here.
        parameters = list(self.actor.parameters())
        for parameter, gradient in zip(parameters, torch.autograd.grad(actor_loss, parameters), strict=True):
            parameter.grad = gradient
        self.actor_step.step()

        for slow, fast in ((self.slow_actor, self.actor), (self.slow_critic, self.critic)):
            for target, source in zip(slow.parameters(), fast.parameters(), strict=True):
                target.lerp_(source.detach(), self.tau)
        return critic_loss.item(), q.mean().item()


def _linear(inputs: int, outputs: int, rng: np.random.Generator, scale: float = 1.0) -> nn.Linear:
    """A linear layer with PyTorch's usual initial weights, U(+-1/sqrt(inputs)) * scale, drawn from `rng`."""
    return seeded(nn.Linear, inputs, outputs, bound=scale / math.sqrt(inputs), rng=rng)

"""DDPG (Lillicrap et al. 2016, arXiv 1509.02971) for one action in (0, 1], as AMC uses it.

Networks, learning rates and the order of updates are those of the code the AMC authors released.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import skip_init

from agents.replay import Replay

BASELINE_ALPHA = 0.5
"""Weight of the newest batch in the moving average of rewards, as released."""


class Actor(nn.Module):
    """State -> keep fraction: two hidden ReLU layers, a sigmoid."""

    def __init__(self, features: int, hidden: int, rng: np.random.Generator) -> None:
        super().__init__()
        self.first = _linear(features, hidden, rng)
        self.second = _linear(hidden, hidden, rng)
        self.last = _linear(hidden, 1, rng)

    def forward(self, states: Tensor) -> Tensor:
        """[n, n_features] -> [n, 1]."""
        return torch.sigmoid(self.last(F.relu(self.second(F.relu(self.first(states))))))


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
        return self.last(F.relu(self.second(F.relu(self.of_state(states) + self.of_action(actions)))))


class Ddpg:
    """Actor, critic, their slow copies and the reward baseline; deterministic given the generators handed in."""

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
    ) -> None:
        self.tau, self.discount, self.batch_size = tau, discount, batch_size
        self.actor = Actor(features, hidden, rng)
        self.critic = Critic(features, hidden, rng)
        self.slow_actor = copy.deepcopy(self.actor).requires_grad_(False)
        self.slow_critic = copy.deepcopy(self.critic).requires_grad_(False)
        self.actor_step = torch.optim.Adam(self.actor.parameters(), actor_lr, fused=True)
        self.critic_step = torch.optim.Adam(self.critic.parameters(), critic_lr, fused=True)
        self.baseline: float | None = None

    def act(self, state: np.ndarray) -> float:
        """The policy's keep fraction for one state, [n_features], without noise."""
        with one_thread(), torch.no_grad():
            return float(self.actor(torch.from_numpy(state.astype(np.float32))[None]))

    def learn(self, replay: Replay, updates: int, rng: np.random.Generator) -> tuple[float, float]:
        """`updates` gradient steps of both networks on batches from `replay`: mean critic loss, mean Q."""
        losses, values = [], []
        with one_thread():
            for _ in range(updates):
                loss, value = self._update(replay, rng)
                losses.append(loss)
                values.append(value)
        return float(np.mean(losses)), float(np.mean(values))

    def targets(self, rewards: Tensor, next_states: Tensor, done: Tensor) -> Tensor:
        """What Q should be: r - b + discount * Q'(s', mu'(s')) (AMC, eq. 2), nothing to come after the last step."""
        assert self.baseline is not None
        with torch.no_grad():
            ahead = self.slow_critic(next_states, self.slow_actor(next_states))
            return rewards - self.baseline + self.discount * (1 - done) * ahead

    def _update(self, replay: Replay, rng: np.random.Generator) -> tuple[float, float]:
        batch = replay.sample(self.batch_size, rng)
        states, actions, rewards, next_states, done = (torch.from_numpy(column) for column in vars(batch).values())
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


def _linear(inputs: int, outputs: int, rng: np.random.Generator) -> nn.Linear:
    """A linear layer with PyTorch's usual initial weights, U(+-1/sqrt(inputs)), drawn from `rng`, not globally."""
    layer = skip_init(nn.Linear, inputs, outputs)
    bound = 1 / math.sqrt(inputs)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.copy_(torch.from_numpy(rng.uniform(-bound, bound, tuple(parameter.shape))))
    return layer


@contextmanager
def one_thread() -> Iterator[None]:
    """Sums are split among threads, so their rounding depends on how many there are: here always one."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)

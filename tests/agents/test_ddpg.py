"""The learner under AMC: its memory, its targets, its independence of the number of threads."""

import numpy as np
import pytest
import torch
from scipy.stats import chisquare

from agents.ddpg import Ddpg
from agents.replay_memory import Replay, Transitions

OPTIONS = {
    "hidden": 16,
    "actor_lr": 1e-3,
    "critic_lr": 1e-2,
    "tau": 0.05,
    "discount": 1.0,
    "batch_size": 32,
}


def episode(length: int, reward: float, features: int = 2, tag: float = 0.0) -> Transitions:
    states = np.full((length, features), tag, dtype=np.float32)
    states[:, 0] = np.arange(length)
    column = np.ones((length, 1), dtype=np.float32)
    ends = 0 * column
    ends[-1] = 1
    return Transitions(states, 0.5 * column, reward * column, np.roll(states, -1, axis=0), ends)


def ddpg(**changes) -> Ddpg:
    return Ddpg(2, np.random.default_rng(0), **OPTIONS | changes)


def test_replay_draws_every_transition_equally_often():
    replay = Replay(100)
    for tag in range(5):
        replay.add(episode(4, 1.0, tag=tag))
    batch = replay.sample(20_000, np.random.default_rng(0))
    index = (batch.states[:, 1] * 4 + batch.states[:, 0]).astype(int)
    counts = np.bincount(index, minlength=20)
    assert len(counts) == 20
    assert chisquare(counts).pvalue > 0.01  # the first step of an episode, and the last, as often as any


def test_replay_forgets_the_oldest():
    replay = Replay(6)
    for tag in range(3):
        replay.add(episode(4, 1.0, tag=tag))
    assert len(replay) == 6
    drawn = replay.sample(500, np.random.default_rng(0)).states
    assert {tuple(row) for row in drawn.tolist()} == {(2, 1), (3, 1), (0, 2), (1, 2), (2, 2), (3, 2)}


def test_rows_stay_together():
    replay = Replay(100)
    replay.add(episode(3, 1.0, tag=1))
    replay.add(episode(3, 2.0, tag=2))
    batch = replay.sample(200, np.random.default_rng(0))
    assert (batch.rewards[:, 0] == batch.states[:, 1]).all()
    assert ((batch.states[:, 0] == 2) == (batch.done[:, 0] == 1)).all()


def test_an_empty_replay_says_so():
    with pytest.raises(ValueError, match="memory is empty"):
        Replay(3).sample(1, np.random.default_rng(0))


def test_targets_bootstrap_from_every_step_but_the_last():
    learner = ddpg(discount=0.9)
    learner.baseline = 0.25
    states = torch.tensor([[0.1, 0.2], [0.3, 0.4]])
    done = torch.tensor([[0.0], [1.0]])
    targets = learner.targets(torch.ones(2, 1), states, done)
    ahead = learner.slow_critic(states, learner.slow_actor(states))
    assert targets[0].item() == pytest.approx(0.75 + 0.9 * ahead[0].item())
    assert targets[1].item() == 0.75
    assert torch.equal(learner.targets(torch.ones(2, 1), 100 * states, done)[1], targets[1])


def test_the_critic_learns_the_reward_to_go():
    # A reward of 0.8 copied to each of 3 steps and discount 1: 3, 2, 1 times reward minus baseline (AMC, eq. 2).
    learner, replay = ddpg(critic_lr=3e-3), Replay(10)
    replay.add(episode(3, 0.8))
    replay.add(episode(3, 0.2, tag=1))
    learner.learn(replay, 800, np.random.default_rng(0))
    steps = torch.tensor([[0.0, 0.0], [1.0, 0.0], [2.0, 0.0]])
    with torch.no_grad():
        q = learner.critic(steps, torch.full((3, 1), 0.5))[:, 0]
    assert q.numpy() == pytest.approx(np.array([3, 2, 1]) * (0.8 - 0.5), abs=0.15)


def test_the_actor_finds_the_best_action():
    learner, replay, rng = ddpg(hidden=32), Replay(1000), np.random.default_rng(0)
    state = np.zeros((1, 2), dtype=np.float32)
    for action in rng.uniform(0, 1, 300):
        one = np.float32([[1]])
        reward = np.float32([[1 - 4 * (action - 0.7) ** 2]])
        replay.add(Transitions(state, np.float32([[action]]), reward, state, one))
    learner.learn(replay, 800, rng)
    assert learner.act(state[0]) == pytest.approx(0.7, abs=0.07)


def test_an_anchored_actor_starts_at_the_column_of_its_state():
    learner = Ddpg(2, np.random.default_rng(0), **OPTIONS, anchor=1)
    for keep in (0.1, 0.5, 0.93):
        assert learner.act(np.array([3.0, keep])) == pytest.approx(keep, abs=0.02)
    assert 0.9 < learner.act(np.array([3.0, 1.0])) < 1  # and can go down from there


def test_the_actor_imitates_the_best_and_goes_beyond_where_the_critic_says_so():
    """The best episodes have 0.4, rewards rise on to 0.7: alone it finds 0.7, imitating strongly it stays at 0.4."""
    replay, rng = Replay(1000), np.random.default_rng(0)
    state, one = np.zeros((1, 2), dtype=np.float32), np.float32([[1]])
    for action in rng.uniform(0, 1, 300):
        reward = np.float32([[1 - 4 * (action - 0.7) ** 2]])
        replay.add(Transitions(state, np.float32([[action]]), reward, state, one))
    best = Transitions(state, np.float32([[0.4]]), one, state, one)
    found = []
    for imitation in (0.0, 10.0, 1000.0):
        learner = ddpg(hidden=32, imitation=imitation, standardise=True)
        learner.learn(replay, 800, np.random.default_rng(1), best)
        found.append(learner.act(state[0]))
    assert found[0] == pytest.approx(0.7, abs=0.07)
    assert found[2] == pytest.approx(0.4, abs=0.02)
    assert found[2] + 0.02 < found[1] < found[0] - 0.02


def test_standardised_rewards_have_one_scale():
    """Rewards a hundredth apart, far from 0, and the same spread out: the same targets."""
    targets = []
    for scale, offset in ((0.001, 0.9), (1.0, 0.0)):
        learner, replay = ddpg(standardise=True), Replay(100)
        for step in range(10):
            replay.add(episode(3, offset + scale * step, tag=step))
        learner.learn(replay, 1, np.random.default_rng(0))
        rewards = torch.tensor([[offset], [offset + 9 * scale]])
        targets.append(learner.targets(rewards, torch.zeros(2, 2), torch.ones(2, 1)))
    assert torch.allclose(*targets, atol=1e-3)
    assert targets[0].abs().max() == pytest.approx(4.5 / np.std(range(10)), rel=1e-3)


def test_one_update_changes_both_networks_and_their_slow_copies_a_little():
    learner, replay = ddpg(), Replay(10)
    replay.add(episode(3, 0.8))
    before = [parameter.clone() for parameter in (*learner.slow_actor.parameters(), *learner.slow_critic.parameters())]
    learner.learn(replay, 1, np.random.default_rng(0))
    fast = (*learner.actor.parameters(), *learner.critic.parameters())
    slow = (*learner.slow_actor.parameters(), *learner.slow_critic.parameters())
    for old, source, target in zip(before, fast, slow, strict=True):
        assert torch.allclose(target, old + OPTIONS["tau"] * (source - old), atol=1e-7)


def test_threads_do_not_change_a_bit():
    before = torch.get_num_threads()
    learnt = []
    try:
        for threads in (1, 2, 4):
            torch.set_num_threads(threads)
            learner, replay = ddpg(hidden=2048), Replay(100)  # where MKL does split sums among threads
            replay.add(episode(27, 0.8))
            learner.learn(replay, 2, np.random.default_rng(0))
            learnt.append([*learner.critic.parameters(), *learner.actor.parameters()])
            assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)
    for other in learnt[1:]:
        assert all(map(torch.equal, learnt[0], other))

"""The budget's wall: whatever an actor names, the walk ends within every limit, and no knob could still rise."""

from functools import cache

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import agents
from agents import Goal
from automl.testing.agent_kit import assert_budget_used_up
from automl.testing.toy_space import ToySpace
from search_spaces import SpaceError, channel_space
from tests.kits.random_networks import Branches, Depthwise, Grouped, RandomNetwork, Residual, Shuffle, Widening

GOAL = Goal("accuracy", "maximize")
NETWORKS = range(60)
ROUND_TO = (1, 2, 8)
LIMITS = (("macs",), ("params",), ("macs", "params"), ("size_bytes", "macs"))

actions = st.lists(st.floats(0.0, 1.0) | st.sampled_from([0.0, 1.0]), min_size=1, max_size=24)
shares = st.tuples(st.floats(0.0, 1.0), st.floats(0.0, 1.0))


def limits_between(space, metrics, shares):
    """Limits that leave a share of what lies between the smallest and the whole network; 0 leaves the smallest only."""
    limits = {}
    for metric, share in zip(metrics, shares, strict=False):
        low, full = (space.cost_of_levels(levels, metric) for levels in (space.lowest, space.highest))
        limits[metric] = low + share * (full - low)
    return limits


def walked(space, limits, actions):
    """Where a walk that wants to take `actions`, over and over, ends."""
    agent = agents.create("amc", space=space, goal=GOAL, limits=limits, seed=0, trials=8, hidden=2)
    return agent.walk(0.0, np.random.default_rng(0), lambda prefix: actions[len(prefix) % len(actions)])


@cache
def network_space(seed, round_to):
    """The widths of a random network with joints of every kind; None if all of them are tied."""
    torch.set_num_threads(1)
    try:
        return channel_space(RandomNetwork(seed), (torch.zeros(1, 3, 8, 8),), min_keep=0.1, round_to=round_to)
    except SpaceError:
        return None


@settings(max_examples=200, deadline=None, derandomize=True)
@given(
    seed=st.sampled_from(NETWORKS),
    round_to=st.sampled_from(ROUND_TO),
    metrics=st.sampled_from(LIMITS),
    shares=shares,
    actions=actions,
)
def test_on_networks_with_every_joint(seed, round_to, metrics, shares, actions):
    space = network_space(seed, round_to)
    if space is not None:
        limits = limits_between(space, metrics, shares)
        assert_budget_used_up(space, walked(space, limits, actions), limits)


def test_those_networks_have_every_joint():
    joints = {type(module) for seed in NETWORKS for module in RandomNetwork(seed).body}
    assert {Residual, Depthwise, Branches, Widening, Grouped, Shuffle} <= joints
    spaces = [network_space(seed, 1) for seed in NETWORKS[:10]]
    assert sum(space is not None and len(space.knobs) >= 2 for space in spaces) >= 5


@st.composite
def chains(draw):
    n = draw(st.integers(1, 8))
    widths = draw(st.lists(st.sampled_from([8, 16, 24, 64]), min_size=n, max_size=n))
    strides = draw(st.lists(st.sampled_from([1, 1, 2]), min_size=n, max_size=n))
    step = draw(st.sampled_from([1, 1, 2, 8]))
    return ToySpace(tuple(widths), tuple(strides), image=32, min_keep=draw(st.sampled_from([0.1, 0.3])), step=step)


@settings(max_examples=150, deadline=None, derandomize=True)
@given(
    space=chains(),
    metrics=st.sampled_from([("macs",), ("params",), ("macs", "params")]),
    shares=shares,
    actions=actions,
)
def test_on_chains_of_any_width(space, metrics, shares, actions):
    limits = limits_between(space, metrics, shares)
    assert_budget_used_up(space, walked(space, limits, actions), limits)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(space=chains(), actions=actions)
def test_without_limits_there_is_no_wall(space, actions):
    point = walked(space, {}, actions)
    assert list(point.values()) == [
        knob.nearest(actions[t % len(actions)]) for t, knob in enumerate(space.knobs)
    ]  # what was named is what is done

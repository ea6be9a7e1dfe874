"""Joint spaces of random networks: every operator, every pair of them, and more of them together."""

import itertools

import numpy as np
import torch

from search_spaces import OPERATORS, NetworkSpace, SpaceError
from tests.kits.random_networks import DEEP, RandomNetwork

SETS = [
    *itertools.combinations(OPERATORS, 1),
    *itertools.combinations(OPERATORS, 2),
    ("depth", "channels", "rank", "code"),
    tuple(OPERATORS),
]
FORMATS = ("binary", "ternary", "int2", "int3", "int4", "int8")
OPTIONS = {
    "channels": {"min_keep": 0.1},
    "depth": {"skips": True},
    "rank": {},
    "sparsity": {},
    "code": {"formats": FORMATS},
}
CODED = ("coded1", "coded1.5", "coded2", "coded3")
"""Of `code`, beside the formats of its own."""
SHARED = ("shared1", "shared3", "shared4", "shared8")
"""The same, of codebooks."""
SCHEMES = ("tucker", "cp")
"""Of `rank`, beside the one of its own."""
PATTERNS = ("2:4", "3:8", "1x4", "2x4")
"""Of `sparsity`, beside the one of its own."""


def make_network(names, seed):
    return RandomNetwork(seed, DEEP) if "depth" in names else RandomNetwork(seed)


def make_space(names, seed, **more):
    """The space of these operators, with `more` options of some, None where nothing can change, and an input."""
    model = make_network(names, seed)
    x = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(seed))
    try:
        return NetworkSpace(model, (x,), {name: OPTIONS[name] | more.get(name, {}) for name in names}), x
    except SpaceError as error:
        assert "nothing to search" in str(error), error
        return None, x


def random_levels(space, rng):
    levels = np.array([int(rng.choice(knob.levels)) for knob in space.knobs])
    gates = np.array([knob.kind == "gate" for knob in space.knobs])
    return np.where(gates & (rng.random(len(levels)) < 0.6), 1, levels)

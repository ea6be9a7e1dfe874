"""Scikit-learn's digits, and a small convnet that has not been trained on them."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn

from automl import zoo
from automl.data import Splits, load


@pytest.fixture(scope="session")
def digits() -> Splits:
    return load("digits", validation_size=400, calibration_size=256)


@pytest.fixture
def small_cnn() -> Callable[..., nn.Module]:
    """Makes the network, the same for a seed."""

    def make(width: int = 8, seed: int = 0) -> nn.Module:
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            return zoo.create("small_cnn", width=width)

    return make


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def accuracy(network: nn.Module, batches) -> float:
    with torch.inference_mode():
        right = sum(int((network(*inputs).argmax(1) == labels).sum()) for inputs, labels in batches)
    return right / sum(len(labels) for _, labels in batches)

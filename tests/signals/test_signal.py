"""Signals, their places, and how alike two are."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from automl.errors import DataError
from automl.signals.signal import Signal, coordinates, psnr, ssim


def noise(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).random(shape).astype(np.float32)


def test_each_axis_goes_from_minus_one_to_one_by_its_own_length():
    places = coordinates((3, 5)).reshape(3, 5, 2)
    assert places[:, 0, 0].tolist() == [-1, 0, 1]
    assert places[0, :, 1].tolist() == [-1, -0.5, 0, 0.5, 1]
    assert coordinates((4,)).shape == (4, 1) and coordinates((2, 3, 4)).shape == (24, 3)
    assert coordinates((1, 2)).tolist() == [[0, -1], [0, 1]]


def test_targets_are_in_the_order_of_the_places():
    values = noise(3, 4, 2)
    signal = Signal(values, "image")
    places = coordinates(signal.shape)
    index = ((places + 1) / 2 * (torch.tensor(signal.shape) - 1)).round().long()
    assert torch.equal(signal.targets, torch.from_numpy(values)[index[:, 0], index[:, 1]])
    assert (signal.points, signal.channels) == (12, 2)


def test_psnr_by_hand():
    assert psnr(np.zeros((2, 2, 1)), np.full((2, 2, 1), 0.1)) == pytest.approx(20)
    assert psnr(np.ones((2, 2)), np.ones((2, 2))) == math.inf
    with pytest.raises(DataError, match="one shape"):
        psnr(np.zeros((2, 2)), np.zeros((2, 3)))


def test_ssim_is_that_of_each_window_by_hand():
    one, two = noise(9, 10, 2), noise(9, 10, 2, seed=1)
    found = []
    for channel in range(2):
        for i in range(9 - 6):
            for j in range(10 - 6):
                a, b = (x[i : i + 7, j : j + 7, channel].astype(np.float64).ravel() for x in (one, two))
                (va, c), (_, vb) = np.cov(a, b)
                top = (2 * a.mean() * b.mean() + 1e-4) * (2 * c + 9e-4)
                found.append(top / ((a.mean() ** 2 + b.mean() ** 2 + 1e-4) * (va + vb + 9e-4)))
    assert ssim(one, two) == pytest.approx(np.mean(found), rel=1e-9)
    assert ssim(one, one) == pytest.approx(1)


def test_ssim_is_that_of_scikit_image():
    metrics = pytest.importorskip("skimage.metrics")
    one, two = noise(20, 30, 3), noise(20, 30, 3, seed=1)
    expected = metrics.structural_similarity(one, two, data_range=1, channel_axis=-1)
    assert ssim(one, two) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("values", [noise(3).astype(np.float32), noise(3, 3) * 2, noise(3, 3).astype(np.float64)])
def test_what_is_no_signal_is_refused(values):
    with pytest.raises(DataError, match="expected"):
        Signal(values, "image")

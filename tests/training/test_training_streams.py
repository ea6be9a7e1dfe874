"""Epochs of training: built-in images, and what a user hands over."""

from __future__ import annotations

import pickle
from collections import Counter

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from automl.data import load
from automl.errors import DataError
from automl.tasks.problem import Problem

X, Y = torch.arange(30.0)[:, None].repeat(1, 4), torch.arange(30) % 3


def problem(train) -> Problem:
    return Problem.from_iterables(nn.Linear(4, 3), train, [(X, Y)], calibration_size=8)


def seen(batches) -> list[float]:
    return [float(x) for (inputs,), _ in batches for x in inputs[:, 0]]


def test_an_epoch_of_images_has_each_training_image_once_and_none_held_out(digits):
    batches = list(digits.training(3, 128))
    assert [len(labels) for _, labels in batches] == [113, *[112] * 7]
    labels = Counter(int(label) for _, batch in batches for label in batch)
    assert labels == Counter(digits.train.labels.tolist())
    plain = load("digits", validation_size=400, calibration_size=256, augment=False)
    images = {image.numpy().tobytes() for (x,), _ in plain.training(3, 128) for image in x}
    assert images == {image.numpy().tobytes() for (x,), _ in digits.train.batches(128) for image in x}


def test_an_epoch_is_a_function_of_its_seed_and_made_batch_by_batch(digits):
    one, again, other = (next(iter(digits.training(seed, 64))) for seed in (5, 5, 6))
    assert torch.equal(one[0][0], again[0][0]) and torch.equal(one[1], again[1])
    assert not torch.equal(one[1], other[1])
    stream = digits.training(5, 64)
    assert iter(stream) is stream


def test_cutout_blanks_one_square_of_each_image():
    splits = load("digits", validation_size=400, calibration_size=256, cutout=3)
    plain = load("digits", validation_size=400, calibration_size=256)
    blanked = []
    for ((cut,), labels), ((whole,), same) in zip(
        [next(iter(splits.training(1, 900)))], [next(iter(plain.training(1, 900)))], strict=True
    ):
        # The same generator draws the squares last, so everything else is as without.
        assert torch.equal(labels, same)
        changed = cut != whole
        assert bool((cut[changed] == 0).all())
        blanked = changed.sum((1, 2, 3)).tolist()
        for mask in changed[:50, 0]:
            rows, columns = mask.any(1).nonzero()[:, 0], mask.any(0).nonzero()[:, 0]
            assert rows[-1] - rows[0] < 3 and columns[-1] - columns[0] < 3
    assert min(blanked) >= 4 and max(blanked) == 9


def test_a_list_of_batches_is_shuffled_sample_by_sample_and_dealt_out_anew():
    given = problem([(X, Y)]).epochs(8)
    one, again, other = (list(given(seed)) for seed in (0, 0, 1))
    assert [len(y) for _, y in one] == [8, 8, 7, 7]
    assert seen(one) == seen(again) != seen(other)
    assert sorted(seen(one)) == X[:, 0].tolist() and seen(one) != X[:, 0].tolist()
    assert all(torch.equal(inputs[:, 0] % 3, y.float()) for (inputs,), y in one)
    two = Problem(nn.Bilinear(4, 4, 3), [((X, X), Y)], [((X, X), Y)])
    assert two.training is None


def test_a_loader_is_read_anew_every_epoch_with_its_own_batches():
    loader = DataLoader(TensorDataset(X, Y), batch_size=7, shuffle=True, generator=torch.Generator().manual_seed(0))
    given = problem(loader).epochs(128)
    one, other = list(given(0)), list(given(0))
    assert [len(y) for _, y in one] == [7, 7, 7, 7, 2]
    assert sorted(seen(one)) == sorted(seen(other)) == X[:, 0].tolist() and seen(one) != seen(other)


def test_what_can_be_read_once_cannot_be_trained_on():
    with pytest.raises(DataError, match="a list of batches, a DataLoader"):
        problem(iter([(X, Y)])).epochs(8)


def test_a_bad_batch_is_found_when_it_comes_up():
    class Turns:
        def __init__(self) -> None:
            self.good = True

        def __iter__(self):
            return iter([(X, Y) if self.good else (X / 0 * 0, Y)])

    data = Turns()
    given = problem(data).epochs(8)
    data.good = False
    with pytest.raises(DataError, match="training batch must hold numbers, got NaN"):
        list(given(0))


def test_streams_travel_to_other_processes(digits):
    copy = pickle.loads(pickle.dumps(digits.training))
    assert torch.equal(next(iter(copy(2, 32)))[0][0], next(iter(digits.training(2, 32)))[0][0])

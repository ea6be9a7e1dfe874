import numpy as np
import pytest
import torch

from automl.data import ImageSet
from automl.data.order import stratified_order


def image_set(n=10, channels=3, size=6, shift=2, flip=False) -> ImageSet:
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(1, 256, (n, channels, size, size), generator=generator, dtype=torch.uint8)
    return ImageSet(images, torch.arange(n), (0.5,) * channels, (0.25,) * channels, shift, flip)


def test_batches_are_normalised_per_channel():
    images = ImageSet(
        torch.tensor([[[[0]], [[255]], [[51]]]], dtype=torch.uint8), torch.tensor([4]), (0.5, 0.2, 0.2), (0.5, 0.4, 2.0)
    )
    (((x,), labels),) = images.batches(5)
    assert x.dtype == torch.float32 and labels.tolist() == [4]
    torch.testing.assert_close(x.flatten(), torch.tensor([-1.0, 2.0, 0.0]))


@pytest.mark.parametrize(("n", "size", "expected"), [(10, 4, [4, 3, 3]), (10, 5, [5, 5]), (3, 9, [3]), (0, 4, [])])
def test_batches_are_as_equal_as_can_be(n, size, expected):
    batches = image_set(n).batches(size)
    assert [len(labels) for _, labels in batches] == expected
    assert [int(label) for _, labels in batches for label in labels] == list(range(n))


def test_indices_choose_and_order():
    images = image_set()
    (((x,), labels),) = images.batches(9, [7, 2, 2])
    assert labels.tolist() == [7, 2, 2]
    assert torch.equal(x[1], images.batches(1)[2][0][0][0])
    assert images.subset([7, 2]).labels.tolist() == [7, 2]


def original_of(shifted: torch.Tensor, image: torch.Tensor, shift: int) -> bool:
    """Whether `shifted` is `image` moved by at most `shift`, black coming in."""
    padded = torch.nn.functional.pad(image, (shift,) * 4)
    h, w = image.shape[1:]
    return any(
        torch.equal(shifted, padded[:, dy : dy + h, dx : dx + w])
        for dy in range(2 * shift + 1)
        for dx in range(2 * shift + 1)
    )


@pytest.mark.parametrize("flip", [False, True])
def test_augmented_images_are_shifts_and_flips_of_their_own_original(flip):
    images = image_set(n=40, shift=2, flip=flip)
    mirrored = 0
    for (x,), labels in images.augmented(16, generator=torch.Generator().manual_seed(1)):
        pixels = ((x * 0.25 + 0.5) * 255).round().to(torch.uint8)
        for got, label in zip(pixels, labels, strict=True):
            image = images.images[label]
            if not original_of(got, image, 2):
                assert flip and original_of(got.flip(2), image, 2)
                mirrored += 1
    assert mirrored == 0 if not flip else 8 < mirrored < 32


def test_augmentation_keeps_labels_and_range_and_really_moves():
    images = image_set(n=30)
    plain, moved = images.batches(10), images.augmented(10, generator=torch.Generator().manual_seed(0))
    low, high = (0 - 0.5) / 0.25, (1 - 0.5) / 0.25
    for ((a,), labels), ((b,), moved_labels) in zip(plain, moved, strict=True):
        assert torch.equal(labels, moved_labels) and a.shape == b.shape
        assert b.min() >= low and b.max() <= high
        assert not torch.equal(a, b)


def test_every_shift_occurs():
    """One white pixel in the middle lands on each of the 9 places that a shift by 1 can move it to."""
    pixel = torch.zeros(600, 1, 5, 5, dtype=torch.uint8)
    pixel[:, :, 2, 2] = 255
    images = ImageSet(pixel, torch.zeros(600, dtype=torch.int64), (0.0,), (1.0,), shift=1)
    total = sum(x.sum(0)[0] for (x,), _ in images.augmented(100, generator=torch.Generator().manual_seed(0)))
    assert total.sum() == 600
    assert (total[1:4, 1:4] > 30).all()


def test_augmentation_is_a_function_of_the_generator():
    images = image_set(n=30, flip=True)
    runs = [list(images.augmented(8, generator=torch.Generator().manual_seed(seed))) for seed in (5, 5, 6)]
    same = [torch.equal(a[0][0], b[0][0]) for a, b in zip(runs[0], runs[1], strict=True)]
    other = [torch.equal(a[0][0], b[0][0]) for a, b in zip(runs[0], runs[2], strict=True)]
    assert all(same) and not any(other)


def test_no_shift_and_no_flip_change_nothing():
    images = image_set(shift=0)
    for ((a,), _), ((b,), _) in zip(images.batches(4), images.augmented(4), strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("seed", range(3))
def test_every_beginning_of_the_order_has_its_share_of_each_class(seed):
    labels = np.repeat([0, 1, 2, 3], [400, 200, 100, 7])
    order = stratified_order(np.random.default_rng(seed).permutation(labels), seed)
    labels = np.random.default_rng(seed).permutation(labels)[order]
    assert sorted(order) == list(range(707))
    for k in (50, 101, 350, 600):
        got = np.bincount(labels[:k], minlength=4)
        assert np.abs(got - k * np.array([400, 200, 100, 7]) / 707).max() < 2.5

"""Images of the user's own: folders of classes and files of arrays, and what can be wrong with them."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from automl import data
from automl.config.model import DataConfig
from automl.errors import ConfigError, DataError

OPTIONS = {"validation_size": None, "calibration_size": 4, "batch_size": 10}


def write_folder(root, split="", n=12, side=8, mode="RGB"):
    rng = np.random.default_rng(0)
    for label, name in enumerate(("cat", "dog")):
        folder = root / split / name
        folder.mkdir(parents=True)
        for i in range(n):
            pixels = rng.integers(100 * label, 100 * label + 50, (side, side, 3)).astype(np.uint8)
            Image.fromarray(pixels).convert(mode).save(folder / f"{i}.png")


def test_a_folder_of_classes(tmp_path):
    write_folder(tmp_path)
    splits = data.load("folder", root=str(tmp_path), **OPTIONS)
    assert splits.classes == 2 and splits.test is None
    assert sum(len(y) for _, y in splits.validation) == 4  # a sixth of 24
    ((x,), y) = splits.train.batches(100)[0]
    assert x.shape == (20, 3, 8, 8)
    assert (x.mean(dim=(1, 2, 3)) > 0).long().tolist() == y.tolist()  # dogs are brighter


def test_a_folder_with_a_test_split_in_grey_of_one_size(tmp_path):
    write_folder(tmp_path, "train", mode="L", side=12)
    write_folder(tmp_path, "test", n=3, mode="L", side=20)
    splits = data.load("folder", root=str(tmp_path), image_size=8, **OPTIONS)
    assert splits.train.images.shape == (20, 1, 8, 8)
    ((x,), y) = splits.test()[0]
    assert x.shape == (6, 1, 8, 8) and y.tolist() == [0, 0, 0, 1, 1, 1]


@pytest.mark.parametrize("shape", [(30, 6, 6), (30, 6, 6, 3), (30, 3, 6, 6)])
def test_a_file_of_arrays(tmp_path, shape):
    pixels = np.arange(np.prod(shape)).reshape(shape).astype(np.uint8)
    np.savez(tmp_path / "a.npz", x_train=pixels, y_train=np.arange(30) % 3, x_test=pixels[:6], y_test=np.arange(6) % 3)
    splits = data.load("arrays", root=str(tmp_path / "a.npz"), **OPTIONS)
    assert splits.classes == 3
    assert splits.train.images.shape == (25, 1 if len(shape) == 3 else 3, 6, 6)
    assert sum(len(y) for _, y in splits.test()) == 6


def test_a_size_is_asked_of_a_folder_only():
    with pytest.raises(ConfigError, match="of images in a folder"):
        DataConfig("digits", image_size=8)


def test_what_is_wrong_is_said(tmp_path):
    def load(name, root, **options):
        return data.load(name, root=root and str(root), **{**OPTIONS, **options})

    with pytest.raises(DataError, match="need a root"):
        load("folder", None)
    with pytest.raises(DataError, match="no folder at"):
        load("folder", tmp_path / "none")
    (tmp_path / "one" / "cat").mkdir(parents=True)
    with pytest.raises(DataError, match="two or more, got cat"):
        load("folder", tmp_path / "one")
    (tmp_path / "one" / "dog").mkdir()
    with pytest.raises(DataError, match="has no image"):
        load("folder", tmp_path / "one")
    (tmp_path / "one" / "dog" / "x.png").write_text("no image")
    with pytest.raises(DataError, match=r"x\.png cannot be read"):
        load("folder", tmp_path / "one")
    write_folder(tmp_path / "sizes", side=8)
    Image.new("RGB", (9, 9)).save(tmp_path / "sizes" / "cat" / "odd.png")
    with pytest.raises(DataError, match="set image_size"):
        load("folder", tmp_path / "sizes")
    with pytest.raises(DataError, match="cannot be read as a file of arrays"):
        load("arrays", tmp_path / "one" / "dog" / "x.png")
    for arrays, words in (
        ({"x": np.zeros((4, 8, 8)), "y": np.zeros(4, int)}, "must be uint8"),
        ({"x": np.zeros((4, 8, 8), np.uint8), "y": np.zeros(3, int)}, "one whole number"),
        ({"z": np.zeros(3)}, "must hold x_train and y_train"),
    ):
        np.savez(tmp_path / "bad.npz", **arrays)
        with pytest.raises(DataError, match=words):
            load("arrays", tmp_path / "bad.npz")

"""The search for a shape is a study: within its bytes, recorded, gone on with."""

from __future__ import annotations

import pytest

import automl
from automl.errors import ConfigError, StudyError
from automl.signals.encode_file import signal_of
from automl.signals.shape_space import ShapeSpace
from automl.store import open_store
from tests.cli.conftest import automl as command
from tests.kits.spaces import SpaceConformance
from tests.signals.conftest import picture


class TestHalf(SpaceConformance):
    """Depth and width of float16."""

    @pytest.fixture
    def space(self):
        return ShapeSpace(signal_of(picture()), 2000, half=True)


class TestIntegers(SpaceConformance):
    """Depth, width and bits."""

    @pytest.fixture
    def space(self):
        return ShapeSpace(signal_of(picture()), 400, half=False)


def test_a_search_is_recorded_and_gone_on_with(photo, tmp_path):
    storage, told = f"sqlite:///{tmp_path}/a.db", []
    first = automl.encode(photo, "240 B", steps=40, search=3, storage=storage, name="s", say=told.append)
    assert len(told) == 3 and len(first.content) <= 240
    with open_store(storage) as store:
        before = store.trials(store.study("s").id)
    assert all(record.values["size_bytes"] <= 240 for record in before)
    best = max(before, key=lambda record: record.values["psnr"]).point
    assert (first.network.layout.width, first.network.layout.depth) == (best["width"], best["depth"])
    more = automl.encode(photo, "240 B", steps=40, search=5, storage=storage, name="s", say=told.append)
    with open_store(storage) as store:
        after = store.trials(store.study("s").id)
    assert len(told) == 5 and [r.point for r in after[:3]] == [r.point for r in before] and len(after) == 5
    assert more.psnr >= first.psnr or more.network.layout != first.network.layout
    with pytest.raises(StudyError, match="is another"):
        automl.encode(photo, "200 B", steps=40, search=3, storage=storage, name="s")
    with pytest.raises(ConfigError, match="a search is of width and depth"):
        automl.encode(photo, "200 B", search=3, width=4)


def test_the_commands(photo, tmp_path):
    storage = f"sqlite:///{tmp_path}/a.db"
    out, back = tmp_path / "photo.inr", tmp_path / "back.png"
    arguments = ["--budget", "3 bpp", "--out", out, "--steps", "40", "--way", "coin", "--storage", storage]
    done = command("encode", photo, *arguments, "--search", "2")
    assert done.code == 0 and "PSNR" in done.out and "trial 1" in done.err, done.err
    assert "photo" in command("studies", "--storage", storage).out
    assert "psnr" in command("trials", "photo", "--storage", storage).out
    done = command("decode", out, "--out", back, "--size", "30x40")
    assert done.code == 0 and "30 x 40 x 3" in done.out
    done = command("decode", out, "--out", back, "--size", "big")
    assert done.code == 1 and "expected a size such as" in done.err
    done = command("encode", photo, "--budget", "lots", "--out", out)
    assert done.code == 1 and "expected a budget such as" in done.err

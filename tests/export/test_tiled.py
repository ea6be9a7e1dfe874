"""Tiled inference: the same as that of the whole picture, in bounded memory, whatever the sizes."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from automl.errors import DataError
from automl.export.tiled import tiled, tiles


class Cup(nn.Module):
    """Halves once: a receptive radius of 7 pixels, and of 8 from a place that is even."""

    def __init__(self):
        super().__init__()
        self.first, self.bottom = nn.Conv2d(2, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1)
        self.widen, self.last = nn.ConvTranspose2d(4, 4, 2, stride=2), nn.Conv2d(8, 3, 3, padding=1)

    def forward(self, x):
        x = F.relu(self.first(x))
        return self.last(torch.cat([x, self.widen(F.relu(self.bottom(F.max_pool2d(x, 2))))], 1))


torch.manual_seed(0)
NETWORK = Cup().double().eval()


def whole(network, scene):
    with torch.no_grad():
        return network(torch.from_numpy(scene)[None])[0].numpy()


@settings(max_examples=25, deadline=None)
@given(
    height=st.integers(1, 40).map(lambda n: 2 * n),
    width=st.integers(1, 40).map(lambda n: 2 * n),
    tile=st.integers(10, 20).map(lambda n: 2 * n),
    batch=st.integers(1, 5),
)
def test_it_is_what_the_whole_picture_gives_where_the_margin_covers_what_a_pixel_sees(height, width, tile, batch):
    scene = np.random.default_rng(height * 97 + width).standard_normal((2, height, width))
    made = tiled(NETWORK, scene, tile=tile, margin=8, multiple=2, batch=batch)
    np.testing.assert_allclose(made, whole(NETWORK, scene), atol=1e-12)


def test_without_a_margin_it_is_not():
    scene = np.random.default_rng(0).standard_normal((2, 64, 64))
    assert np.abs(tiled(NETWORK, scene, tile=20, margin=0, multiple=2) - whole(NETWORK, scene)).max() > 1e-3


@settings(max_examples=40, deadline=None)
@given(
    st.integers(1, 90),
    st.integers(1, 90),
    st.integers(2, 12),
    st.integers(0, 20),
    st.sampled_from([1, 2, 8]),
)
def test_what_is_kept_covers_each_pixel_once_and_lies_a_margin_within(height, width, more, margin, multiple):
    tile = multiple * -(-(2 * margin + multiple * more) // multiple)
    covered = np.zeros((height, width), dtype=int)
    for one in tiles(height, width, tile, margin, multiple):
        covered[one.kept] += 1
        for read, kept, length in zip(one.read, one.kept, (height, width), strict=True):
            assert 0 <= read.start <= kept.start < kept.stop <= read.stop <= length
            assert read.start % multiple == 0 and read.stop - read.start <= tile
            assert read.start == 0 or kept.start - read.start >= margin
            assert read.stop == length or read.stop - kept.stop >= margin
    assert (covered == 1).all()


def test_odd_scenes_are_filled_up_and_files_are_read_and_written_in_parts(tmp_path):
    rng = np.random.default_rng(3)
    scene = np.lib.format.open_memmap(tmp_path / "scene.npy", "w+", np.uint8, (2, 61, 83))
    scene[:] = rng.integers(0, 255, scene.shape)
    out = np.lib.format.open_memmap(tmp_path / "out.npy", "w+", np.uint8, (61, 83))

    def before(x):
        return x / 127.5 - 1

    def after(scores):
        return scores.argmax(1).astype(np.uint8)

    tiled(NETWORK, scene, tile=32, margin=8, multiple=2, before=before, after=after, out=out)
    filled = np.pad(before(np.asarray(scene)), ((0, 0), (0, 1), (0, 1)), mode="edge")
    assert (out == whole(NETWORK, filled).argmax(0)[:61, :83]).all()


def file_of(path, side):
    """Write an ONNX file of a convolution of 3 x 3, for tiles of one size or of any (None); its weight."""
    onnx = pytest.importorskip("onnx")
    weight = np.random.default_rng(6).standard_normal((3, 2, 3, 3)).astype(np.float32)
    shape = ["n", 2, side or "h", side or "w"]
    node = onnx.helper.make_node("Conv", ["x", "w"], ["y"], pads=[1, 1, 1, 1])
    floats = onnx.TensorProto.FLOAT
    graph = onnx.helper.make_graph(
        [node],
        "one",
        [onnx.helper.make_tensor_value_info("x", floats, shape)],
        [onnx.helper.make_tensor_value_info("y", floats, ["n", 3, *shape[2:]])],
        [onnx.numpy_helper.from_array(weight, "w")],
    )
    onnx.save(onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8), path)
    return weight


@pytest.mark.parametrize(("side", "size"), [(None, (50, 70)), (24, (50, 70)), (24, (24, 61))])
def test_a_file_gives_what_the_network_gives_in_tiles_of_its_own_size(tmp_path, side, size):
    pytest.importorskip("onnxruntime")
    weight = torch.from_numpy(file_of(tmp_path / "one.onnx", side))
    scene = np.random.default_rng(5).standard_normal((2, *size)).astype(np.float32)
    made = tiled(tmp_path / "one.onnx", scene, margin=2, batch=3, tile=None if side else 32)
    expected = F.conv2d(torch.from_numpy(scene)[None], weight, padding=1)[0].numpy()
    np.testing.assert_allclose(made, expected, atol=1e-4)
    small = tiled(tmp_path / "one.onnx", scene[:, :10, :15], margin=2)
    np.testing.assert_allclose(small[:, :9, :14], expected[:, :9, :14], atol=1e-4)
    if side:
        with pytest.raises(DataError, match="tiles of 24 pixels only"):
            tiled(tmp_path / "one.onnx", scene, tile=32, margin=2)


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"tile": 16, "margin": 8}, "a larger tile"),
        ({"tile": 33, "margin": 2, "multiple": 2}, "multiple of 2"),
        ({"tile": 0}, "at least 1"),
        ({"margin": -1}, "at least 0"),
    ],
)
def test_sizes_that_cannot_be_are_refused(options, complaint):
    with pytest.raises(DataError, match=complaint):
        tiled(NETWORK, np.zeros((2, 40, 40)), **options)


def test_a_network_that_makes_other_sizes_and_what_is_no_scene_are_refused():
    with pytest.raises(DataError, match="as large as the tile"):
        tiled(nn.AvgPool2d(2), np.zeros((2, 40, 40), np.float32), tile=20, margin=2)
    with pytest.raises(DataError, match="channels, height, width"):
        tiled(NETWORK, np.zeros((40, 40)))

"""The reader that lies beside a packed file: NumPy alone, every form bit for bit, foreign files one clear error."""

import json
import lzma
import shutil
import subprocess
import sys
import zlib
from functools import cache

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load, save

from automl.export import export
from search_spaces import NetworkSpace
from search_spaces.codecs import packing, reader
from search_spaces.codecs.number_formats import FORMATS, twos_complement
from tests.kits.joint_spaces import FORMATS as NAMES
from tests.kits.random_networks import RandomNetwork

ALONE = """
import sys
for name in ("torch", "safetensors", "search_spaces", "automl", "agents"):
    sys.modules[name] = None  # an import of it fails
import numpy as np
from read_packed import read
np.savez(sys.argv[2], **read(sys.argv[1]))
"""


def state():
    """A state dict with a tensor of every form and format, and of types that are stored as they are."""
    torch.manual_seed(0)
    tensors = {"vector": torch.randn(7), "count": torch.tensor(3), "dense": torch.randn(5, 4, 3, 3), "b": torch.ones(0)}
    tensors |= {"flags": torch.rand(9) < 0.5, "half": torch.randn(4, 4).half(), "brain": torch.randn(9, 9).bfloat16()}
    for density in (0.01, 0.3, 1.0):
        weight = torch.randn(80, 90)
        weight[torch.rand(80, 90) >= density] = 0
        tensors[f"values{density}"] = weight
        for form in FORMATS.values():
            scale = torch.rand(80) + 0.01
            spread = (torch.randn(80, 30, 3) * len(form.grid) / 8).round().clamp(-form.highest, form.highest)
            grid = torch.tensor(form.grid)
            integers = spread if form.has_zero else grid[torch.randint(0, len(grid), spread.shape)].float()
            integers[torch.rand(integers.shape) >= density] = 0
            name = f"{form.name}{density}"
            tensors |= {name: integers * scale[:, None, None] + 0.0, f"{name}_scale": scale}
    return tensors


def same_bits(a, b):
    return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()


def test_every_form_is_read_bit_for_bit_where_there_is_no_torch(tmp_path):
    tensors = state()
    layouts = {"by_lzma": packing.pack(tensors), "coded": packing.pack_open(tensors), "plain": save(tensors)}
    layouts["folded"] = packing.folded(layouts["coded"])
    assert set(load(layouts["by_lzma"])) == {"header.lzma", "data.lzma"}
    assert set(load(layouts["folded"])) == {"header", "data.zlib"}
    assert len(layouts["by_lzma"]) < len(layouts["folded"]) < len(layouts["coded"])
    for name, content in layouts.items():
        (tmp_path / f"{name}.safetensors").write_bytes(content)
        shutil.copyfile(reader.__file__, tmp_path / "read_packed.py")
        files = [str(tmp_path / f"{name}{end}") for end in (".safetensors", ".npz")]
        subprocess.run([sys.executable, "-c", ALONE, *files], check=True, cwd=tmp_path)
        got = np.load(files[1])
        expected = packing.unpack(tmp_path / f"{name}.safetensors")
        assert set(got.files) == expected.keys() == tensors.keys()
        for key, tensor in expected.items():
            assert torch.equal(tensor, tensors[key])
            assert same_bits(got[key], (tensor.float() if tensor.dtype == torch.bfloat16 else tensor).numpy()), key


def test_files_of_fixed_length_are_read_too(tmp_path):
    tensors, path = state(), tmp_path / "packed.safetensors"
    for formats in (list(FORMATS.values()), [form for form in FORMATS.values() if form.level > 2]):
        path.write_bytes(packing.laid_out(tensors, formats, coded=False))
        got, expected = reader.read(path), packing.unpack(path)
        assert got.keys() == expected.keys()
        for key, tensor in tensors.items():
            assert torch.equal(expected[key], tensor)
            assert same_bits(got[key], (tensor.float() if tensor.dtype == torch.bfloat16 else tensor).numpy()), key


def test_tensors_of_one_number_and_of_bfloat16_are_read_too_beside_integers(tmp_path):
    """Also -0.0 and what is no number, which no comparison tells apart."""
    torch.manual_seed(0)
    scale = torch.rand(9).bfloat16().float() + 1
    tensors = {"w": torch.randint(-3, 4, (9, 50)).float() * scale[:, None] + 0.0, "w_scale": scale}
    tensors |= {"ones": torch.full((300,), 1 - 1e-5), "steps": torch.tensor(7), "minus": torch.full((2, 90), -0.0)}
    tensors |= {"bias": torch.randn(300).bfloat16().float(), "nan": torch.tensor([float("nan"), -0.0, 1.0] * 30)}
    tensors |= {"both": torch.tensor([0.0, -0.0] * 40), "large": torch.full((3,), 2**62 + 1), "none": torch.ones(0)}
    content = packing.pack_open(tensors)
    assert {"ones", "steps", "minus"}.isdisjoint(load(content)) and load(content)["bias"].dtype == torch.bfloat16
    for name, written in {"open": content, "by_lzma": packing.pack(tensors)}.items():
        (path := tmp_path / f"{name}.safetensors").write_bytes(written)
        got, expected = reader.read(path), packing.unpack(path)
        assert got.keys() == expected.keys() == tensors.keys()
        for key, tensor in tensors.items():
            assert same_bits(got[key], tensor.numpy()) and same_bits(expected[key].numpy(), tensor.numpy()), key
    alone = packing.pack_open({name: tensors[name] for name in ("ones", "bias")})
    assert load(alone)["bias"].dtype == torch.float32, "no layer in few bits: the file is as it was"


def test_an_export_brings_its_reader(tmp_path):
    space = NetworkSpace(RandomNetwork(3), (x := torch.randn(2, 3, 8, 8),), {"code": {"formats": NAMES}})
    plan = space.plan(space.point([knob.levels[0] for knob in space.knobs]))
    network = space.build(plan).eval()
    export(network, (x,), plan, tmp_path, ["safetensors"], manifest={})
    files = [str(tmp_path / name) for name in ("model.safetensors", "weights.npz")]
    subprocess.run([sys.executable, "-c", ALONE, *files], check=True, cwd=tmp_path)
    got = np.load(files[1])
    for name, tensor in network.state_dict().items():
        assert same_bits(got[name], tensor.numpy())


@cache
def packed(pack):
    """What a file holds that `pack` makes of the tensors of most forms."""
    tensors = {name: tensor for name, tensor in state().items() if "int3" in name or "values" in name}
    return pack(tensors | {"ones": torch.ones(80), "bias": torch.randn(80).bfloat16().float()})


@given(st.data())
@settings(max_examples=200, deadline=None)
def test_a_file_that_was_cut_or_changed_is_one_value_error_or_another_file(tmp_path_factory, data):
    content = bytearray(packed(data.draw(st.sampled_from([packing.pack, packing.pack_open]))))
    path = tmp_path_factory.getbasetemp() / "broken.safetensors"
    if data.draw(st.booleans()):
        content = content[: data.draw(st.integers(0, len(content) - 1))]
    else:
        content[data.draw(st.integers(0, len(content) - 1))] ^= data.draw(st.integers(1, 255))
    path.write_bytes(content)
    for read in (reader.read, packing.unpack):
        try:
            read(path)
        except Exception as error:
            assert read is packing.unpack or isinstance(error, ValueError), repr(error)
            assert "\n" not in str(error)


def test_the_grid_of_a_number_of_bits_is_that_of_the_writer():
    for bits in range(2, 9):
        assert reader.described(json.dumps({"shapes": {"a": [1]}, "bits": {"a": bits}}))[0][
            "a"
        ].grid == twos_complement(bits)


@pytest.mark.parametrize("content", [b"", b"1234567", bytes(8), b"\x02" + bytes(7) + b"{}", b"\x02" + bytes(7) + b"7 "])
def test_what_is_no_safetensors_file_is_a_value_error_or_empty(content, tmp_path):
    path = tmp_path / "x.safetensors"
    path.write_bytes(content)
    if content.endswith(b"{}"):
        assert reader.read(path) == {}
    else:
        with pytest.raises(ValueError, match=r"expected|Expecting"):
            reader.read(path)


def lzma_of(content):
    return lzma.compress(content, lzma.FORMAT_ALONE)


@pytest.mark.parametrize(
    ("name", "header", "told"),
    [
        ("header", zlib.compress(b" " * 2**27), "at most"),
        ("header", b"no zlib", "compressed by zlib"),
        ("header", zlib.compress(b"{" * 99)[:-9], "whole"),
        ("header.lzma", lzma_of(b" " * 2**27), "at most"),
        ("header.lzma", b"no lzma, and long enough to be told", "compressed by lzma"),
        ("header.lzma", lzma_of(b"{" * 99)[:-9], "whole"),
        ("header.lzma", b"\x5d\xff\xff\xff\x7f" + lzma_of(b"{" * 99)[5:], "compressed by lzma"),
    ],
    ids=["bomb", "foreign", "cut", "lzma bomb", "no lzma", "lzma cut", "memory"],
)
def test_a_compressed_header_that_is_none_is_refused(name, header, told, tmp_path):
    parts = {name: torch.frombuffer(bytearray(header), dtype=torch.uint8)}
    path = tmp_path / "packed.safetensors"
    path.write_bytes(save(parts, {"packing": reader.FOLDED_LZMA if "lzma" in name else reader.FOLDED}))
    for read in (reader.read, packing.unpack):
        with pytest.raises(ValueError, match=told):
            read(path)


def test_data_of_which_a_byte_stands_for_too_many_are_refused_and_not_written(tmp_path):
    zeros = bytes(10**7)
    parts = {"header.lzma": lzma_of(b"{}"), "data.lzma": lzma_of(zeros)}
    tensors = {name: torch.frombuffer(bytearray(part), dtype=torch.uint8) for name, part in parts.items()}
    (tmp_path / "x").write_bytes(save(tensors, {"packing": reader.FOLDED_LZMA}))
    with pytest.raises(ValueError, match="at most"):
        reader.read(tmp_path / "x")
    header = b'{"x":{"dtype":"U8","shape":[%d],"data_offsets":[0,%d]}}' % (len(zeros), len(zeros))
    content = len(header).to_bytes(8, "little") + header + zeros
    assert packing.folded_by_lzma(content) == content

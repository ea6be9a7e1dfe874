"""Packed files of networks with integer weights: the smallest form of each tensor, bit for bit; old files unchanged."""

import json

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save
from torch import nn

from automl.errors import ExportError
from automl.export.packed import unpack
from automl.measures.counts import state_tensors
from search_spaces.codecs.bitmask import packed_sizes, stored
from search_spaces.codecs.header import HeaderBound, frame_bytes
from search_spaces.codecs.integers import bound, holds
from search_spaces.codecs.packing import pack_open

OLD_NOTE = (
    "NAME.values: the non-zeros of NAME in order; NAME.mask: a bit for each number, lowest first; its shape is here"
)


def pack(network):
    """The packed file whose header is not compressed, so that its parts can be looked at."""
    return pack_open(state_tensors(network)[0])


def layer(inputs, outputs, bits, density=1.0, seed=0):
    """A linear layer of integers times a scale, as the operator `code` leaves it."""
    generator = torch.Generator().manual_seed(seed)
    high = 2 ** (bits - 1)
    integers = torch.randint(1 - high, high, (outputs, inputs), generator=generator)
    integers[torch.rand(integers.shape, generator=generator) >= density] = 0
    scale = torch.rand(outputs, generator=generator) + 0.01
    made = nn.Linear(inputs, outputs)
    made.weight.data = integers.float() * scale[:, None]
    made.register_buffer("weight_scale", scale)
    return made


def network():
    torch.manual_seed(0)
    made = nn.ModuleDict(
        {
            "int8": layer(40, 30, 8),
            "int4": layer(41, 31, 4),
            "sparse8": layer(40, 30, 8, 0.3),
            "sparse4": layer(40, 30, 4, 0.3),
            "few": layer(60, 50, 8, 0.01),
            "dense": nn.Linear(20, 20),
            "sparse": nn.Linear(40, 40),
            "off": layer(30, 20, 8),
        }
    )
    made["sparse"].weight.data[:, 3:] = 0
    made["off"].weight.data[3, 4] += 1e-3
    return made


def same_bits(a, b):
    return a.dtype == b.dtype and a.shape == b.shape and a.numpy(force=True).tobytes() == b.numpy(force=True).tobytes()


def test_every_tensor_comes_back_bit_for_bit_from_its_smallest_form(tmp_path):
    made, path = network(), tmp_path / "packed.safetensors"
    path.write_bytes(pack(made))
    got, state = unpack(path), made.state_dict()
    assert got.keys() == state.keys() and all(same_bits(got[name], tensor) for name, tensor in state.items())
    names = load_file(path).keys()
    forms = {key: {n.removeprefix(f"{key}.weight") for n in names if n.startswith(f"{key}.weight")} for key in made}
    assert forms == {
        "int8": {".integers", "_scale"},
        "int4": {".integers", "_scale"},
        "sparse8": {".integers", ".mask", "_scale"},
        "sparse4": {".integers", "_scale"},  # as many zeros cost little in a code
        "few": {".integers", ".gaps", "_scale"},
        "dense": {""},
        "sparse": {".values", ".gaps"},
        "off": {"", "_scale"},
    }
    with safe_open(path, framework="pt") as file:
        assert list(file.metadata()) == ["packing"]
        told = json.loads(file.metadata()["packing"])
    coded = {"int8": 8, "int4": 4, "sparse8": 8, "sparse4": 4, "few": 8}
    assert told["bits"] == {f"{key}.weight": bits for key, bits in coded.items()}
    assert told["shapes"].keys() == told["bits"].keys() | {"sparse.weight"}
    assert told["note"].startswith(OLD_NOTE) and "NAME_scale" in told["note"] and told["coded"]
    assert pack(made) == path.read_bytes() and len(pack(made)) == path.stat().st_size


def test_the_file_is_read_by_its_own_note(tmp_path):
    """As a reader without this program would: 4-bit numbers of the low half of a byte first, times the row's scale."""
    path = tmp_path / "packed.safetensors"
    path.write_bytes(pack(nn.ModuleDict({"int4": layer(41, 31, 4)})))
    content = load_file(path)
    halves = [half for byte in content["int4.weight.integers"].tolist() for half in (byte & 15, byte >> 4)]
    numbers = torch.tensor([half - 16 if half > 7 else half for half in halves][: 31 * 41], dtype=torch.float32)
    weight = numbers.view(31, 41) * content["int4.weight_scale"][:, None]
    assert same_bits(weight, layer(41, 31, 4).weight)


def test_the_file_is_no_longer_than_the_bound_of_fixed_length():
    made = network()
    state = made.state_dict()
    header = HeaderBound(sum(tensor.nbytes for tensor in state.values()))
    total = frame_bytes(integers=True)
    for (name, size), tensor in zip(packed_sizes(state, header).items(), state.values(), strict=True):
        count, scale = int(stored(tensor).sum()), state.get(f"{name}_scale")
        lengths = [size.least(count)]
        form = holds(tensor, scale) if scale is not None else None
        if form is not None:
            lines = bound(name, tensor.shape, header, [form])
            lengths += [
                lines.lines + -(-tensor.numel() * form.bits // 8),
                lines.masked_lines + -(-tensor.numel() // 8) + -(-count * form.bits // 8),
            ]
        total += min(lengths)
    assert len(pack(made)) <= total <= 1.3 * len(pack(made))


def test_a_network_without_scales_is_packed_as_ever(tmp_path):
    """The content of a file of the first version, written out by hand: the same bytes, and it is read."""
    made = nn.ModuleDict({"a": nn.Linear(64, 40), "b": nn.Linear(20, 10)})
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.copy_(torch.arange(1, parameter.numel() + 1).view_as(parameter) / 8)
        bits = torch.rand(40, 64, generator=torch.Generator().manual_seed(0)) < 0.5  # which no code makes shorter
        made["a"].weight[~bits] = 0
    mask = torch.tensor([sum(1 << i for i in range(8) if byte[i]) for byte in bits.view(-1, 8)], dtype=torch.uint8)
    content = {
        "a.weight.values": made["a"].weight.detach()[bits],
        "a.weight.mask": mask,
        "a.bias": made["a"].bias.detach(),
        "b.weight": made["b"].weight.detach(),
        "b.bias": made["b"].bias.detach(),
    }
    told = '{"note":"' + OLD_NOTE + '","shapes":{"a.weight":[40,64]}}'
    old = save(content, {"packing": told})
    assert pack(made) == old
    path = tmp_path / "old.safetensors"
    path.write_bytes(old)
    got = unpack(path)
    assert all(same_bits(got[name], tensor) for name, tensor in made.state_dict().items())


@pytest.mark.parametrize("taken", ["integers", "mask"])
def test_a_name_that_is_taken_leaves_a_form_that_does_without(taken, tmp_path):
    class Holder(nn.Module):
        def __init__(self):
            super().__init__()
            self.part = layer(40, 30, 4, 0.5)

        def state_dict(self, *args, **kwargs):
            return {**super().state_dict(*args, **kwargs), f"part.weight.{taken}": torch.ones(3)}

    made, path = Holder(), tmp_path / "packed.safetensors"
    path.write_bytes(pack(made))
    got = unpack(path)
    assert got.keys() == made.state_dict().keys()
    assert all(same_bits(got[name], tensor) for name, tensor in made.state_dict().items())
    assert ("part.weight.values" in load_file(path)) == (taken == "integers")


def test_a_broken_file_is_one_clear_error(tmp_path):
    path = tmp_path / "packed.safetensors"
    content = pack(network())
    for old, new, message in (
        (b'\\"int8.weight\\":[30,40]', b'\\"int8.weight\\":[30,41]', "do not fill a tensor"),
        (b'\\"int8.weight\\":8', b'\\"int8.weight\\":9', "2 to 8 bits"),
        (b'\\"int8.weight\\":8', b'\\"int8.weight\\":7', "do not fill a tensor"),
        (b'\\"int8.weight\\":8', b'\\"int8.weight\\":x', "Export again"),
        (b'"int8.weight_scale"', b'"int8.weight_scald"', "int8.weight_scale"),
    ):
        assert old in content
        path.write_bytes(content.replace(old, new))
        with pytest.raises(ExportError, match=message):
            unpack(path)

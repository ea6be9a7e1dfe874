"""Updates: what turns one file of weights into another, checked to the last bit."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from automl.errors import ExportError
from automl.export.packed import unpack
from automl.export.update import apply_update, make_update
from search_spaces.codecs.packing import pack


def network(seed, changed=0.0, shape=(24, 16, 3, 3), step=7):
    """The state of a small coded network, a part of whose integers and norms is others than those of `seed`."""
    generator = torch.Generator().manual_seed(seed)
    integers = torch.randint(-step, step + 1, shape, generator=generator)
    other = torch.rand(shape, generator=generator) < changed
    moved = (integers + torch.randint(-1, 2, shape, generator=generator)).clamp(-step, step)
    scale = torch.rand(shape[0], generator=generator) + 0.1
    norm = torch.rand(shape[0], generator=generator) + changed * torch.rand(shape[0], generator=generator)
    weight = torch.where(other, moved, integers).float() * scale.view(-1, 1, 1, 1)
    return {"a.weight": weight, "a.weight_scale": scale, "b.weight": norm, "b.count": torch.tensor(3)}


def written(folder, name, tensors):
    (folder / name).write_bytes(pack(tensors))
    return folder / name


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 99), st.sampled_from([0.0, 0.02, 0.3, 1.0]), st.sampled_from([1, 3, 7, 127]))
def test_an_update_makes_the_new_file_to_the_last_bit(tmp_path_factory, seed, changed, step):
    folder = tmp_path_factory.mktemp("update")
    old, new = (written(folder, name, network(seed, part, step=step)) for name, part in (("old", 0), ("new", changed)))
    assert apply_update(old, make_update(old, new)) == new.read_bytes()


def test_few_changes_are_a_short_update_and_none_a_shorter(tmp_path):
    old, same = written(tmp_path, "old", network(0)), written(tmp_path, "same", network(0))
    new = written(tmp_path, "new", network(0, 0.02))
    assert len(make_update(old, same)) < 250
    assert len(make_update(old, new)) < 0.6 * len(new.read_bytes())


@pytest.mark.parametrize("after", [{"shape": (24, 12, 3, 3)}, {"step": 3}, {"seed": 5}])
def test_other_shapes_and_formats_come_too(tmp_path, after):
    old, new = written(tmp_path, "old", network(0)), written(tmp_path, "new", network(**({"seed": 0} | after)))
    update = make_update(old, new)
    assert apply_update(old, update) == new.read_bytes()
    assert len(update) < 1.1 * len(new.read_bytes()) + 300


def test_plain_files_have_short_updates_too(tmp_path):
    tensors = {"w": torch.randn(40, 30), "b": torch.randn(40)}
    save_file(tensors, tmp_path / "old")
    save_file({**tensors, "b": tensors["b"] + 1}, tmp_path / "new")
    update = make_update(tmp_path / "old", tmp_path / "new")
    assert apply_update(tmp_path / "old", update) == (tmp_path / "new").read_bytes() and len(update) < 500


def test_files_that_are_not_packed_and_odd_types_come_whole_at_worst(tmp_path):
    tensors = {"w": torch.randn(40, 30), "half": torch.randn(7).bfloat16()}
    save_file(tensors, tmp_path / "old")
    save_file({**tensors, "w": tensors["w"] + 1}, tmp_path / "new")
    update = make_update(tmp_path / "old", tmp_path / "new")
    assert apply_update(tmp_path / "old", update) == (tmp_path / "new").read_bytes()


def test_it_is_refused_on_another_file_and_when_it_is_damaged(tmp_path):
    old, new = written(tmp_path, "old", network(0)), written(tmp_path, "new", network(0, 0.1))
    other, update = written(tmp_path, "other", network(1)), make_update(old, new)
    with pytest.raises(ExportError, match="apply it to the file that it was made from"):
        apply_update(other, update)
    for place in range(0, len(update), max(1, len(update) // 60)):
        damaged = update[:place] + bytes([update[place] ^ 0x55]) + update[place + 1 :]
        with pytest.raises(ExportError):
            apply_update(old, damaged)
    for end in (0, 3, 20, len(update) // 2, len(update) - 1):
        with pytest.raises(ExportError):
            apply_update(old, update[:end])
    with pytest.raises(ExportError, match="cannot read"):
        make_update(tmp_path / "none", new)


def test_tensors_come_in_one_order(tmp_path):
    """What is sent is told apart by its place; safetensors hands out what is in bytes in another order each time."""
    path = written(tmp_path, "old", network(0))
    assert {tuple(unpack(path)) for _ in range(20)} == {tuple(sorted(network(0)))}

"""The header of a packed file: what its metadata say of the tensors that are packed, and what its entries take."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

NOTE = "NAME.values: the non-zeros of NAME in order; NAME.mask: a bit for each number, lowest first; its shape is here"
"""In the metadata of a packed file, for a reader without this program."""
NOTE_OF_INTEGERS = (
    "; NAME.integers: the numbers of NAME, or with NAME.mask its non-zeros, each divided by NAME_scale[its first index]"
    " and written as a two's complement number of so many bits as stand here, lowest bit first"
)
"""Added to the note where a tensor of the file stands as integers."""
KEY = "packing"
"""The one key of the metadata: safetensors writes several in any order, and a file's checksum should repeat."""


@dataclass(frozen=True)
class Packed:
    """What the metadata say of one tensor that is packed."""

    shape: tuple[int, ...]
    bits: int | None = None
    """Bits of each integer; None for values and mask."""


def metadata(packed: Mapping[str, Packed]) -> str:
    """What the metadata of a packed file say: the note, and shape and bits of each tensor that is packed."""
    shapes = {name: list(how.shape) for name, how in packed.items()}
    bits = {name: how.bits for name, how in packed.items() if how.bits is not None}
    return _text(shapes, bits or None)


def packed_of(text: str) -> dict[str, Packed]:
    """The inverse of `metadata`; a `ValueError` if that is not what it is."""
    try:
        told = json.loads(text)
        shapes = {name: tuple(map(_whole, shape)) for name, shape in told["shapes"].items()}
        bits = {name: _whole(count) for name, count in told.get("bits", {}).items()}
    except (TypeError, KeyError, AttributeError, RecursionError) as error:
        raise ValueError(f"its metadata are not those of a packed file ({error})") from error
    return {name: Packed(shape, bits.get(name)) for name, shape in shapes.items()}


def frame_bytes(*, integers: bool = False) -> int:
    """Bytes of a packed file that belong to no tensor: the length of the header, its padding, the note.

    With `integers` for a file that may have tensors of integers, whose note is longer.
    """
    text = _text({}, {} if integers else None)
    return 8 + 7 + len(_json({"__metadata__": {KEY: text}}))


def line_bytes(name: str, dtype: str, shape: Sequence[int], end: int) -> int:
    """The characters of a tensor's entry in the header, its comma included; no offset is higher than `end`."""
    return len(_json({name: {"dtype": dtype, "shape": list(shape), "data_offsets": [end, end]}})) - 1


def told_bytes(name: str, packed: Packed) -> int:
    """The characters that one more tensor adds to the metadata."""
    told = [_json({name: list(packed.shape)})] + [_json({name: packed.bits})] * (packed.bits is not None)
    return sum(len(_json(text)) - 3 for text in told)  # a comma for two quotes and two braces


def _text(shapes: Mapping[str, list[int]], bits: Mapping[str, int] | None) -> str:
    if bits is None:
        return _json({"note": NOTE, "shapes": shapes})
    return _json({"note": NOTE + NOTE_OF_INTEGERS, "shapes": shapes, "bits": bits})


def _whole(value: object) -> int:
    """`value`, if it is a whole number of at least 0 and no truth value."""
    if type(value) is not int or not 0 <= value < 2**62:
        raise ValueError(f"its metadata have {value!r:.80} where a size is expected")
    return value


def _json(value: object) -> str:
    return json.dumps(value, separators=(",", ":"))

"""The header of a packed file: what its metadata say of the tensors that are packed, and what its entries take."""

from __future__ import annotations

import json
import math
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from search_spaces.codecs.number_formats import twos_complement
from search_spaces.codecs.reader import How, described

Same = tuple[tuple[int, ...], int | float]
"""Shape and number of a tensor that has no other: an int of one in int64, a float of one in float32."""

NOTE = "NAME.values: the non-zeros of NAME in order; NAME.mask: a bit for each number, lowest first; its shape is here"
"""In the metadata of a packed file, for a reader without this program."""
NOTE_OF_INTEGERS = (
    "; NAME.integers: the numbers of NAME, or with NAME.mask its non-zeros, each divided by NAME_scale[its first index]"
    " and written as a two's complement number of so many bits as stand here, lowest bit first"
)
"""Added to the note where a tensor of the file stands as integers."""
NOTE_OF_GRIDS = "; or as the place of the integer in the grid that stands here, in 1 or 2 bits, of 3 five to a byte"
"""Added where the integers are those of a format of fewer than 3 bits."""
NOTE_OF_BOOKS = (
    "; NAME.indices: the places of its numbers in NAME_codebook, in so many bits each as stand in books, lowest first"
)
"""Added where the numbers of a tensor are in a codebook."""
NOTE_OF_CODED = "; all of these as coded streams, which read_packed.py (automl-compress, codecs/reader.py) reads"
"""Added where the parts of tensors are entropy coded."""
NOTE_OF_BRIEF = "; same: the shape of a tensor, and the number that is all of its; short: bfloat16 stands for float32"
"""Added where the file has numbers of layers in few bits, whose norms have little to tell."""
MARGIN = 2.0
"""How many times as much of an entry is counted as zlib leaves of those of the original network: one of fewer tensors
is compressed less well, by up to a half."""
FOLD_BYTES = 400
"""What a file takes that holds another whose header is compressed, and what zlib takes to begin with."""
KEY = "packing"
"""The one key of the metadata: safetensors writes several in any order, and a file's checksum should repeat."""


class Packed(How):
    """What the metadata say of one tensor that is packed."""

    @property
    def bits(self) -> int | None:
        """Bits of each integer, if the grid is that of two's complement."""
        bits = (len(self.grid) - 1).bit_length() if self.grid is not None else 0
        return bits if bits > 1 and self.grid == twos_complement(bits) else None


@dataclass(frozen=True)
class Told:
    """What the metadata say of a file."""

    packed: Mapping[str, Packed]
    coded: bool = False
    """Whether integers, masks and gaps are streams of `search_spaces.codecs.streams`, and not of fixed length."""
    same: Mapping[str, Same] = field(default_factory=dict)
    """The tensors of one number, which stand nowhere else."""
    short: bool = False
    """Whether tensors that stand there in bfloat16 are in float32, and none is in bfloat16."""


def metadata(told: Told) -> str:
    """The metadata of a packed file: the note, and shape, bits or grid of each tensor that is packed."""
    shapes = {name: list(how.shape) for name, how in told.packed.items()}
    bits = {name: how.bits for name, how in told.packed.items() if how.bits is not None}
    grids = {name: list(how.grid) for name, how in told.packed.items() if how.grid is not None and how.bits is None}
    books = {name: (how.centroids - 1).bit_length() for name, how in told.packed.items() if how.centroids}
    text = _text(shapes, bits or None, grids or None, books or None, told.coded, brief=bool(told.same) or told.short)
    same = {name: [list(shape), number] for name, (shape, number) in told.same.items()}
    return _json(text | ({"same": same} if same else {}) | ({"short": True} if told.short else {}))


def told_of(text: str) -> Told:
    """The inverse of `metadata`; a `ValueError` if that is not what it is."""
    forms, coded, same, short = described(text)
    numbers = {name: (array.shape, array.flat[0].item()) for name, array in same.items()}
    return Told({name: Packed(*how) for name, how in forms.items()}, coded, numbers, short)


def frame_bytes(
    *, integers: bool = False, grids: bool = False, books: bool = False, coded: bool = False, brief: bool = False
) -> int:
    """Bytes of a packed file that belong to no tensor: the length of the header, its padding, the note.

    With `integers` for a file that may have tensors of integers, with `grids` of fewer than 3 bits, with `books` of
    codebooks, with `coded` in entropy codes, with `brief` of one number or in bfloat16: longer notes.
    """
    bits: dict[str, int] | None = {} if integers or grids else None
    text = _text({}, bits, {} if grids else None, {} if books else None, coded, brief=brief)
    more: dict[str, Any] = {"same": {}, "short": True} if brief else {}
    return 8 + 7 + len(_json({"__metadata__": {KEY: _json(text | more)}}))


def line_bytes(name: str, dtype: str, shape: Sequence[int], end: int) -> int:
    """The characters of a tensor's entry in the header, its comma included; no offset is higher than `end`."""
    return len(_json({name: {"dtype": dtype, "shape": list(shape), "data_offsets": [end, end]}})) - 1


@dataclass(frozen=True)
class HeaderBound:
    """Bounds what entries of a header take that is yet to be written."""

    end: int
    """No offset of the file is higher."""
    share: float = 1.0
    """What is left of each entry where the header is compressed."""

    @classmethod
    def compressed(cls, tensors: Mapping[str, Tensor], end: int) -> HeaderBound:
        """That of a file which compresses its header (`packing.folded`), as it does where it becomes shorter so.

        The share is `MARGIN` times that of the entries of `tensors` as they are, whose names are those of the file's.
        """
        entries = "".join(
            _json(
                {name: {"dtype": "F32", "shape": list(tensor.shape), "data_offsets": [end // (i + 1), end // (i + 2)]}}
            )
            for i, (name, tensor) in enumerate(tensors.items())
        ).encode()
        return cls(end, min(1.0, MARGIN * len(zlib.compress(entries, 9)) / max(len(entries), 1)))

    def line(self, name: str, dtype: str, shape: Sequence[int]) -> int:
        """Of a tensor's entry."""
        return math.ceil(self.share * line_bytes(name, dtype, shape, self.end))

    def told(self, name: str, packed: Packed) -> int:
        """Of what the metadata say of a tensor."""
        return math.ceil(self.share * told_bytes(name, packed))


def same_bytes(name: str, same: Same) -> int:
    """The characters that a tensor of one number adds to the metadata."""
    shape, number = same
    return len(_json(_json({name: [list(shape), number]}))) - 3


def told_bytes(name: str, packed: Packed) -> int:
    """The characters that one more tensor adds to the metadata."""
    told = [_json({name: list(packed.shape)})]
    if packed.grid is not None:
        told.append(_json({name: list(packed.grid) if packed.bits is None else packed.bits}))
    if packed.centroids:
        told.append(_json({name: 8}))
    return sum(len(_json(text)) - 3 for text in told)  # a comma for two quotes and two braces


def _text(
    shapes: Mapping[str, list[int]],
    bits: Mapping[str, int] | None,
    grids: Mapping[str, list[int]] | None,
    books: Mapping[str, int] | None,
    coded: bool,
    *,
    brief: bool,
) -> dict[str, Any]:
    note = NOTE + NOTE_OF_INTEGERS * (bits is not None or grids is not None)
    note += NOTE_OF_GRIDS * (grids is not None) + NOTE_OF_BOOKS * (books is not None) + NOTE_OF_CODED * coded
    found = (("bits", bits), ("grids", grids), ("books", books))
    more = {key: value for key, value in found if value is not None}
    coding = {"coded": True} if coded else {}
    return {"note": note + NOTE_OF_BRIEF * brief, "shapes": shapes, **more, **coding}


def _json(value: object) -> str:
    return json.dumps(value, separators=(",", ":"))

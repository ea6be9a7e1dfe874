"""Bytes of a safetensors file that are no numbers: its header, and what belongs to no tensor."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from math import prod

FRAME_BYTES = 8 + len("{}") - 1 + 8
"""The length of the header, braces, less the comma that the last tensor does not need, and what aligns it at most."""


def header_bytes(shapes: Mapping[str, Sequence[int]]) -> dict[str, int]:
    """Bound what each tensor takes in a safetensors header, if it or others are smaller or gone: name -> bytes."""
    end = 8 * sum(prod(shape) for shape in shapes.values())
    entries = {
        name: {"dtype": "BF16", "shape": list(shape), "data_offsets": [end, end]} for name, shape in shapes.items()
    }
    return {name: len(json.dumps({name: entry}, separators=(",", ":"))) - 1 for name, entry in entries.items()}

"""An update: the few bytes that make one file of weights into another that the receiver does not have yet.

Tensors that are the same are left out. Of integers the difference is sent, of other numbers the exclusive or of their
bits, byte by byte, each row of bytes entropy coded (`search_spaces.codecs.streams`). The update names both files by
their SHA-256: it is refused on another file than the one it is for, and what it makes is handed out only if it is right
to the last bit. An update is made and applied once before it is returned; where the new file cannot be made so, or is
shorter whole, the update holds it whole.
"""

from __future__ import annotations

import hashlib
import json
import struct
import tempfile
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from safetensors.torch import save
from torch import Tensor

from automl.errors import ExportError
from automl.export.packed import unpack
from search_spaces.codecs import packing, reader
from search_spaces.codecs.integers import integers_of
from search_spaces.codecs.reader import SCALE
from search_spaces.codecs.streams import stream

MAGIC = b"AUPD1\n"
_UNREADABLE = (
    *(ValueError, KeyError, TypeError, IndexError, AttributeError, OverflowError, RuntimeError, StopIteration),
    *(zlib.error, struct.error),
)
"""What reading bytes that are no update raises."""
INTEGERS = "integers"
_DTYPES = {name: getattr(torch, name) for name in ("float32", "int64", "int32", "uint8", "bool")}
Rows = npt.NDArray[np.uint8]
_FORMS: dict[str, Callable[[dict[str, Tensor]], bytes]] = {"packed": packing.pack, "plain": save}
"""How the receiver writes the file."""
LARGEST = 2**31
"""Bytes that the new file may have: an update that says more is refused."""


@dataclass(frozen=True)
class _Part:
    """A tensor as rows of bytes."""

    kind: str
    """`integers` times a scale, or the type of its numbers."""
    shape: tuple[int, ...]
    rows: Rows
    """[bytes of a number, numbers] uint8."""

    @property
    def entry(self) -> list[Any]:
        """What the header says of it."""
        return [self.kind, list(self.shape)]


def make_update(old: str | Path, new: str | Path) -> bytes:
    """What turns the file of weights `old` into `new`, both safetensors files, packed or not.

    Errors: `ExportError` for a file that cannot be read.
    """
    before, after = _content(old), _content(new)
    whole = _framed({"from": _sha256(before), "to": _sha256(after)}, zlib.compress(after, 9))
    try:
        tensors = unpack(Path(new))
        form = next(name for name, write in _FORMS.items() if write(tensors) == after)
        small = _difference({"from": _sha256(before), "to": _sha256(after), "form": form}, unpack(Path(old)), tensors)
        right = len(small) < len(whole) and _made(small, before) == after
    except (ValueError, KeyError, StopIteration):  # numbers of a type that stands in no update, another way to write
        right = False
    return small if right else whole


def apply_update(old: str | Path, update: bytes) -> bytes:
    """The content of the new file, from the old one and an update.

    Errors: `ExportError` for what is no update, or that of another file, or one that does not come to what it says.
    """
    before = _content(old)
    try:
        header, _ = _taken_apart(update)
        if header["from"] != _sha256(before):
            raise ExportError(
                f"this update is for a file with the checksum {str(header['from'])[:16]}..., and {old} has "
                f"{_sha256(before)[:16]}...: apply it to the file that it was made from"
            )
        after = _made(update, before)
        found, wanted = _sha256(after), header["to"]
    except _UNREADABLE as error:
        raise ExportError(f"this is no update that can be read: {error}. Send it again") from error
    if found != wanted:
        raise ExportError("the update does not come to the file that it names, so nothing was made: send it again")
    return after


def _difference(header: dict[str, Any], before: Mapping[str, Tensor], after: Mapping[str, Tensor]) -> bytes:
    old, new = _parts(before), _parts(after)
    if list(new) != list(old) or any(new[name].entry != old[name].entry for name in new):
        header["tensors"] = {name: part.entry for name, part in new.items()}
    changed, body = [], []
    for place, (name, part) in enumerate(new.items()):
        rows = _against(part, old.get(name))
        if rows is None:
            continue
        changed.append(place)
        body += [stream(row, 256, coded=True).write().numpy().tobytes() for row in rows]
    header["changed"] = changed
    lengths = struct.pack(f"<{len(body)}I", *map(len, body))
    packed = zlib.compress(lengths, 9)
    return _framed(header, struct.pack("<I", len(packed)) + packed + b"".join(body))


def _made(update: bytes, before: bytes) -> bytes:
    """The new file."""
    header, body = _taken_apart(update)
    if "changed" not in header:
        return _inflated(body)
    old = _parts(_unpacked(before))
    entries = header.get("tensors") or {name: part.entry for name, part in old.items()}
    (length,) = struct.unpack_from("<I", body)
    packed = _inflated(body[4 : 4 + length])
    lengths = iter(struct.unpack(f"<{len(packed) // 4}I", packed))
    at, changed = 4 + length, set(header["changed"])
    new: dict[str, _Part] = {}
    for place, (name, (kind, told)) in enumerate(entries.items()):
        shape = tuple(told)
        known = old.get(name)
        if place not in changed:
            if known is None:
                raise ValueError(f"nothing is known of {name}")
            new[name] = known
            continue
        size, count = 1 if kind == INTEGERS else _DTYPES[kind].itemsize, int(np.prod(shape, dtype=np.int64))
        rows = []
        for _ in range(size):
            end = at + next(lengths)
            rows.append(reader.symbols_of(np.frombuffer(body[at:end], dtype=np.uint8), count, 256))
            at = end
        found = np.stack(rows).reshape(size, count)
        new[name] = _Part(kind, shape, _from(found, kind, known, shape))
    return _FORMS[header["form"]](_tensors(new))


def _against(part: _Part, known: _Part | None) -> Rows | None:
    """The rows that are sent, [bytes, numbers]; None if nothing changed."""
    if known is None or known.entry != part.entry:
        return part.rows
    if np.array_equal(known.rows, part.rows):
        return None
    return part.rows - known.rows if part.kind == INTEGERS else part.rows ^ known.rows


def _from(rows: Rows, kind: str, known: _Part | None, shape: tuple[int, ...]) -> Rows:
    """The inverse of `_against`."""
    if known is None or (known.kind, known.shape) != (kind, shape):
        return rows
    return rows + known.rows if kind == INTEGERS else rows ^ known.rows


def _parts(tensors: Mapping[str, Tensor]) -> dict[str, _Part]:
    """Tensors as rows of bytes, in their order. A `KeyError` for a type of number that stands in no update."""
    parts = {}
    for name, tensor in tensors.items():
        scale = tensors.get(name + SCALE)
        integers = integers_of(tensor, scale) if scale is not None else None
        if integers is not None:
            rows = integers.numpy().view(np.uint8).reshape(1, -1)
            parts[name] = _Part(INTEGERS, tuple(tensor.shape), rows)
            continue
        kind = str(tensor.dtype).removeprefix("torch.")
        size = _DTYPES[kind].itemsize
        raw = tensor.detach().contiguous().reshape(-1).numpy().view(np.uint8)
        parts[name] = _Part(kind, tuple(tensor.shape), np.ascontiguousarray(raw.reshape(-1, size).T))
    return parts


def _tensors(parts: Mapping[str, _Part]) -> dict[str, Tensor]:
    """The inverse of `_parts`."""
    tensors: dict[str, Tensor] = {}
    for name, part in parts.items():
        raw = torch.from_numpy(np.ascontiguousarray(part.rows.T).reshape(-1))
        if part.kind != INTEGERS:
            tensors[name] = raw.view(_DTYPES[part.kind]).reshape(part.shape)
    for name, part in parts.items():
        if part.kind == INTEGERS:
            scale = tensors[name + SCALE].view(-1, *[1] * (len(part.shape) - 1))
            integers = torch.from_numpy(part.rows.reshape(-1).view(np.int8)).reshape(part.shape)
            tensors[name] = integers.float() * scale
    return {name: tensors[name] for name in parts}


def _framed(header: Mapping[str, Any], body: bytes) -> bytes:
    told = zlib.compress(json.dumps(header, separators=(",", ":")).encode(), 9)
    return MAGIC + struct.pack("<I", len(told)) + told + body


def _taken_apart(update: bytes) -> tuple[dict[str, Any], bytes]:
    """The header of an update and what follows it."""
    if not update.startswith(MAGIC):
        raise ValueError("it does not begin as one")
    (length,) = struct.unpack_from("<I", update, len(MAGIC))
    start = len(MAGIC) + 4
    header = json.loads(_inflated(update[start : start + length]))
    if not isinstance(header, dict):
        raise ValueError("it has no header")
    return header, update[start + length :]


def _inflated(content: bytes) -> bytes:
    packer = zlib.decompressobj()
    made = packer.decompress(content, LARGEST)
    if not packer.eof:
        raise ValueError("what was compressed is not whole")
    return made


def _unpacked(content: bytes) -> dict[str, Tensor]:
    """The tensors of a file of weights, from its content."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "old.safetensors"
        path.write_bytes(content)
        return unpack(path)


def _content(path: str | Path) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise ExportError(f"cannot read the weights in {path}: {error}. Name a safetensors file") from error


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()

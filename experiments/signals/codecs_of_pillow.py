"""What Pillow's codecs make of a picture in so many bytes: the best quality that fits."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import chain

import numpy as np
from PIL import Image

from automl.signals.signal import psnr, ssim

SCALES = (1, 0.75, 0.5, 0.375, 0.25, 0.1875, 0.125, 0.0625)


@dataclass(frozen=True)
class Best:
    """The best file within a number of bytes."""

    size_bytes: int
    psnr: float
    ssim: float
    how: str
    header_bytes: int = 0
    """Of JPEG: everything before the coded picture."""


def jpeg(pixels: np.ndarray, most: int) -> Best | None:
    """Optimized Huffman tables, with and without subsampled colours."""
    return best(pixels, (_jpegs(Image.fromarray(pixels), most),), most)


def jpeg_scaled(pixels: np.ndarray, most: int) -> Best | None:
    """The same, also of smaller pictures that are scaled up again after decoding."""
    return best(pixels, (_jpegs(small, most, 5) for small in _smaller(pixels)), most)


def webp(pixels: np.ndarray, most: int) -> Best | None:
    """Lossy WebP, the slowest method."""
    image = Image.fromarray(pixels)
    return best(pixels, (_rising(lambda q: _saved(image, "WEBP", quality=q, method=6), range(0, 101, 2), most),), most)


def png(pixels: np.ndarray, most: int) -> Best | None:
    """Few colours, and smaller pictures that are scaled up again: what a lossless codec can be brought to."""
    return best(pixels, (_pngs(small) for small in _smaller(pixels)), most)


def best(pixels: np.ndarray, attempts: Iterable[Iterator[tuple[str, bytes]]], most: int) -> Best | None:
    """The best of the files of a picture that take at most `most` bytes; None if none does."""
    found = None
    for how, content in chain.from_iterable(attempts):
        if len(content) > most:
            continue
        with Image.open(io.BytesIO(content)) as opened:
            back = opened.convert("RGB")
        if back.size != (pixels.shape[1], pixels.shape[0]):
            back = back.resize((pixels.shape[1], pixels.shape[0]), Image.Resampling.BICUBIC)
        one, two = np.asarray(back) / 255, pixels / 255
        quality = psnr(one, two)
        if found is None or quality > found.psnr:
            header = content.find(b"\xff\xda") + 14 if content[:2] == b"\xff\xd8" else 0
            found = Best(len(content), quality, ssim(one, two), how, header)
    return found


def _rising(saved: Callable[[int], bytes], qualities: Iterable[int], most: int) -> Iterator[tuple[str, bytes]]:
    """The files of rising quality, until two in a row are too large: sizes nearly always rise."""
    over = 0
    for quality in qualities:
        content = saved(quality)
        over = over + 1 if len(content) > most else 0
        yield str(quality), content
        if over == 2:
            return


def _jpegs(image: Image.Image, most: int, every: int = 1) -> Iterator[tuple[str, bytes]]:
    for subsampling in (0, 2):
        saved = partial(_saved, image, "JPEG", subsampling=subsampling, optimize=True)
        for quality, content in _rising(lambda q, saved=saved: saved(quality=q), range(1, 96, every), most):
            yield f"{image.width} px, quality {quality}, subsampling {subsampling}", content


def _pngs(image: Image.Image) -> Iterator[tuple[str, bytes]]:
    for colours in (4, 8, 16, 64):
        palette = image.quantize(colours, dither=Image.Dither.NONE)
        yield f"{image.width} px, {colours} colours", _saved(palette, "PNG", optimize=True)


def _smaller(pixels: np.ndarray) -> Iterator[Image.Image]:
    image = Image.fromarray(pixels)
    for scale in SCALES:
        side = max(round(image.width * scale), 1)
        yield image.resize((side, side), Image.Resampling.LANCZOS)


def _saved(image: Image.Image, form: str, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, form, **options)
    return file.getvalue()

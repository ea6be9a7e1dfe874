"""What Pillow's codecs make of a picture in so many bytes: the best quality that fits."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import product

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
    return best(pixels, most, _jpegs)


def jpeg_scaled(pixels: np.ndarray, most: int) -> Best | None:
    """The same, also of a smaller picture that is scaled up again after decoding."""
    return best(pixels, most, lambda image: _scaled(image, _jpegs, (2, 8, 20, 45, 75)))


def webp(pixels: np.ndarray, most: int) -> Best | None:
    """Lossy WebP, the slowest method."""
    return best(pixels, most, lambda image: ((q, _saved(image, "WEBP", quality=q, method=6)) for q in range(0, 101, 3)))


def png(pixels: np.ndarray, most: int) -> Best | None:
    """A palette, and a smaller picture that is scaled up again: what a lossless codec can be brought to."""
    return best(pixels, most, lambda image: _scaled(image, _pngs, None))


def best(pixels: np.ndarray, most: int, files: Callable[[Image.Image], Iterator[tuple[object, bytes]]]) -> Best | None:
    """The best of the files of a picture that take at most `most` bytes; None if none does."""
    image, found = Image.fromarray(pixels), None
    for how, content in files(image):
        if len(content) > most:
            continue
        with Image.open(io.BytesIO(content)) as opened:
            back = opened.convert("RGB")
        if back.size != image.size:
            back = back.resize(image.size, Image.Resampling.BICUBIC)
        one, two = np.asarray(back) / 255, pixels / 255
        quality = psnr(one, two)
        if found is None or quality > found.psnr:
            header = content.find(b"\xff\xda") + 14 if content[:2] == b"\xff\xd8" else 0
            found = Best(len(content), quality, ssim(one, two), str(how), header)
    return found


def _jpegs(image: Image.Image, qualities: object = None) -> Iterator[tuple[object, bytes]]:
    for quality, subsampling in product(qualities or range(1, 96), (0, 2)):
        yield (quality, subsampling), _saved(image, "JPEG", quality=quality, subsampling=subsampling, optimize=True)


def _pngs(image: Image.Image, _: object) -> Iterator[tuple[object, bytes]]:
    for colours in (4, 8, 16, 64):
        palette = image.quantize(colours, dither=Image.Dither.NONE)
        yield colours, _saved(palette, "PNG", optimize=True)
    yield "true colour", _saved(image, "PNG", optimize=True)


def _scaled(image: Image.Image, files: Callable[..., Iterator[tuple[object, bytes]]], qualities: object):
    for scale in SCALES:
        side = max(round(image.width * scale), 1)
        small = image.resize((side, side), Image.Resampling.LANCZOS)
        for how, content in files(small, qualities):
            yield (side, how), content


def _saved(image: Image.Image, form: str, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, form, **options)
    return file.getvalue()

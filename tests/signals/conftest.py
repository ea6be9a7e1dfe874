"""A small picture, as a signal and as a file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

SIDE = 24


def picture(height: int = SIDE, width: int = SIDE) -> np.ndarray:
    """Soft waves in three colours: uint8 [height, width, 3]."""
    y, x = np.mgrid[0 : 1 : height * 1j, 0 : 1 : width * 1j]
    waves = [np.sin(7 * x + 3 * y), np.cos(5 * x * y + 1), np.sin(4 * y - 2 * x)]
    return np.rint(127.5 + 100 * np.stack(waves, -1)).astype(np.uint8)


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    """`picture()` in a file."""
    path = tmp_path / "photo.png"
    Image.fromarray(picture()).save(path)
    return path

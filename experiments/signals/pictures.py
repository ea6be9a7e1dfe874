"""Ten photographs that packages ship, as squares: the middle of each, scaled.

scikit-image's wheel has seven of them (unpack it anywhere, `pip install --no-deps --target DIR scikit-image`),
scikit-learn two, Matplotlib one.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import numpy as np
from PIL import Image

FILES = {
    "astronaut": ("skimage", "data/astronaut.png"),
    "chelsea": ("skimage", "data/chelsea.png"),
    "coffee": ("skimage", "data/coffee.png"),
    "rocket": ("skimage", "data/rocket.jpg"),
    "motorcycle": ("skimage", "data/motorcycle_left.png"),
    "retina": ("skimage", "data/retina.jpg"),
    "hubble": ("skimage", "data/hubble_deep_field.jpg"),
    "china": ("sklearn", "datasets/images/china.jpg"),
    "flower": ("sklearn", "datasets/images/flower.jpg"),
    "hopper": ("matplotlib", "mpl-data/sample_data/grace_hopper.jpg"),
}
"""Name -> package, file."""


def picture(name: str, side: int) -> np.ndarray:
    """The square in the middle of a photograph, scaled to `side` pixels: uint8 [side, side, 3]."""
    package, file = FILES[name]
    found = find_spec(package)
    if found is None or found.origin is None:
        raise SystemExit(f"{name} comes with the package {package}: put it on the path")
    with Image.open(Path(found.origin).parent / file) as opened:
        image = opened.convert("RGB")
    width, height = image.size
    short = min(width, height)
    left, top = (width - short) // 2, (height - short) // 2
    return np.asarray(image.crop((left, top, left + short, top + short)).resize((side, side), Image.Resampling.LANCZOS))

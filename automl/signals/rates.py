"""How many bytes a signal may take: `0.5 bpp` of each point, or a number of bytes."""

from __future__ import annotations

import re

from automl.errors import ConfigError
from automl.signals.signal import Signal

UNITS = {"b": 1, "byte": 1, "bytes": 1, "kb": 1000, "mb": 1_000_000}
"""Unit, in small letters -> bytes."""


def bytes_within(budget: str, signal: Signal) -> int:
    """The most bytes of a file that keeps `budget`: `0.5 bpp`, bits for each point, or `600 B`, `2 KB`, `1 MB`.

    Errors: `ConfigError`.
    """
    found = re.fullmatch(r"\s*(?:<=\s*)?([0-9]*\.?[0-9]+)\s*([a-zA-Z]+)\s*", budget)
    number, unit = (float(found[1]), found[2].lower()) if found else (0.0, "")
    if number <= 0 or unit not in ("bpp", *UNITS):
        raise ConfigError(f"expected a budget such as '0.5 bpp', '600 B' or '2 KB', got {budget!r}")
    return int(number * signal.points / 8 if unit == "bpp" else number * UNITS[unit])

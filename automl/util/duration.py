"""A time span in words, and in seconds."""

from __future__ import annotations

import re

from automl.errors import ConfigError

_UNITS = {"s": 1, "m": 60, "min": 60, "h": 3600}
_PART = re.compile(r"(\d+(?:\.\d+)?)\s*(min|h|m|s)\s*")


def duration(seconds: float) -> str:
    """A time span for people: `0.4 s`, `12 s`, `3:05 min`, `2:10 h`."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    if seconds < 100:
        return f"{seconds:.0f} s"
    minutes = seconds / 60
    return (
        f"{int(minutes)}:{int(seconds % 60):02d} min"
        if minutes < 100
        else f"{int(minutes // 60)}:{int(minutes % 60):02d} h"
    )


def seconds_of(text: str) -> float:
    """The seconds of `90s`, `30m` (or `30 min`), `2h`, `1h30m`. Errors: `ConfigError`."""
    parts = _PART.findall(text)
    if not parts or "".join(_PART.sub("", text).split()):
        raise ConfigError(f"expected a time, for example 90s, 30m, 2h or 1h30m, got {text!r}")
    return float(sum(float(number) * _UNITS[unit] for number, unit in parts))

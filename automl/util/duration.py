"""A time span in words."""

from __future__ import annotations


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

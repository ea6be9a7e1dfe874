"""Numbers as people read them."""

from __future__ import annotations


def shown(cost: float) -> str:
    """A count whole, a time in ms to the microsecond."""
    return f"{cost:,.0f}" if cost >= 1000 else f"{round(cost, 3):,.12g}"


def in_unit(value: float, unit: str) -> str:
    """`value` as people read it: `91.20%` of a rate, `0.1234` of anything else."""
    return f"{value:.2%}" if unit == "%" else f"{value:.4g}"


def short(value: float) -> str:
    """A count to three or four digits: `1.23 M`."""
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:.2f} {letter}"
    return f"{value:.0f}"


def in_bytes(value: float) -> str:
    """A size: `1.23 MB`, `120.5 KB`."""
    return f"{value / 1e6:.2f} MB" if value >= 1e6 else f"{value / 1e3:.1f} KB"


def with_error(value: float, spread: float | None, *, percent: bool = False) -> str:
    """A value to the digits that its standard error leaves: `91.23 ±0.41 %`, `0.4125 ±0.0031`."""
    scale, digits, ending = (100, 2, " %") if percent else (1, 4, "")
    text = f"{value * scale:.{digits}f}"
    return f"{text}{'' if spread is None else f' ±{spread * scale:.{digits}f}'}{ending}"

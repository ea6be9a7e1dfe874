"""Widths of integers in a packed file."""

from __future__ import annotations

WIDTHS = (4, 8)
"""Bits that a file is written with. Any from 2 to 8 can be read."""

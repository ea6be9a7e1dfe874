"""Text in columns."""

from __future__ import annotations

import shutil
import sys
import textwrap
from collections.abc import Collection, Sequence

WIDEST = 40
"""How wide a column may be that is shortened to make room."""


def terminal_width() -> int | None:
    """How many characters a line of the terminal has; None where output goes elsewhere, which takes any."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


def align(lines: Sequence[Sequence[str]], left: Collection[int] = (0,)) -> str:
    """Cells in columns, those of `left` to the left, the others to the right; a rule below the first line."""
    lines = [line if "".join(line).isprintable() else [printable(cell) for cell in line] for line in lines]
    widths = _widths(lines)
    form = "  ".join(f"{{:{'<' if i in left else '>'}{width}}}" for i, width in enumerate(widths))
    texts = [form.format(*line).rstrip() for line in lines]
    return "\n".join([texts[0], "-" * max(map(len, texts)), *texts[1:]])


def _widths(lines: Sequence[Sequence[str]]) -> list[int]:
    """The longest cell of each column."""
    return [max(map(len, column)) for column in zip(*lines, strict=True)]


def fitted(lines: Sequence[Sequence[str]], width: int | None, left: Collection[int] = (0,)) -> str:
    """Like `align`, in lines of at most `width`; None for as wide as they are.

    The longest texts are shortened first, then the last columns are left out, which a last line names. The first column
    stays, shortened if it must be.
    """
    if width is None:
        return align(lines, left)
    widths = _widths(lines)
    kept, room = [0], width - min(widths[0], WIDEST)
    for i in range(1, len(widths)):
        needed = 2 + min(widths[i], WIDEST)
        if needed > room:
            break
        kept.append(i)
        room -= needed
    most = {i: min(widths[i], WIDEST, width) for i in kept}
    for i in kept:  # what room there is goes to the columns that were shortened
        more = min(widths[i] - most[i], max(0, room))
        most[i], room = most[i] + more, room - more
    text = align([[_shortened(line[i], most[i]) for i in kept] for line in lines], left)
    gone = [lines[0][i] for i in range(len(widths)) if i not in kept]
    return text if not gone else "\n".join([text, *textwrap.wrap(printable(f"not shown: {', '.join(gone)}"), width)])


def _shortened(text: str, width: int) -> str:
    return text if len(text) <= width else f"{text[: max(0, width - 1)]}…"


def printable(text: str, keep: str = "") -> str:
    """The text without what would steer a terminal, `keep` apart: it may come from a database of somebody else's."""
    if text.isprintable():
        return text
    return "".join(letter if letter.isprintable() or letter in keep else "\N{REPLACEMENT CHARACTER}" for letter in text)

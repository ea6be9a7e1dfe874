"""Text in columns."""

from __future__ import annotations

from collections.abc import Collection, Sequence


def align(lines: Sequence[Sequence[str]], left: Collection[int] = (0,)) -> str:
    """Cells in columns, those of `left` to the left, the others to the right; a rule below the first line."""
    lines = [[printable(cell) for cell in line] for line in lines]
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    texts = []
    for line in lines:
        cells = enumerate(zip(line, widths, strict=True))
        texts.append("  ".join(cell.ljust(w) if i in left else cell.rjust(w) for i, (cell, w) in cells).rstrip())
    return "\n".join([texts[0], "-" * max(map(len, texts)), *texts[1:]])


def printable(text: str, keep: str = "") -> str:
    """The text without what would steer a terminal, `keep` apart: it may come from a database of somebody else's."""
    return "".join(letter if letter.isprintable() or letter in keep else "\N{REPLACEMENT CHARACTER}" for letter in text)

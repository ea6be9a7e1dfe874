"""`automl decode photo.inr --out back.png`: the signal that a file holds, at any resolution."""

from __future__ import annotations

import argparse


def arguments(parser: argparse.ArgumentParser) -> None:
    """The file, what is written, and how large."""
    parser.add_argument("source", metavar="FILE", help="a file .inr")
    parser.add_argument("--out", metavar="FILE", required=True, help="a picture, .wav or .npy")
    parser.add_argument("--size", metavar="AxB", help="lengths of the axes, height first: 512x768 (default: as it was)")
    parser.add_argument("--start", metavar="FILE", help="the file that this one is a difference from")


def run(args: argparse.Namespace) -> int:
    """Decode the signal and write it."""
    from automl.signals.encode_file import decode

    found = decode(args.source, args.out, size=_size(args.size), start=args.start)
    print(f"{args.out}: {' x '.join(map(str, found.shape))}, {found.dtype}")
    return 0


def _size(text: str | None) -> tuple[int, ...] | None:
    """The lengths of the axes. Errors: `ConfigError`."""
    from automl.errors import ConfigError

    if text is None:
        return None
    parts = text.lower().split("x")
    if not all(part.isdecimal() and int(part) for part in parts):
        raise ConfigError(f"expected a size such as 512x768, height first, got {text!r}")
    return tuple(int(part) for part in parts)

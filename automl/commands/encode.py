"""`automl encode photo.png --budget "0.5 bpp" --out photo.inr`: a picture, sound or array as a small network."""

from __future__ import annotations

import argparse
import sys

from automl.commands.options import add_storage, positive

LINE_EVERY = 500
"""Steps between two lines of progress."""


def arguments(parser: argparse.ArgumentParser) -> None:
    """The signal, the budget, the file, and how the network is made."""
    add_storage(parser)
    parser.add_argument("source", metavar="FILE", help="a picture, a sound (.wav) or an array (.npy)")
    parser.add_argument("--budget", metavar="TEXT", help="of the whole file: '0.5 bpp', '600 B', '2 KB'")
    parser.add_argument("--out", metavar="FILE", required=True, help="the file to write, .inr")
    parser.add_argument(
        "--way", choices=("quantized", "coin", "l0onie"), default="quantized", help="how weights are stored"
    )
    parser.add_argument("--width", type=positive, metavar="N", help="sines of a layer (default: as many as fit)")
    parser.add_argument("--depth", type=positive, metavar="N", help="layers of sines (default: by the budget)")
    parser.add_argument("--bits", type=float, metavar="B", help="of a weight on the average (default: 6)")
    parser.add_argument(
        "--features", type=int, default=0, metavar="N", help="Fourier features of each axis (default: none)"
    )
    parser.add_argument(
        "--rounding", choices=("nearest", "adaround", "trained", "both"), default="trained", help="of the weights"
    )
    parser.add_argument(
        "--start", metavar="FILE", help="a file of learn-start, or .inr, to begin with; the difference is stored"
    )
    parser.add_argument("--axes", type=positive, metavar="N", help="of an array: the grid; one more is of channels")
    parser.add_argument("--steps", type=positive, default=5000, metavar="N", help="of the fit (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, metavar="S", help="of the first weights")
    parser.add_argument(
        "--search", type=positive, metavar="N", help="search the shape in N trials, as a study in the database"
    )
    parser.add_argument("--name", metavar="NAME", help="of that study (default: that of the file)")


def run(args: argparse.Namespace) -> int:
    """Encode the signal, and say what comes back."""
    from automl.signals.encode_file import BITS, encode

    encoded = encode(
        args.source,
        args.budget,
        args.out,
        way=args.way,
        width=args.width,
        depth=args.depth,
        bits=BITS if args.bits is None else args.bits,
        frequencies=args.features,
        rounding=args.rounding,
        start=args.start,
        axes=args.axes,
        steps=args.steps,
        seed=args.seed,
        search=args.search or 0,
        storage=args.storage,
        name=args.name,
        tell=_tell,
        say=_say,
    )
    print(f"{args.out}: {encoded.told}")
    return 0


def _tell(step: int, psnr: float) -> None:
    if step % LINE_EVERY == 0:
        print(f"step {step}: {psnr:.2f} dB", file=sys.stderr)


def _say(text: str) -> None:
    print(text, file=sys.stderr)

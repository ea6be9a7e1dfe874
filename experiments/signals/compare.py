"""Rate against quality: networks that draw pictures beside JPEG, WebP and PNG at the same bytes.

    python -m experiments.signals.compare run NAME... --sides 128 256 --bpp 0.25 [--way quantized --steps 5000]
    python -m experiments.signals.compare codecs NAME... --sides 128 256 --bpp 0.25
    python -m experiments.signals.compare show

Every result is a line of `found.jsonl`; one that is there is not made again.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator
from dataclasses import asdict
from itertools import product
from pathlib import Path

import torch

from automl.signals.encode_file import encode
from experiments.signals import codecs_of_pillow
from experiments.signals.pictures import FILES, picture

FOUND = Path(__file__).with_name("found.jsonl")
CODECS = ("jpeg", "jpeg_scaled", "webp", "png")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("run", "codecs", "show"))
    parser.add_argument("names", nargs="*", default=[])
    parser.add_argument("--sides", type=int, nargs="+", default=[128])
    parser.add_argument("--bpp", type=float, default=0.25)
    parser.add_argument("--way", default="quantized")
    parser.add_argument("--steps", type=int, default=5000)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    if args.what == "show":
        show()
        return
    torch.set_num_threads(1)
    made = codecs if args.what == "codecs" else networks
    for name, side in product(args.names or FILES, args.sides):
        for row in made(name, side, args):
            with FOUND.open("a") as file:
                file.write(json.dumps(row) + "\n")
            print(row, flush=True)


def rows() -> list[dict]:
    return [json.loads(line) for line in FOUND.read_text().splitlines()] if FOUND.exists() else []


def asked(name: str, side: int, args: argparse.Namespace, by: str) -> dict | None:
    """What a result is of; None if it is there."""
    what = {"picture": name, "side": side, "bpp": args.bpp, "by": by, "seed": args.seed if by not in CODECS else 0}
    return None if any(what.items() <= row.items() for row in rows()) else what


def networks(name: str, side: int, args: argparse.Namespace) -> Iterator[dict]:
    what = asked(name, side, args, args.way)
    if what is None:
        return
    began = time.process_time()
    encoded = encode(picture(name, side), f"{args.bpp} bpp", way=args.way, steps=args.steps, seed=args.seed)
    layout = encoded.network.layout
    yield what | {
        "bytes": len(encoded.content),
        "psnr": round(encoded.psnr, 3),
        "ssim": round(encoded.ssim, 4),
        "float_psnr": round(encoded.float_psnr, 3),
        "network": f"{layout.depth}x{layout.width}",
        "steps": args.steps,
        "cpu_s": round(time.process_time() - began, 1),
    }


def codecs(name: str, side: int, args: argparse.Namespace) -> Iterator[dict]:
    pixels = picture(name, side)
    for codec in CODECS:
        what = asked(name, side, args, codec)
        if what is None:
            continue
        found = getattr(codecs_of_pillow, codec)(pixels, int(args.bpp * side**2 / 8))
        told = {} if found is None else {key: v for key, v in asdict(found).items() if key != "size_bytes"}
        yield what | ({} if found is None else {"bytes": found.size_bytes}) | _rounded(told)


def _rounded(told: dict) -> dict:
    return {key: round(value, 4) if isinstance(value, float) else value for key, value in told.items()}


def show() -> None:
    """A table for each size and rate, PSNR (dB) and SSIM of every picture."""
    found = rows()
    for side, bpp in sorted({(row["side"], row["bpp"]) for row in found}):
        here = [row for row in found if (row["side"], row["bpp"]) == (side, bpp)]
        ways = sorted({row["by"] for row in here}, key=lambda by: (by in CODECS, by))
        print(f"\n### {side} px, {bpp:g} bpp ({int(bpp * side**2 / 8)} bytes)\n")
        print("| picture | " + " | ".join(ways) + " |\n| --- |" + " --- |" * len(ways))
        for name in FILES:
            cells = []
            for way in ways:
                mine = [row for row in here if (row["picture"], row["by"]) == (name, way)]
                told = [f"{row['psnr']:.2f}, {row['ssim']:.3f}" if "psnr" in row else "none fits" for row in mine[:1]]
                cells.append("".join(told))
            print(f"| {name} | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()

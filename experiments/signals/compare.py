"""Rate against quality: networks that draw pictures beside JPEG, WebP and PNG at the same bytes.

    python -m experiments.signals.compare run NAME... --sides 128 256 --bpp 0.25 --seeds 0 1 2 [--way quantized]
    python -m experiments.signals.compare codecs NAME... --sides 128 256 --bpp 0.25
    python -m experiments.signals.compare show

Every result is a line of `found.jsonl`, with the commit it was made at; one that is there is not made again.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import time
from collections.abc import Iterator
from dataclasses import asdict
from itertools import product
from pathlib import Path

import numpy as np
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
    parser.add_argument("--seeds", type=int, nargs="+", default=[0], help="of networks")
    args = parser.parse_args()
    if args.what == "show":
        show()
        return
    torch.set_num_threads(1)
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True).stdout.strip()
    made = codecs if args.what == "codecs" else networks
    seeds = [0] if args.what == "codecs" else args.seeds
    for seed, side, name in product(seeds, args.sides, args.names or FILES):
        for row in made(name, side, seed, args):
            row["commit"] = commit
            with FOUND.open("a") as file:
                file.write(json.dumps(row) + "\n")
            print(row, flush=True)


def rows() -> list[dict]:
    return [json.loads(line) for line in FOUND.read_text().splitlines()] if FOUND.exists() else []


def asked(name: str, side: int, bpp: float, by: str, seed: int = 0) -> dict | None:
    """What a result is of; None if it is there."""
    what = {"picture": name, "side": side, "bpp": bpp, "by": by, "seed": seed}
    return None if any(what.items() <= row.items() for row in rows()) else what


def networks(name: str, side: int, seed: int, args: argparse.Namespace) -> Iterator[dict]:
    what = asked(name, side, args.bpp, args.way, seed)
    if what is None:
        return
    began = time.process_time()
    encoded = encode(picture(name, side), f"{args.bpp} bpp", way=args.way, steps=args.steps, seed=seed)
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


def codecs(name: str, side: int, seed: int, args: argparse.Namespace) -> Iterator[dict]:
    pixels = picture(name, side)
    for codec in CODECS:
        what = asked(name, side, args.bpp, codec, seed)
        if what is None:
            continue
        found = getattr(codecs_of_pillow, codec)(pixels, int(args.bpp * side**2 / 8))
        told = {} if found is None else {key: v for key, v in asdict(found).items() if key != "size_bytes"}
        yield what | ({} if found is None else {"bytes": found.size_bytes}) | _rounded(told)


def _rounded(told: dict) -> dict:
    return {key: round(value, 4) if isinstance(value, float) else value for key, value in told.items()}


def show() -> None:
    """A table for each size and rate, PSNR (dB) and SSIM of every picture, means over seeds; then wins of each seed."""
    found = rows()
    for side, bpp in sorted({(row["side"], row["bpp"]) for row in found}):
        here = [row for row in found if (row["side"], row["bpp"]) == (side, bpp)]
        ways = sorted({row["by"] for row in here}, key=lambda by: (by in CODECS, by))
        print(f"\n### {side} px, {bpp:g} bpp ({int(bpp * side**2 / 8)} bytes)\n")
        print("| picture | " + " | ".join(ways) + " |\n| --- |" + " --- |" * len(ways))
        for name in FILES:
            cells = (cell([row for row in here if (row["picture"], row["by"]) == (name, way)]) for way in ways)
            print(f"| {name} | " + " | ".join(cells) + " |")
        for way in (way for way in ways if way not in CODECS):
            print(*wins(here, way), sep="\n")


def cell(same: list[dict]) -> str:
    """The mean PSNR of the seeds of one result, its spread, and the mean SSIM."""
    if not same:
        return ""
    if "psnr" not in same[0]:
        return "none fits"
    psnrs = [row["psnr"] for row in same]
    spread = f" ± {np.std(psnrs, ddof=1):.2f}" if len(psnrs) > 1 else ""
    return f"{np.mean(psnrs):.2f}{spread}, {np.mean([row['ssim'] for row in same]):.3f}"


def wins(here: list[dict], way: str) -> Iterator[str]:
    """Over how many pictures networks of each seed are ahead of each codec; one that no file fits is behind."""
    codec = {(row["by"], row["picture"]): row for row in here if row["by"] in CODECS}
    mine = [row for row in here if row["by"] == way]
    for measure, seed in product(("psnr", "ssim"), sorted({row["seed"] for row in mine})):
        own = {row["picture"]: row[measure] for row in mine if row["seed"] == seed}
        ahead = [
            sum(value > codec[by, name].get(measure, -1) for name, value in own.items() if (by, name) in codec)
            for by in CODECS
        ]
        told = ", ".join(f"{by} {count}" for by, count in zip(CODECS, ahead, strict=True))
        yield f"{way}, {measure}, seed {seed}, of {len(own)}: ahead of {told}"


if __name__ == "__main__":
    main()

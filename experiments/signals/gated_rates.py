"""L0onie: twenty rates asked for, and those of the files; beside a dense network of the same bytes.

python -m experiments.signals.gated_rates [--side 48 --steps 600]
"""

from __future__ import annotations

import argparse

import numpy as np
import torch

from automl.signals.encode_file import encode, signal_of
from automl.signals.encoding import Effort
from automl.signals.gated import encode_gated
from experiments.signals.pictures import picture


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--picture", default="coffee")
    parser.add_argument("--side", type=int, default=48)
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--targets", type=int, default=20)
    parser.add_argument("--dense", type=int, default=5, help="beside every so manyth target a dense network is fitted")
    args = parser.parse_args()
    torch.set_num_threads(1)
    pixels = picture(args.picture, args.side)
    signal, effort, misses = signal_of(pixels), Effort(steps=args.steps), []
    print("| asked, bpp | file | off | without the mask | density | PSNR | dense PSNR |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for number, bpp in enumerate(np.geomspace(0.8, 6.0, args.targets)):
        most = int(bpp * signal.points / 8)
        sparse = encode_gated(signal, most, effort)
        size, points = len(sparse.encoded.content), signal.points
        misses.append(1 - size / most)
        dense = encode(pixels, f"{most} B", steps=args.steps).psnr if number % args.dense == 0 else None
        told, bare = f"{dense:.2f}" if dense is not None else "", 8 * (size - sparse.mask_bytes) / points
        rates = f"{8 * most / points:.3f} | {8 * size / points:.3f} | {-misses[-1]:.1%} | {bare:.3f}"
        print(f"| {rates} | {sparse.density:.2f} | {sparse.encoded.psnr:.2f} | {told} |", flush=True)
    print(
        f"\nwithin 2 %: {sum(0 <= miss <= 0.02 for miss in misses)} of {len(misses)}; at most {max(misses):.1%} below"
    )


if __name__ == "__main__":
    main()

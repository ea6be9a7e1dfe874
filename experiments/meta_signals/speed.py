"""Encoding by latents against COIN at equal PSNR, on photographs: processor time until COIN is as good.

    python -m experiments.meta_signals.speed learn --data-root DIR --starts DIR --inner 3 --steps 700
    python -m experiments.meta_signals.speed learn --data-root DIR --starts DIR --inner 1 --steps 2500
    python -m experiments.meta_signals.speed measure NAME... --starts DIR --sides 128 256

A shared network is learnt from CIFAR-10's training images as pieces of 32 x 32 pixels, and photographs of other sources
(`experiments/signals/pictures.py`) are stored as latents of their pieces. COIN is a SIREN fitted to one photograph by
Adam at a constant rate, as its authors have it, until it first has the PSNR of the decoded file of latents: float32,
before it is rounded, which is to its advantage. Looks at all points, where a step has a part of them, are not timed.
"""

from __future__ import annotations

import argparse
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from itertools import product
from pathlib import Path

import torch

from automl.data.sources import source
from automl.signals.encode_file import signal_of
from automl.signals.fitting import Points, squared_error
from automl.signals.latents import EncodedLatents, encode_latents, learn_latents
from automl.signals.learning import OPTIONS
from automl.signals.shapes import HALF_BITS, rule
from automl.signals.signal import Signal, psnr_of_error
from automl.signals.siren import Siren, parameters_of
from automl.signals.start_file import Shape, load_start, save_start
from experiments.meta_signals.digits import keep
from experiments.signals.pictures import picture

SIDE, LATENT, BITS = 32, 128, 5
SHAPE = Shape(2, 3, 48, 3, 15.0)
INNER = (3, 1)
"""Inner steps of the starts that are measured."""
PUBLISHED = (30, 5, 30.0)
"""Width, depth and frequency of a network of COIN's authors."""
RATES = (2e-4, 1e-3, 5e-3)
"""Of Adam, on all points; the first is the authors'."""
POINTS, PART_RATE = 4096, 1e-3
"""Of a step where steps have a part of the points, and its rate: at 5e-3 fits went astray."""
LOOK = 5
"""So many steps lie between looks at all points."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("learn", "measure"))
    parser.add_argument("names", nargs="*", default=[])
    parser.add_argument("--data-root", help="folder with CIFAR-10's published files")
    parser.add_argument("--starts", type=Path, required=True, help="folder where shared networks are kept")
    parser.add_argument("--sides", type=int, nargs="+", default=[128])
    parser.add_argument("--times", type=float, default=100.0, help="COIN is given up after so many times the slower's")
    parser.add_argument("--inner", type=int, default=3, help="steps that fit one piece")
    parser.add_argument("--steps", type=int, default=700, help="outer steps")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    torch.set_num_threads(1)
    if args.what == "learn":
        learn(args)
    else:
        measure(args)


def learn(args: argparse.Namespace) -> None:
    cifar = source("cifar10")
    pixels = torch.from_numpy(cifar.read(cifar.locate(args.data_root), "train")[0])  # uint8 [n, 3, 32, 32]
    pieces = (pixels.float() / 255).flatten(2).transpose(1, 2).contiguous()
    options = replace(OPTIONS["latent"], inner_steps=args.inner, inner_rate=1.0, outer_steps=args.steps)
    options = replace(options, batch=16, points=256, seed=args.seed)
    began = time.process_time()
    start = learn_latents(pieces, (SIDE, SIDE), SHAPE, LATENT, BITS, options)
    save_start(start, args.starts / f"latents-{args.inner}-{args.seed}.npz")
    told = {"inner": args.inner, "steps": args.steps, "seed": args.seed, "cpu_s": time.process_time() - began}
    keep({"what": "speed learnt", **told})


def measure(args: argparse.Namespace) -> None:
    starts = {inner: load_start(args.starts / f"latents-{inner}-{args.seed}.npz") for inner in INNER}
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True).stdout.strip()
    for side, name in product(args.sides, args.names):
        signal = signal_of(picture(name, side))
        row = {"what": "speed", "picture": name, "side": side, "seed": args.seed, "commit": commit}
        goals, times = {}, {}
        for inner, (start, content) in starts.items():
            times[inner], encoded = fastest(partial(encode_latents, signal, start, content))
            keep({**row, "by": inner, "s": times[inner], "psnr": encoded.psnr, "bytes": len(encoded.content)})
            goals[inner] = encoded.psnr
        for told, network, rate, one_in in rivals(signal, len(encoded.content)):
            torch.manual_seed(args.seed)
            found = first_at(network(), signal, rate, one_in, goals, args.times * max(times.values()))
            keep({**row, "by": "coin", "shape": told, "rate": rate, "one_in": one_in, "reached": found})


def fastest(encode: Callable[[], EncodedLatents]) -> tuple[float, EncodedLatents]:
    """Processor seconds of the third of three encodings, and what it gives: the first loads and allocates."""
    for _ in range(3):
        began = time.process_time()
        encoded = encode()
        took = time.process_time() - began
    return took, encoded


def rivals(signal: Signal, most: int) -> Iterator[tuple[str, Callable[[], Siren], float, int]]:
    """What COIN is fitted as: its shape in words, the network, the rate, and one in how many points a step has."""
    w0, equal = PUBLISHED[2], rule(signal, most, HALF_BITS, 0)
    for name, (width, depth) in {"published": PUBLISHED[:2], "equal bytes": (equal.width, equal.depth)}.items():
        told = f"{name}, {depth} x {width}, {2 * parameters_of(2, 3, width, depth)} bytes in float16"
        network = partial(Siren, 2, signal.channels, width, depth, w0)
        for rate in RATES:
            yield told, network, rate, 1
        yield told, network, PART_RATE, signal.points // POINTS


def first_at(
    network: Siren, signal: Signal, rate: float, one_in: int, goals: dict[int, float], most: float
) -> dict[int | str, dict[str, float]]:
    """Processor seconds and steps until the network first has each PSNR; a goal it has not reached in `most` is left.

    `closest` has the highest PSNR that was seen.
    """
    points, adam = Points(signal, one_in, 0), torch.optim.Adam(network.parameters(), rate)
    found: dict[int | str, dict[str, float]] = {}
    best, taken, steps = 0.0, 0.0, 0
    while taken < most and len(found) < len(goals):
        before, began = taken, time.process_time()
        places, targets = points.next()
        loss = (network(places) - targets).square().mean()
        error = float(loss.detach())
        adam.zero_grad(set_to_none=True)
        loss.backward()
        adam.step()
        taken, steps = taken + time.process_time() - began, steps + 1
        if one_in == 1:  # the loss is that of the network before this step
            best, at = max(best, psnr_of_error(error)), {"s": before, "steps": steps - 1}
        elif steps % LOOK == 0:
            best, at = max(best, psnr_of_error(squared_error(network, signal))), {"s": taken, "steps": steps}
        for name, goal in goals.items():
            if best >= goal:
                found.setdefault(name, at)
    return {**found, "closest": {"psnr": best, "s": taken, "steps": steps}}


if __name__ == "__main__":
    main()

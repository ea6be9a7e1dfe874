"""COIN++ on MNIST: PSNR by bits of a latent's numbers, bits per pixel, and the time of encoding against COIN's.

    python -m experiments.meta_signals.coinpp --data-root DIR --starts DIR

once to learn, once more to measure. Learnt from training digits, measured on test digits, from their decoded files.
COIN is a SIREN fitted to one digit by Adam until it is as good as COIN++ was on that digit.
"""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import torch
from torch.func import functional_call

from automl.signals.fitting import fit
from automl.signals.latent_code import LatentCode
from automl.signals.latent_reader import drawn
from automl.signals.latents import decode_latents, encode_latents, fitted, learn_latents, with_code
from automl.signals.meta import MetaOptions
from automl.signals.modulations import LATENT as NAME
from automl.signals.modulations import Modulated
from automl.signals.signal import Signal, coordinates, psnr
from automl.signals.siren import Siren, parameters_of
from automl.signals.start_file import Shape, Start, content, load_start, save_start
from experiments.meta_signals.digits import arguments, digits, keep

SIDE, LATENT, SHAPE = 28, 32, Shape(2, 1, 48, 3, 30.0)
COINS = {"as wide": (48, 3), "narrow": (16, 2)}
"""Width and depth of COIN's networks."""
RATES = (2e-4, 1e-2)
"""Of Adam: that of COIN's authors, and one that is faster here."""
STEPS = 3000


class EnoughError(Exception):
    """The fit is as good as it has to be."""


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--timed", type=int, default=5, help="digits of which the time is measured")
    parser.add_argument("--starts", type=Path, required=True, help="folder where shared networks are kept")
    args = parser.parse_args()
    for seed in args.seeds:
        seen, held = digits(args.data_root, SIDE)
        path = args.starts / f"coinpp-{args.steps}-{seed}.npz"
        if not path.exists():
            options = MetaOptions(3, 0.1, args.steps, 1e-3, batch=4, seed=seed)
            began = time.process_time()
            save_start(learn_latents(seen, (SIDE, SIDE), SHAPE, LATENT, 5, options), path)
            keep({"what": "coinpp learnt", "seed": seed, "steps": args.steps, "cpu_s": time.process_time() - began})
            continue
        start, _ = load_start(path)
        signals = [Signal(digit.reshape(SIDE, SIDE, 1).numpy(), "image") for digit in held]
        training = fitted(start, seen[:2048])
        for bits in (2, 3, 4, 5, 6, 7, 8):
            keep({"seed": seed, **quality(with_code(start, LatentCode.of(training, bits)), signals, bits)})
        keep({"what": "coinpp unquantised", "seed": seed, "psnr": unquantised(start, signals)})
        keep({"seed": seed, **times(start, signals[: args.timed])})


def quality(start: Start, signals: list[Signal], bits: int) -> dict[str, object]:
    """What decoded files are like; bits per pixel of latents, of files, and with the shared network's file in them."""
    shared = content(start)
    files = [encode_latents(signal, start, shared) for signal in signals]
    back = [drawn(decode_latents(file.content, shared)) for file in files]
    pixels, number = SIDE * SIDE, len(signals)
    size = sum(len(file.content) for file in files)
    return {
        "what": "coinpp bits",
        "bits": bits,
        "psnr": float(np.mean([psnr(a, b.values) for a, b in zip(back, signals, strict=True)])),
        "latent_bpp": sum(file.latent_bits for file in files) / number / pixels,
        "file_bpp": 8 * size / number / pixels,
        "shared_bytes": len(shared),
        "signals": number,
        "bpp_with_shared": 8 * (size + len(shared)) / number / pixels,
    }


def unquantised(start: Start, signals: list[Signal]) -> float:
    """The mean PSNR of latents as the inner loop leaves them, clamped to [0, 1] as a decoded file is."""
    form = Modulated(SHAPE.network(), LATENT)
    latents = torch.from_numpy(fitted(start, torch.stack([signal.targets for signal in signals])))
    found = []
    for signal, latent in zip(signals, latents, strict=True):
        parameters = form.parameters(start.shared, {NAME: latent}, {})
        values = functional_call(form.network, parameters, (coordinates(signal.shape),)).detach().clamp(0, 1)
        found.append(psnr(values, signal.targets))
    return float(np.mean(found))


def times(start: Start, signals: list[Signal]) -> dict[str, object]:
    """Processor seconds to encode a digit by COIN++, and by COIN until it is as good on that digit."""
    shared, row = content(start), {"what": "coinpp time", "signals": len(signals)}
    encode_latents(signals[0], start, shared)  # what is loaded at the first call is not timed
    took, goals = [], []
    for signal in signals:
        began = time.process_time()
        file = encode_latents(signal, start, shared)
        took.append(time.process_time() - began)
        goals.append(psnr(drawn(decode_latents(file.content, shared)), signal.values))
    row |= {"coinpp_s": float(np.mean(took)), "psnr": float(np.mean(goals))}
    for name, (width, depth) in COINS.items():
        for rate in RATES:
            coin = [until(signal, goal, width, depth, rate) for signal, goal in zip(signals, goals, strict=True)]
            row[f"coin {name} {rate:g}"] = {
                "s": float(np.mean([s for s, _, _ in coin])),
                "steps": float(np.mean([n for _, n, _ in coin])),
                "reached": sum(enough for _, _, enough in coin),
                "half_bytes": 2 * parameters_of(2, 1, width, depth),
                "times": float(np.mean([s for s, _, _ in coin]) / np.mean(took)),
            }
    return row


def until(signal: Signal, goal: float, width: int, depth: int, rate: float) -> tuple[float, int, bool]:
    """Processor seconds and steps until a SIREN is as good as `goal`, and whether it came to that in `STEPS`."""
    torch.manual_seed(0)
    taken = 0

    def tell(step: int, now: float) -> None:
        nonlocal taken
        taken = step
        if now >= goal:
            raise EnoughError

    began = time.process_time()
    try:
        fit(Siren(2, 1, width, depth), signal, STEPS, rate, tell=tell)
    except EnoughError:
        return time.process_time() - began, taken, True
    return time.process_time() - began, taken, False


if __name__ == "__main__":
    main()

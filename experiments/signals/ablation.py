"""The pipeline of Strümpler et al. taken apart on one photograph: rounding, Fourier features, what the code saves.

    python -m experiments.signals.ablation [--picture coffee --side 128]

One network is fitted once; each row rounds it anew to so many bits a weight.
"""

from __future__ import annotations

import argparse
import copy
import math

import torch

from automl.signals.encode_file import signal_of
from automl.signals.encoding import Effort, on_grid
from automl.signals.fitting import fit, squared_error
from automl.signals.inr_file import layout_of, set_tensors, tensors_of
from automl.signals.inr_reader import network_of, opened
from automl.signals.quantizing import Grid
from automl.signals.signal import Signal, psnr_of_error
from automl.signals.siren import FourierFeatures, Siren
from experiments.signals.pictures import picture


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--picture", default="coffee")
    parser.add_argument("--side", type=int, default=128)
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--bits", type=int, nargs="+", default=[8, 7, 6, 5])
    parser.add_argument("--features", type=int, nargs="+", default=[0, 4], help="Fourier features of each axis")
    args = parser.parse_args()
    torch.set_num_threads(1)
    signal = signal_of(picture(args.picture, args.side))
    print("| network | bits a weight | nearest | AdaRound | trained | both | fixed-length bytes |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for features in args.features:
        torch.manual_seed(0)
        network = Siren(2, 3, 16, 3, 15.0, FourierFeatures(2, features) if features else None)
        fitted = fit(network, signal, args.steps, 5e-3, one_in=4)
        weights = sum(p.numel() for p in network.parameters())
        print(f"| 3 x 16, {features} Fourier features, {weights} weights | float32 | {fitted.psnr:.2f} | | | | |")
        for bits in args.bits:
            most = weights * bits // 8
            found = [at(network, signal, most, way, args.steps) for way in ("nearest", "adaround", "trained", "both")]
            psnrs = " | ".join(f"{psnr:.2f}" for psnr, _ in found)
            print(f"| | {bits} | {psnrs} | {found[0][1]} beside {most} |", flush=True)


def at(network: Siren, signal: Signal, most: int, way: str, steps: int) -> tuple[float, int]:
    """PSNR of the network rounded to `most` bytes, and what its integers would take at fixed length."""
    network = copy.deepcopy(network)
    layout = layout_of(network, signal)
    content = on_grid(network, layout, signal, most, Effort(steps=steps, rounding=way))
    set_tensors(network, network_of(content).tensors)
    steps_in_file = opened(content)[1][: len(tensors_of(network))]
    integers = Grid(steps_in_file).integers(tensors_of(network))
    fixed = sum(q.numel() * math.ceil(math.log2(2 * float(q.abs().max()) + 1)) for q in integers)
    return psnr_of_error(squared_error(network, signal)), -(-fixed // 8)


if __name__ == "__main__":
    main()

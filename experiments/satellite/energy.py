"""The energy of a tile as a model: operations and memory accesses times published figures. Nothing is measured.

    python -m experiments.satellite.energy FOLDER       # of the network that flies, and of the one it was made from

Horowitz 2014 (Computing's energy problem, ISSCC, 45 nm): 3.7 pJ for a product and 0.9 pJ for a sum in float32, 640 pJ
for 32 bits from DRAM, 5 pJ from a small SRAM. Every value that an operator makes is taken to be written once and read
once, from DRAM where the values alive at once are more than `SRAM`, and weights to be read from DRAM once a tile, as
many bytes as the file has.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import torch
from torch import Tensor, nn

import automl.export
from automl.measures.counts import count_macs
from automl.measures.memory import peak_activation_bytes
from experiments.satellite.footprints import SIDE, WEIGHTS, unet
from search_spaces.graph.liveness import Liveness

MAC, DRAM, SMALL_SRAM = 4.6e-12, 160e-12, 1.25e-12
"""Joule a multiply-accumulate, and a byte of either memory."""
SRAM = 2**20
"""Bytes."""


def energy(network: nn.Module, file_bytes: int, side: int = SIDE) -> dict[str, float]:
    """The energy of one tile in mJ, by what it is for."""
    x = torch.randn(1, 3, side, side)
    made = 0

    def note(number: int, tensor: Tensor, returned: object) -> None:
        nonlocal made
        made += tensor.untyped_storage().nbytes()

    follow = Liveness(note)
    follow.ignore([*network.parameters(), *network.buffers()])
    with torch.no_grad(), follow:
        network.eval()(x)
    follow.forget()
    peak = peak_activation_bytes(network, (x,))
    each = DRAM if peak > SRAM else SMALL_SRAM
    parts = {
        "operations": count_macs(network, (x,)) * MAC,
        "activations": 2 * made * each,
        "weights": file_bytes * DRAM,
    }
    return {name: 1e3 * joule for name, joule in parts.items()} | {"tile": 1e3 * sum(parts.values())}


def main() -> None:
    """Print the model of both networks."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    original = unet()
    small = automl.export.load(folder, original)
    size = (folder / automl.export.FORMATS["safetensors"].file).stat().st_size
    for name, network, stored in (("original", original, WEIGHTS.stat().st_size), ("flies", small, size)):
        print(json.dumps({"network": name, **energy(network, stored)}))


if __name__ == "__main__":
    main()

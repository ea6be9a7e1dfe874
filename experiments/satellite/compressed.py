"""The U-Net compressed under several limits at once: bytes, peak memory and time a tile in ONNX Runtime.

    python -m experiments.satellite.compressed --seed 0 --out satellite/0             # in two stages, the first trained
    python -m experiments.satellite.compressed --seed 0 --out satellite/0 --joint     # in one, nothing trained

Peak memory goes with the area of a tile: 4 MB for one of 128 x 128 are 64 MB for one of 512 x 512. Integers cannot be
trained here, so that what is trained is narrowed first, within the limits on memory and time, and its widths and number
formats are then searched together within the limits on bytes and memory.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from torch import nn

import automl
from experiments.satellite.footprints import BATCH, tiles, training_tiles, unet

SIZE, MEMORY, TIME = "size <= 200 KB", "peak_memory <= 4 MB", "latency <= 24% on onnxruntime"
FORMATS = ["int4", "int5", "int6", "int8"]
NARROW = {"channels": {"round_to": 4}}
TRAINING = {"epochs": 4, "batch_size": BATCH, "optimizer": "adamw", "learning_rate": 1e-3, "weight_decay": 1e-2}


def compressed(args: argparse.Namespace, network: nn.Module, stage: str, **how: Any) -> automl.CompressionResult:
    """Search and fit; validation and test tiles are of other ground than those that are trained on."""
    found = automl.compress(
        network,
        training_tiles(),
        tiles(96, seed=2),
        test_data=tiles(192, seed=3),
        task="segmentation",
        baselines=(),
        trials=args.trials,
        seed=args.seed,
        calibration_size=64,
        storage=args.storage,
        name=f"satellite-{stage}-{args.seed}",
        **how,
    )
    print(found.table(), flush=True)
    return found


def main() -> None:
    """Compress, print the tables and export."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--trials", type=int, default=12)
    parser.add_argument("--joint", action="store_true")
    parser.add_argument("--storage", default="sqlite:///satellite.db")
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    both, untrained = NARROW | {"code": {"formats": FORMATS}}, {"finalists": 1}
    if args.joint:
        found = compressed(args, unet(), "joint", budget=[SIZE, MEMORY, TIME], space=both, finish=untrained)
    else:
        budget, trained = ["params <= 20%", MEMORY, TIME], {"finalists": 1, "training": TRAINING}
        first = compressed(args, unet(), "narrow", budget=budget, space=NARROW, finish=trained)
        found = compressed(args, first.network, "coded", budget=[SIZE, MEMORY], space=both, finish=untrained)
    found.export(args.out, formats=["safetensors", "onnx"])


if __name__ == "__main__":
    main()

"""The U-Net compressed under several limits at once: bytes, peak memory and time a tile in ONNX Runtime.

    python -m experiments.satellite.compressed --seed 0 --out satellite/0        # the network that flies, exported

Peak memory goes with the area of a tile: 4 MB for one of 128 x 128 are 64 MB for one of 512 x 512.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import automl
from experiments.satellite.footprints import tiles, training_tiles, unet

BUDGET = ["size <= 200 KB", "peak_memory <= 4 MB", "latency <= 24% on onnxruntime"]
SPACE = {"channels": {"round_to": 4}, "code": {"formats": ["int4", "int5", "int6", "int8"]}}


def compressed(seed: int, storage: str, trials: int, steps: str) -> automl.CompressionResult:
    """Search and fit; validation and test tiles are of other ground than those that are trained on."""
    return automl.compress(
        unet(),
        training_tiles(),
        tiles(96, seed=2),
        BUDGET,
        test_data=tiles(192, seed=3),
        task="segmentation",
        baselines=("uniform",),
        trials=trials,
        seed=seed,
        space=SPACE,
        finish={"reconstruction": steps, "finalists": 2},
        calibration_size=64,
        storage=storage,
        name=f"satellite-{seed}",
    )


def main() -> None:
    """Compress, print the table and export."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--trials", type=int, default=24)
    parser.add_argument("--reconstruction", default="blockwise")
    parser.add_argument("--storage", default="sqlite:///satellite.db")
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    result = compressed(args.seed, args.storage, args.trials, args.reconstruction)
    print(result.table())
    result.export(args.out, formats=["safetensors", "onnx"])


if __name__ == "__main__":
    main()

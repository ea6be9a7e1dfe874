"""The U-Net compressed under several limits at once: bytes, peak memory and time a tile in ONNX Runtime.

    python -m experiments.satellite.compressed --seed 0 --out satellite/0             # channels, trained afterwards
    python -m experiments.satellite.compressed --seed 0 --out satellite/0 --joint     # and formats, nothing trained

Peak memory goes with the area of a tile: 4 MB for one of 128 x 128 are 64 MB for one of 512 x 512. Integers cannot be
trained here, so that number formats are searched where nothing is.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import automl
from experiments.satellite.footprints import BATCH, tiles, training_tiles, unet

SIZE, MEMORY, TIME = "size <= 200 KB", "peak_memory <= 4 MB", "latency <= 25% on onnxruntime"
FORMATS = ["int4", "int5", "int6", "int8"]
CHANNELS = {"channels": {"round_to": 4}}
TRAINING = {"epochs": 4, "batch_size": BATCH, "optimizer": "adamw", "learning_rate": 1e-3, "weight_decay": 1e-2}


def main() -> None:
    """Compress, print the table and export; validation and test tiles are of other ground than those trained on."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--trials", type=int, default=12)
    parser.add_argument("--joint", action="store_true")
    parser.add_argument("--storage", default="sqlite:///satellite.db")
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    joint = CHANNELS | {"code": {"formats": FORMATS}}
    trained = {"finalists": 1, "training": TRAINING}
    space, finish = (joint, {"finalists": 1}) if args.joint else (CHANNELS, trained)
    found = automl.compress(
        unet(),
        training_tiles(),
        tiles(96, seed=2),
        [SIZE, MEMORY, TIME],
        test_data=tiles(192, seed=3),
        task="segmentation",
        baselines=(),
        trials=args.trials,
        seed=args.seed,
        calibration_size=64,
        space=space,
        finish=finish,
        storage=args.storage,
        name=f"satellite-{'joint' if args.joint else 'trained'}-{args.seed}",
    )
    print(found.table())
    found.export(args.out, formats=["safetensors", "onnx"])


if __name__ == "__main__":
    main()

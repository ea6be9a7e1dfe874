"""Buildings found on board and sent down, small: everything from the training to the bytes, in a few minutes.

    python -m experiments.satellite.demo --out satellite

A small U-Net is trained on made-up ground, compressed under three limits at once, exported, run over a scene of 1,500
by 1,500 pixels that is read from its file tile by tile, and what it found is sent as polygons. Then its norms are
changed a little, as another calibration would, and the update is sent up. The whole experiment, with a larger network,
is in results.md.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

import automl
from automl.config.training import TrainingOptions
from automl.export import FORMATS
from automl.training.loss import SupervisedLoss
from automl.training.trainer import train
from experiments.satellite import scene
from experiments.satellite.footprints import tiles
from experiments.shapes.unet import UNet

BUDGET = ["size <= 14 KB", "peak_memory <= 60%", "macs <= 40%"]
TRAINING = TrainingOptions(epochs=4, batch_size=8, optimizer="adamw", learning_rate=3e-3, weight_decay=1e-2)


def main() -> None:
    """Train, compress, export, run over a scene, and say what is sent."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("satellite"))
    parser.add_argument("--side", type=int, default=1500)
    out, side = parser.parse_args().out, parser.parse_args().side
    out.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)
    network, data = UNet((12, 24, 48), classes=2), tiles(192, seed=1, noisy=True)
    loss = SupervisedLoss(nn.CrossEntropyLoss())
    train(network, lambda seed: [((x,), y) for x, y in data], loss, TRAINING, say=print)
    found = compressed(network, data)
    print(found.table())
    found.export(out / "flies", ["safetensors", "onnx"])

    drawn, mask = str(out / "scene"), str(out / "mask.npy")
    scene.draw(drawn, side)
    network_file = str(out / "any_tile.onnx")
    scene.free(str(out / "flies" / FORMATS["onnx"].file), network_file)
    ran = scene.run(drawn, network_file, mask)
    told, picture = scene.judge(drawn, mask), scene.picture_bytes(drawn, quality=50)
    print(f"{side} x {side} pixels in {ran['processor_s']:.1f} s: mIoU {told['miou']:.1%}, F1 {told['f1']:.1%}")
    print(f"sent down: {told['polygons_bytes']:,} bytes of polygons (F1 {told['polygons_f1']:.1%}) or")
    print(f"{told['runs_bytes']:,} of runs; the picture: {picture['jpeg']:,} as JPEG 50, {picture['png']:,} as PNG")

    old = out / "flies" / FORMATS["safetensors"].file
    calibrated(found.network, data)
    found.export(out / "next", ["safetensors"])
    new = out / "next" / old.name
    update = automl.make_update(old, new)
    assert automl.apply_update(old, update) == new.read_bytes()
    print(f"sent up: {len(update):,} bytes turn the {old.stat().st_size:,} that fly into {new.stat().st_size:,} others")


def calibrated(network: nn.Module, data: Sequence[tuple[Tensor, Tensor]]) -> None:
    """Let the norms see darker ground."""
    network.train()
    with torch.no_grad():
        for images, _ in data[:4]:
            network(images * 0.9 - 0.1)
    network.eval()


def compressed(network: nn.Module, data: Sequence[tuple[Tensor, Tensor]]) -> automl.CompressionResult:
    """The network in integers and with fewer channels."""
    return automl.compress(
        network,
        data,
        tiles(48, seed=2),
        BUDGET,
        test_data=tiles(48, seed=3),
        task="segmentation",
        baselines=(),
        trials=8,
        space={"channels": {"round_to": 2}, "code": {"formats": ["int6", "int8"]}},
        finish={"finalists": 1},
        calibration_size=32,
        progress=False,
    )


if __name__ == "__main__":
    main()

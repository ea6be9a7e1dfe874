"""Runs an exported ONNX file on the digits test images in ONNX Runtime, beside the original network in PyTorch.

    python experiments/digits/run_onnx.py demo/winner/model.onnx

Reads the ONNX file alone, as a deployment would: no class, no plan and no database is needed.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import onnxruntime
import torch

from automl import data, zoo

WEIGHTS = Path(__file__).with_name("small_cnn.safetensors")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("file", type=Path, help="the exported ONNX file")
    options = parser.parse_args()

    batches = data.load("digits", validation_size=400, calibration_size=256).test()
    labels = np.concatenate([targets.numpy() for _, targets in batches])

    session = onnxruntime.InferenceSession(options.file, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    answers = np.concatenate([session.run(None, {name: images.numpy()})[0].argmax(1) for (images,), _ in batches])

    original = zoo.load_model("small_cnn", weights=str(WEIGHTS))
    with torch.no_grad():
        expected = np.concatenate([original(images).argmax(1).numpy() for (images,), _ in batches])

    print(f"{len(labels)} test images of the digits    accuracy     file")
    for title, predicted, file in (
        ("original, PyTorch", expected, WEIGHTS),
        ("winner, ONNX Runtime", answers, options.file),
    ):
        size = file.stat().st_size / 1e3
        print(f"  {title:32} {(predicted == labels).mean():9.2%}  {size:7.1f} KB  {file.name}")


if __name__ == "__main__":
    main()

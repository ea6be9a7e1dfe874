"""MNIST's digits as signals for the experiments on meta-learning, and rows of results that are kept as they come."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from automl.data.sources import source

ROWS = Path(__file__).with_name("rows.jsonl")


def digits(root: str, side: int, seen: int = 4000, held: int = 64) -> tuple[Tensor, Tensor]:
    """Digits to learn from and held-out ones of the test files: [n, side * side, 1] in [0, 1].

    Of a `side` of 14, means of 2 x 2 pixels.
    """
    mnist = source("mnist")
    files = mnist.locate(root)

    def read(split: Any, count: int) -> Tensor:
        pixels = torch.from_numpy(mnist.read(files, split)[0][:count]).float() / 255  # [n, 1, 28, 28]
        return torch.nn.functional.avg_pool2d(pixels, 28 // side).reshape(count, side * side, 1)

    return read("train", seen), read("test", held)


def arguments(about: str | None) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-root", required=True, help="folder with MNIST's published files")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--steps", type=int, default=3000, help="outer steps")
    return parser


def keep(row: dict[str, Any]) -> None:
    """Print a row and add it to the file of rows."""
    print(row, flush=True)
    with ROWS.open("a") as file:
        file.write(json.dumps(row) + "\n")


def psnr_each(errors: Tensor) -> float:
    """The mean over signals of the PSNR of their mean squared errors, [n]."""
    return float((-10 * errors.log10()).mean())

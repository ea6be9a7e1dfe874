"""LiteRT's format (`.tflite`), which was TensorFlow Lite's: one sample a pass, in float32 or with 8-bit integers.

LiteRT Torch 0.10 takes a batch whose size is free, but writes the size that it was traced on into the slices of the
network, so that such files fail on others. One sample at a time is how phones and boards run a network.
"""

from __future__ import annotations

import contextlib
import io
import os
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from automl.errors import ExportError
from automl.export.onnx_file import run_with_tensors
from automl.export.subject import Run, Subject, cause_of, quiet, tensors_in
from automl.measures.backends.lite_rt import LITERT

PACKAGES = ("litert_torch", "ai_edge_litert")
PACKAGES_INT8 = (*PACKAGES, "ai_edge_quantizer")
SAMPLES = {"samples": 1}
"""What the manifest says of a file: how many a pass takes."""
SIGNATURE = "serving_default"
"""How LiteRT Torch calls the network in its file, whose inputs are `args_0` and so on."""


def write_tflite(subject: Subject, path: Path) -> dict[str, Any]:
    """Write the network in float32."""
    path.write_bytes(_content(subject))
    return dict(SAMPLES)


def write_integer_tflite(subject: Subject, path: Path) -> dict[str, Any]:
    """Write the network with 8-bit weights, a scale a channel, and 8-bit values between layers, by their least and
    largest on the calibration samples; what goes in and comes out stays float32."""
    with _silent():
        from ai_edge_quantizer import qtyping, quantizer, recipe

        made = quantizer.Quantizer(_content(subject), recipe.static_wi8_ai8())
        for end in (qtyping.TFLOperationName.INPUT, qtyping.TFLOperationName.OUTPUT):
            made.update_quantization_recipe(".*", end, algorithm_key=quantizer.AlgorithmName.NO_QUANTIZE)
        ranges = made.calibrate({SIGNATURE: list(_samples(subject))}, num_threads=torch.get_num_threads())
        path.write_bytes(made.quantize(ranges).quantized_model)
    return dict(SAMPLES)


def _content(subject: Subject) -> bytes:
    """The file in float32, which takes seconds to make and is the start of that of integers. Errors: `ExportError`."""
    if subject.tflite is None:
        with _silent():
            import litert_torch

            try:
                subject.tflite = litert_torch.convert(_Flat(subject.network), subject.resized(1)).model_content()
            except Exception as error:
                raise ExportError(
                    f"LiteRT Torch cannot hold this network: {cause_of(error)}. Leave tflite out of the formats"
                ) from error
    return subject.tflite


class _Flat(nn.Module):
    """A network that returns its tensors one after the other, which the file then names by their places."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """What the network makes of them."""
        return tuple(tensors_in(self.network(*inputs)))


def _samples(subject: Subject) -> Iterator[dict[str, np.ndarray]]:
    """The calibration samples one by one, by the names that inputs have in the file."""
    for batch in subject.calibration:
        arrays = [x.numpy() for x in batch]
        for i in range(len(arrays[0])):
            cut = (x[i : i + 1] if many else x for x, many in zip(arrays, subject.batched, strict=True))
            yield {f"args_{place}": _narrow(x) for place, x in enumerate(cut)}


def _narrow(x: np.ndarray) -> np.ndarray:
    """Whole numbers as the file takes them: of 32 bits."""
    return x.astype(np.int32) if x.dtype == np.int64 else x


@contextlib.contextmanager
def _silent() -> Iterator[None]:
    """Keep what the libraries tell of their steps off the terminal; those in C++ write to the process's own stderr."""
    ours, told = os.dup(2), io.StringIO()
    try:
        with quiet(), contextlib.redirect_stdout(told), contextlib.redirect_stderr(told):
            with Path(os.devnull).open("wb") as nothing:
                os.dup2(nothing.fileno(), 2)
            yield
    finally:
        os.dup2(ours, 2)
        os.close(ours)


def read_tflite(subject: Subject, path: Path) -> Run:
    """Load the file into LiteRT's interpreter, for as many threads as PyTorch has."""
    with _silent():
        return partial(run_with_tensors, LITERT.load(path, torch.get_num_threads()))

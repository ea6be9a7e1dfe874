"""LiteRT, which was TensorFlow Lite, on the processor by XNNPACK: what phones and boards run, a sample at a time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from automl.measures.backends.base import Backend, Network


def _load(path: Path, threads: int) -> Network:
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_path=str(path), num_threads=threads)
    interpreter.allocate_tensors()
    signature = interpreter.get_signature_runner()
    taken, given = _in_order(signature.get_input_details()), _in_order(signature.get_output_details())
    shapes = [tuple(one["shape"]) for one in taken]

    def once(inputs: Sequence[np.ndarray]) -> list[np.ndarray]:
        for one, x in zip(taken, inputs, strict=True):
            interpreter.set_tensor(one["index"], x.astype(one["dtype"], copy=False))
        interpreter.invoke()
        return [interpreter.get_tensor(one["index"]) for one in given]

    def run(inputs: Sequence[np.ndarray]) -> list[np.ndarray]:
        """A file takes one sample, so that a batch is run one by one; what is the same for all samples is not cut."""
        batched = [x.shape != shape for x, shape in zip(inputs, shapes, strict=True)]
        samples = max((len(x) for x, many in zip(inputs, batched, strict=True) if many), default=1)
        if samples == 1:
            return once(inputs)
        one_by_one = (
            once([x[i : i + 1] if many else x for x, many in zip(inputs, batched, strict=True)]) for i in range(samples)
        )
        return [np.concatenate(parts) for parts in zip(*one_by_one, strict=True)]

    return run


def _in_order(details: Mapping[str, Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Inputs or outputs as the network has them: their names end in their places, `args_0`, `output_1`."""
    return [details[name] for name in sorted(details, key=lambda name: int(name.rpartition("_")[2]))]


LITERT = Backend("litert", "tflite", "ai_edge_litert", _load)
LITERT_INT8 = Backend("litert-int8", "tflite-int8", "ai_edge_litert", _load, "litert", 0.1)

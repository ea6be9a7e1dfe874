"""What is exported: a private copy of the network, its inputs, and what it computes on batches of several sizes."""

from __future__ import annotations

import copy
import inspect
import logging
import math
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from automl.errors import ExportError, in_a_line

Run = Callable[[tuple[Tensor, ...]], list[Tensor]]
"""Runs a network, exported or not, on one batch and returns its output tensors in order."""
Difference = Callable[[Sequence[Tensor], Sequence[Tensor]], float]
"""How far outputs are from those expected."""


class Subject:
    """A copy of the network in eval mode, in float32 on the CPU, beside the batches it is compared on."""

    def __init__(
        self,
        network: nn.Module,
        example_inputs: Sequence[Tensor],
        calibration: Sequence[Sequence[Tensor]] | None = None,
        scheme: str | None = None,
    ) -> None:
        """`example_inputs`: one tensor for each argument of forward, the first of shape [batch, ...]. `calibration`:
        batches of such inputs that show what values there are; None: the example. `scheme`: that of 8-bit integers, if
        it is known which is fastest here."""
        inputs = tuple(example_inputs)
        tensors = bool(inputs) and all(isinstance(x, Tensor) for x in inputs)
        if not tensors or inputs[0].ndim == 0 or len(inputs[0]) == 0:
            shapes = [list(x.shape) if isinstance(x, Tensor) else type(x).__name__ for x in inputs]
            raise ExportError(
                f"expected the example inputs to be a tuple of tensors, the first of shape [batch, ...] with one "
                f"sample or more, got {shapes}: pass the forward's arguments for one batch"
            )
        self.network = copy.deepcopy(network).eval().to("cpu", torch.float32)
        self.inputs = tuple(_plain(x) for x in inputs)
        self.batch = len(self.inputs[0])
        self.calibration = [tuple(map(_plain, batch)) for batch in calibration] if calibration else [self.inputs]
        self.scheme = scheme
        self.onnx: bytes | None = None
        """The network as ONNX, once a format has made it."""
        self.tflite: bytes | None = None
        """And as a LiteRT file."""
        # An input with another first dimension (a table, a scalar) is the same for every batch.
        self.batched = tuple(x.ndim > 0 and len(x) == self.batch for x in self.inputs)
        names = [
            p.name for p in inspect.signature(network.forward).parameters.values() if p.kind is not p.VAR_POSITIONAL
        ]
        count = len(inputs)
        self.input_names = names[:count] if len(names) >= count else [f"input_{i}" for i in range(count)]

    def resized(self, samples: int) -> tuple[Tensor, ...]:
        """The example batch, repeated and cut to `samples` samples."""
        indices = torch.arange(samples) % self.batch
        return tuple(x[indices] if batched else x for x, batched in zip(self.inputs, self.batched, strict=True))

    @cached_property
    def expected(self) -> list[tuple[tuple[Tensor, ...], list[Tensor]]]:
        """(inputs, outputs) of the example batch, of one sample more, and of a single sample."""
        sizes = dict.fromkeys((self.batch, self.batch + 1, 1))
        try:
            pairs = [(inputs, self.run(inputs)) for inputs in map(self.resized, sizes)]
        except Exception as error:
            raise ExportError(
                f"the network fails on its own example batch, or on it with another batch size: {error}"
            ) from error
        for inputs, outputs in pairs:
            if not outputs or any(out.isnan().any() for out in outputs):
                raise ExportError(
                    f"the network returns {'NaN' if outputs else 'no tensor'} on a batch of {len(inputs[0])}, so "
                    f"no file can be compared with it: check the weights and the example inputs"
                )
        return pairs

    def run(self, inputs: tuple[Tensor, ...]) -> list[Tensor]:
        """The network's own outputs."""
        return run_module(self.network, inputs)

    @property
    def output_names(self) -> list[str]:
        """One name for each output tensor."""
        count = len(self.expected[0][1])
        return ["output"] if count == 1 else [f"output_{i}" for i in range(count)]

    @property
    def dynamic_shapes(self) -> tuple[dict[int, Any], ...]:
        """For each input: which dimension is the batch."""
        batch = torch.export.Dim("batch")
        return tuple({0: batch} if batched else {} for batched in self.batched)

    @cached_property
    def program(self) -> torch.export.ExportedProgram:
        """The traced program with a free batch size, shared by the formats that need one.

        It is traced on zeros because the file keeps the inputs it was traced on, and samples of the user's data
        have no place there; on two of them because a batch of one would be taken for a constant.
        """
        zeros = tuple(torch.zeros_like(x) for x in self.resized(2))
        try:
            with quiet():
                return torch.export.export(self.network, zeros, dynamic_shapes=self.dynamic_shapes)
        except Exception as error:
            raise ExportError(
                f"torch.export cannot trace the network with a free batch size: {cause_of(error)}. Write shapes "
                f"in forward as x.shape[0] or -1 instead of numbers, or leave pt2 and onnx out of the formats"
            ) from error

    def difference(self, run: Run, difference: Difference) -> float:
        """How far `run` is from the network, on the batch on which it is farthest."""
        return max(difference(run(inputs), outputs) for inputs, outputs in self.expected)


def run_module(module: Callable[..., Any], inputs: tuple[Tensor, ...]) -> list[Tensor]:
    """Call `module` without gradients; its output tensors in order, however they are nested."""
    with torch.no_grad():
        return list(tensors_in(module(*inputs)))


def largest_difference(got: Sequence[Tensor], expected: Sequence[Tensor]) -> float:
    """The largest absolute difference, relative to the largest value expected in the same tensor.

    Infinite for other shapes, for NaN, and for an infinity that only one side has.
    """
    if [x.shape for x in got] != [x.shape for x in expected]:
        return math.inf
    worst = 0.0
    for ours, theirs in zip(got, expected, strict=True):
        ours, theirs = ours.double(), theirs.double()
        unlike = ours != theirs  # an infinity in both counts as equal
        if not bool(unlike.any()):
            continue
        finite = theirs[theirs.isfinite()].abs()
        scale = finite.max().item() if len(finite) else 0.0
        apart = (ours[unlike] - theirs[unlike]).abs().max().item() / (scale or 1.0)
        worst = max(worst, apart if math.isfinite(apart) else math.inf)
    return worst


@contextmanager
def quiet() -> Iterator[None]:
    """Keep the exporters' own log lines and warnings (operators of libraries not in use) off the terminal."""
    previous = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(previous)


def _plain(x: Tensor) -> Tensor:
    """A contiguous copy on the CPU that owns its storage; floating point becomes float32."""
    x = x.detach().to("cpu", torch.float32 if x.is_floating_point() else x.dtype)
    return x.clone(memory_format=torch.contiguous_format)


def tensors_in(value: Any) -> Iterator[Tensor]:
    """The tensors of what a network returns, in order, however they are nested."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from tensors_in(item)
    elif isinstance(value, tuple | list):
        for item in value:
            yield from tensors_in(item)


def cause_of(error: BaseException) -> str:
    """What is at the bottom of an exporter's error, which wraps it in pages of advice."""
    while error.__cause__ is not None:
        error = error.__cause__
    return f"{type(error).__name__}: {in_a_line(error)}"

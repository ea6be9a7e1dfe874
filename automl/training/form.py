"""The form in which a network is trained fastest on this machine: arithmetic and the order of memory."""

from __future__ import annotations

import contextlib
import copy
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from automl.config.training import TrainingOptions
from automl.errors import ConfigError, DataError
from search_spaces import Supernet

Form = tuple[Literal["float32", "bfloat16", "float16"], bool]
"""Arithmetic, and whether memory is in the order of channels last."""

ROUNDS = 3
"""How often each form is timed, in turns; its best time counts, which others on the machine disturb least."""
GAINS = {"bfloat16": 1.25, "contiguous": 1.1}
"""How many times as fast as its alternative a form must be to be taken: float32 is exact, and channels last is what
convolutions are written for. Where there is little to gain the choice should not hang on the noise of a timing."""
REGISTER = 16
"""Numbers of 32 bits that the widest register of a processor holds."""


def settled(
    options: TrainingOptions, network: nn.Module, inputs: tuple[Tensor, ...], device: torch.device
) -> TrainingOptions:
    """`options` with `precision` and `channels_last` decided: what is `auto` is tried on `inputs`, a batch.

    A form that the network cannot be trained in, for want of an operator, is none. `network` is not changed; random
    numbers are drawn if it has dropout.
    """
    may_be = any(x.ndim == 4 for x in inputs) and gradients_keep_right(network, device)
    orders = [True, False] if options.channels_last == "auto" and may_be else [options.channels_last is True and may_be]
    precisions: list[Any] = ["float32", "bfloat16"] if options.precision == "auto" else [options.precision]
    forms: list[Form] = [(precision, order) for precision in precisions for order in orders]
    precision, order = _fastest(_times(forms, network, inputs, device)) if len(forms) > 1 else forms[0]
    return replace(options, precision=precision, channels_last=order)


def _fastest(times: Mapping[Form, float]) -> Form:
    """The form to take, given the seconds of a step in each."""
    best: dict[str, Form] = {}
    for form in times:
        precision, channels_last = form
        known = best.get(precision)
        if known is None or times[form] * (1 if channels_last else GAINS["contiguous"]) < times[known]:
            best[precision] = form
    plain, half = best.get("float32"), best.get("bfloat16")
    if plain is None or (half is not None and times[half] * GAINS["bfloat16"] < times[plain]):
        assert half is not None
        return half
    return plain


def _times(
    forms: list[Form], network: nn.Module, inputs: tuple[Tensor, ...], device: torch.device
) -> dict[Form, float]:
    """Form -> seconds of a forward and a backward pass, infinite if it fails; the first round, which allocates, does
    not count."""
    best = dict.fromkeys(forms, float("inf"))
    failed: dict[Form, RuntimeError] = {}
    trained = copy.deepcopy(network).to(device).train()
    for turn in range(ROUNDS + 1):
        for form in (form for form in forms if form not in failed):
            precision, channels_last = form
            laid_out(trained, channels_last)
            batch = tuple(on_device(x, device, channels_last) for x in inputs)
            start = _now(device)
            try:
                with autocast(device, precision):
                    outputs = trained(*batch)
                _scalar(outputs).backward()
            except RuntimeError as error:
                failed[form] = error
                continue
            if turn:
                best[form] = min(best[form], _now(device) - start)
    if len(failed) == len(forms):
        raise failed[forms[0]]
    return best


def gradients_keep_right(network: nn.Module, device: torch.device) -> bool:
    """Whether PyTorch finds the gradients of `network` on `device` with memory in the order of channels last.

    On a CPU, of a strided 1 x 1 convolution that reads fewer channels than a register holds, oneDNN writes past the end
    of its memory in that order, when it works out the gradient of the weights: the process is aborted, hangs, or goes
    on with a wrong gradient (oneDNN issue 6035; seen with PyTorch 2.13 where there is no AVX-512). The networks of a
    supernet are made as it is called, and may have such layers.
    """
    if device.type != "cpu":
        return True
    convolutions = (module for module in network.modules() if isinstance(module, nn.Conv2d))
    return not isinstance(network, Supernet) and not any(
        conv.groups == 1 and conv.kernel_size == (1, 1) and conv.stride != (1, 1) and conv.in_channels < REGISTER
        for conv in convolutions
    )


def laid_out(network: nn.Module, channels_last: bool) -> None:
    """Put the filters of `network`, in place, in that order of memory."""
    order = torch.channels_last if channels_last else torch.contiguous_format
    network.to(memory_format=order)  # type: ignore[call-overload]


def on_device(x: Tensor, device: torch.device, channels_last: bool) -> Tensor:
    """`x` on `device`, an image in the order of memory asked for."""
    x = x.to(device, non_blocking=True)
    order = torch.channels_last if channels_last else torch.contiguous_format
    return x.contiguous(memory_format=order) if x.ndim == 4 else x


def autocast(device: torch.device, precision: str) -> torch.autocast:
    """The context of a forward pass in `precision`."""
    dtype = {"bfloat16": torch.bfloat16, "float16": torch.float16}.get(precision)
    return torch.autocast(device.type, dtype or torch.bfloat16, enabled=dtype is not None)


def compiled(network: nn.Module) -> nn.Module:
    """`network` compiled, for each size of batch anew: a last batch that is smaller makes no other slower."""
    return cast(nn.Module, torch.compile(network, dynamic=False))


@contextlib.contextmanager
def explained() -> Iterator[None]:
    """Around a loss that is minimised: a network that cannot be compiled is a `ConfigError`, a label of no class a
    `DataError`."""
    try:
        yield
    except IndexError as error:
        if not str(error).startswith("Target "):  # what PyTorch says of labels; any other is of the network's forward
            raise
        raise DataError(
            f"the loss cannot take a batch of the training data: {error} Labels must be whole numbers from 0 to the "
            f"number of classes less 1, or what the loss leaves out: correct them"
        ) from error
    except RuntimeError as error:
        if not isinstance(error, torch._dynamo.exc.TorchDynamoException):
            raise
        raise ConfigError(
            f"the network cannot be compiled here: {str(error).splitlines()[0]}. Leave `compile` out of the training"
        ) from error


def _scalar(outputs: Any) -> Tensor:
    """Something to differentiate, whatever the outputs are."""
    parts = [x.float().square().mean() for x in tree_leaves(outputs) if isinstance(x, Tensor) and x.requires_grad]
    return torch.stack(parts).sum()


def _now(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()

"""Several processes that train one network together: each works on its part of every batch.

They are in step: the gradients of their parts are added up before anything is done with them, and what is random in
methods is drawn alike by all. So all hold the same weights, and those that one process would come to with the same
batches, to rounding; but for norms on a CPU, which see the samples of their own part alone.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch import distributed as dist
from torch.nn.modules.batchnorm import _BatchNorm

from automl.tasks.batches import Batch
from automl.util.tracking_norms import tracking_norms


class Team:
    """One process by itself, which has every batch whole."""

    size = 1
    rank = 0

    def part(self, batch: Batch) -> Batch:
        """What this process works on of a batch."""
        return batch

    def add_up(self, parameters: Sequence[Tensor]) -> None:
        """Give every process the sum of the gradients of all."""

    def total(self, value: Tensor) -> Tensor:
        """The sum of what each process has."""
        return value

    def agreed(self, value: Any) -> Any:
        """What the first process has."""
        return value

    def average_norms(self, network: nn.Module, share: float) -> None:
        """Give every process the mean of the running statistics of all; `share`: of the step's samples, its own."""

    def own_randomness(self, key: int, device: torch.device) -> contextlib.AbstractContextManager[None]:
        """A block in which this process draws other numbers than the others, by `key`; after it all draw alike again,
        as if nothing had been drawn."""
        return contextlib.nullcontext()

    def joined_norms(self, network: nn.Module, device: torch.device) -> contextlib.AbstractContextManager[None]:
        """A block in which batch norms see the samples of all processes, where the device can do that."""
        return contextlib.nullcontext()


class Group(Team):
    """One of the processes of PyTorch's default group, on any number of machines."""

    def __init__(self) -> None:
        self.size, self.rank = dist.get_world_size(), dist.get_rank()

    def part(self, batch: Batch) -> Batch:
        """Consecutive samples, as many as the others have or one more or less.

        Of a batch that has not two for each the first process has all: norms cannot be trained on one.
        """
        inputs, targets = batch
        count = len(targets)
        if count < 2 * self.size:
            return batch if self.rank == 0 else (tuple(x[:0] for x in inputs), targets[:0])
        mine = slice(self.rank * count // self.size, (self.rank + 1) * count // self.size)
        return tuple(x[mine] for x in inputs), targets[mine]

    def add_up(self, parameters: Sequence[Tensor]) -> None:
        """Give every process the sum of the gradients of all. One that no process has stays None."""
        there = torch.tensor([p.grad is not None for p in parameters], dtype=torch.uint8, device=parameters[0].device)
        dist.all_reduce(there, dist.ReduceOp.MAX)
        wanted = [parameter for parameter, has in zip(parameters, there.tolist(), strict=True) if has]
        for parameter in wanted:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
        self._together([parameter.grad for parameter in wanted if parameter.grad is not None])

    def total(self, value: Tensor) -> Tensor:
        """The sum of what each process has."""
        value = value.clone()
        dist.all_reduce(value)
        return value

    def agreed(self, value: Any) -> Any:
        """What the first process has: plain data."""
        held = [value]
        dist.broadcast_object_list(held, src=0)
        return held[0]

    @torch.no_grad()
    def average_norms(self, network: nn.Module, share: float) -> None:
        """Give every process the mean of the running statistics of all; `share`: of the step's samples, its own."""
        norms = tracking_norms(network)
        statistics = [x for norm in norms for x in (norm.running_mean, norm.running_var) if x is not None]
        for statistic in statistics:
            statistic *= share
        self._together(statistics)
        for norm in norms:
            if norm.num_batches_tracked is not None:
                dist.all_reduce(norm.num_batches_tracked, dist.ReduceOp.MAX)

    @contextlib.contextmanager
    def own_randomness(self, key: int, device: torch.device) -> Iterator[None]:
        """A block in which this process draws other numbers than the others, by `key`; after it all draw alike again,
        as if nothing had been drawn."""
        seed = int(np.random.SeedSequence((key, self.rank)).generate_state(1)[0])
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            torch.manual_seed(seed)
            yield

    @contextlib.contextmanager
    def joined_norms(self, network: nn.Module, device: torch.device) -> Iterator[None]:
        """A block in which batch norms see the samples of all processes, on CUDA; on a CPU PyTorch has no such norm."""
        if device.type != "cuda":
            yield
            return
        own = {name: module for name, module in network.named_modules() if isinstance(module, _BatchNorm)}
        for name, norm in own.items():
            if name:
                network.set_submodule(name, nn.SyncBatchNorm.convert_sync_batchnorm(norm))
        try:
            yield
        finally:
            for name, norm in own.items():  # they share their tensors
                if name:
                    network.set_submodule(name, norm)

    def _together(self, tensors: Sequence[Tensor]) -> None:
        """Add tensors up over all processes, in place: one message for each type."""
        for dtype in dict.fromkeys(tensor.dtype for tensor in tensors):
            alike = [tensor for tensor in tensors if tensor.dtype == dtype]
            flat = torch.cat([tensor.reshape(-1) for tensor in alike])
            dist.all_reduce(flat)
            for tensor, summed in zip(alike, flat.split([t.numel() for t in alike]), strict=True):
                tensor.copy_(summed.view_as(tensor))


ALONE = Team()

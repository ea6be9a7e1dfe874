"""The zeros that a network is to end with, and masks that hold weights at zero."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor, nn

from search_spaces.operators.patterns import UNSTRUCTURED, Pattern
from search_spaces.operators.ranking import ranked


@dataclass(frozen=True)
class Target:
    """How many weights of which tensors are not zero in the end, and where those may lie."""

    counts: Mapping[str, int]
    """Parameter -> how many of its weights remain."""
    pattern: Pattern = UNSTRUCTURED

    @classmethod
    def of(cls, network: nn.Module, names: Iterable[str], pattern: Pattern = UNSTRUCTURED) -> Self:
        """As many as `network` has now, of those of its parameters `names` that have any zero."""
        counts = {name: int(network.get_parameter(name).count_nonzero()) for name in names}
        return cls({name: n for name, n in counts.items() if n < network.get_parameter(name).numel()}, pattern)

    def part(self, network: nn.Module, share: float) -> dict[str, int]:
        """Parameter -> how many remain when this share of the zeros, in [0, 1], is there."""
        sizes = {name: network.get_parameter(name).numel() for name in self.counts}
        return {name: size - round(share * (size - self.counts[name])) for name, size in sizes.items()}

    def power(self, network: nn.Module, exponent: float) -> dict[str, int]:
        """Parameter -> how many remain when of each density d, d^exponent is left: equal parts go in equal steps."""
        sizes = {name: network.get_parameter(name).numel() for name in self.counts}
        return {name: round(size * (self.counts[name] / size) ** exponent) for name, size in sizes.items()}

    def largest(self, network: nn.Module, counts: Mapping[str, int] | None = None) -> Masks:
        """A mask of the weights of the largest magnitude, `counts` of them, or as many as remain in the end."""
        magnitudes = {name: network.get_parameter(name).detach().abs() for name in self.counts}
        return Masks({n: highest(x, (counts or self.counts)[n], self.pattern) for n, x in magnitudes.items()})


class Masks:
    """Which weights of which parameters stay; the others are held at zero."""

    def __init__(self, kept: Mapping[str, Tensor] | None = None) -> None:
        """`kept`: parameter -> bool, in its shape. None: nothing is held."""
        self.kept = dict(kept or {})

    @classmethod
    def of_nonzero(cls, network: nn.Module, names: Iterable[str]) -> Self:
        """What is not zero now stays."""
        return cls({name: network.get_parameter(name).detach() != 0 for name in names})

    @torch.no_grad()
    def hold_gradients(self, network: nn.Module) -> None:
        """Set the gradients of zeros to zero."""
        for name in self.kept:
            weight = network.get_parameter(name)
            if weight.grad is not None:
                weight.grad.masked_fill_(~self.on(weight, name), 0)

    @torch.no_grad()
    def hold_weights(self, network: nn.Module) -> None:
        """Set the weights that do not stay to zero: to 0.0 and never -0.0, which a packed file would store."""
        for name in self.kept:
            weight = network.get_parameter(name)
            weight.masked_fill_(~self.on(weight, name), 0)

    def on(self, weight: Tensor, name: str) -> Tensor:
        """The mask of a parameter, on the device of its `weight`, where it stays: checkpoints are read on the CPU."""
        if self.kept[name].device != weight.device:
            self.kept[name] = self.kept[name].to(weight.device)
        return self.kept[name]


def highest(scores: Tensor, count: int, pattern: Pattern = UNSTRUCTURED) -> Tensor:
    """Which `count` of `scores` are the highest that may stay within `pattern`: bool, in their shape."""
    if not pattern.free:
        return ranked(scores.cpu(), pattern).to(scores.device) < count
    flat = torch.zeros(scores.numel(), dtype=torch.bool, device=scores.device)
    flat[scores.flatten().topk(count, sorted=False).indices] = True
    return flat.view(scores.shape)


@torch.no_grad()
def forget(optimizer: torch.optim.Optimizer, weight: Tensor, where: Tensor) -> None:
    """Set what the optimizer remembers of the entries `where` of `weight` (momentum, mean squares) to zero."""
    for value in optimizer.state.get(weight, {}).values():
        if isinstance(value, Tensor) and value.shape == weight.shape:
            value.masked_fill_(where, 0)

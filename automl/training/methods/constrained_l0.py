"""A price of open gates that finds by itself how high it must be, for a number of weights that is wanted."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor


class DualPrice:
    """A Lagrange multiplier for each tensor, which rises while more of its gates are open than may be.

    Gallego-Posada et al. 2022, "Controlled sparsity via constrained optimization", arXiv 2208.04425: min over weights
    and gates, max over lambda >= 0 of loss + sum over tensors of lambda (density - wanted), by gradient descent and
    ascent at once. By dual restarts a multiplier is 0 again once its constraint is kept. The density is the expected
    one.
    """

    def __init__(self, wanted: Mapping[str, int], rate: float) -> None:
        """`wanted`: tensor -> how many of its weights may remain; `rate`: of the ascent."""
        self._wanted, self._rate = dict(wanted), rate
        self.multipliers = dict.fromkeys(wanted, 0.0)
        """Lambda of each tensor."""

    def of(self, name: str, gates: int) -> float:
        """What one open gate of so many adds to lambda times the density."""
        return self.multipliers[name] / gates

    def see(self, name: str, opened: Tensor, gates: int) -> None:
        """A step of ascent, or a restart."""
        excess = (float(opened) - self._wanted[name]) / gates
        self.multipliers[name] = self.multipliers[name] + self._rate * excess if excess > 0 else 0.0

    def state(self) -> dict[str, float]:
        """The multipliers."""
        return dict(self.multipliers)

    def restore(self, state: Mapping[str, float]) -> None:
        """Go on from there."""
        self.multipliers = dict(state)


class PriceOfEach(DualPrice):
    """The same with a multiplier of the number of open gates, and not of their density: one adds lambda itself.

    It is for gates whose gradients are normalised, so that they do not become smaller where a tensor has more of them.
    """

    def of(self, name: str, gates: int) -> float:
        """Lambda."""
        return self.multipliers[name]

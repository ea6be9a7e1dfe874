"""How probable the parameters of the Gaussian process of `agents.bo` are, with the gradient in closed form.

GPyTorch computes the same by automatic differentiation of some hundred small operators, of which the arithmetic is a
tenth: nine tenths of a proposal's time went into that. The model, its priors, bounds and transforms stay GPyTorch's and
are read from it; a test holds value and gradient against GPyTorch's own.

With K = s1 K_bits K_keeps + s2 K_sums + noise I, r = y - mean, a = K^-1 r and G = a a^T - K^-1 (Rasmussen & Williams
2006, equations 5.8 and 5.9):

    log p(y) = -r^T a / 2 - log det K / 2 - n log(2 pi) / 2        d log p / d t = sum(G * dK/dt) / 2
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from scipy.linalg import LinAlgError, cho_factor, cho_solve
from scipy.spatial.distance import cdist
from scipy.special import expit
from torch import Tensor, nn

if TYPE_CHECKING:
    from gpytorch.mlls import ExactMarginalLogLikelihood
    from gpytorch.priors import GammaPrior, LogNormalPrior

ROOT = math.sqrt(5.0)


class Part(NamedTuple):
    """A factor of the kernel on some columns: its matrix, and how that changes with the length-scales."""

    matrix: np.ndarray
    """[n, n], ones on the diagonal."""
    slope: np.ndarray
    """[n, n]: the matrix changes by slope * (difference in column j)^2 / (length-scale of j)^3."""

    def along(self, weights: np.ndarray, x: np.ndarray, lengths: np.ndarray) -> np.ndarray:
        """The sum over pairs of `weights` ([n, n], symmetric) times the derivative by each length-scale: [n_columns].

        One length-scale for all columns has the sum over them: [1].
        """
        a = weights * self.slope
        squares = 2 * (a.sum(axis=1) @ x**2 - (x * (a @ x)).sum(axis=0))  # [n_columns], of all differences
        each: np.ndarray = squares / lengths**3
        return each if len(lengths) > 1 or x.shape[1] == 1 else each.sum(keepdims=True)


def squared_exponential(x: np.ndarray, lengths: np.ndarray) -> Part:
    """exp(-d^2 / 2) of rows `x` ([n, n_columns]), d being the distance in length-scales."""
    matrix = np.exp(-cdist(x / lengths, x / lengths, "sqeuclidean") / 2)
    return Part(matrix, matrix)


def matern(x: np.ndarray, lengths: np.ndarray) -> Part:
    """The Matern kernel of smoothness 5/2 of rows `x` ([n, n_columns])."""
    d = ROOT * cdist(x / lengths, x / lengths)
    decay = np.exp(-d)
    return Part((1 + d + d**2 / 3) * decay, 5 / 3 * (1 + d) * decay)


@dataclass(frozen=True)
class Positive:
    """A positive parameter of a GPyTorch module, or several: its prior, and the raw numbers that an optimiser sees."""

    raw: Tensor
    soft: bool
    """Whether the value is the softplus of the raw one; otherwise they are the same, and the optimiser has bounds."""
    prior: LogNormalPrior | GammaPrior

    @classmethod
    def of(cls, module: nn.Module, name: str) -> Positive:
        """The parameter of `module` with this name."""
        raw, limits = getattr(module, f"raw_{name}"), getattr(module, f"raw_{name}_constraint")
        return cls(raw, bool(limits.enforced), getattr(module, f"{name}_prior"))

    def now(self) -> tuple[np.ndarray, np.ndarray]:
        """The values, and how they change with the raw ones: [n] both."""
        raw = self.raw.detach().numpy().ravel()
        return (np.logaddexp(0, raw), expit(raw)) if self.soft else (raw, np.ones_like(raw))

    @cached_property
    def _numbers(self) -> tuple[float, float]:
        """The two numbers of the prior."""
        names = ("concentration", "rate") if hasattr(self.prior, "rate") else ("loc", "scale")
        first, second = (float(getattr(self.prior, name)) for name in names)
        return first, second

    def prior_of(self, value: np.ndarray) -> tuple[float, np.ndarray]:
        """The logarithm of the prior's density at values, summed, and its slope at each."""
        first, second = self._numbers
        log = np.log(value)
        if hasattr(self.prior, "rate"):
            density = first * math.log(second) - math.lgamma(first) + (first - 1) * log - second * value
            return float(density.sum()), (first - 1) / value - second
        away = (log - first) / second
        density = -log - math.log(second) - math.log(2 * math.pi) / 2 - away**2 / 2
        return float(density.sum()), -(1 + away / second) / value


class Evidence:
    """The loss that a fit minimises: -(log p(y) + log prior) / n, with its gradient by each raw parameter.

    Called, it reads the parameters as they are then: what `botorch.optim.fit.fit_gpytorch_mll_scipy` calls a closure.
    """

    def __init__(self, likelihood: ExactMarginalLogLikelihood, columns: Mapping[str, slice]) -> None:
        """`columns`: of `bits` (a squared exponential) and `keeps` (Matern), those that there are, and of `sums`."""
        model = likelihood.model
        self.order = [parameter for parameter in likelihood.parameters() if parameter.requires_grad]
        self.y, rows = model.train_targets.numpy(), model.train_inputs[0].numpy()
        self.x = {name: rows[:, which] for name, which in columns.items()}
        self.constant = model.mean_module.raw_constant
        first, second = model.covar_module.kernels
        inner = getattr(first.base_kernel, "kernels", [first.base_kernel])
        kernels = {**dict(zip(columns, inner, strict=False)), "sums": second.base_kernel}
        self.positive = {
            "noise": Positive.of(model.likelihood.noise_covar, "noise"),
            "first": Positive.of(first, "outputscale"),
            "second": Positive.of(second, "outputscale"),
            **{name: Positive.of(kernel, "lengthscale") for name, kernel in kernels.items()},
        }

    def __call__(self) -> tuple[Tensor, list[Tensor]]:
        """The loss and its gradients, in the order of the parameters."""
        n, found = len(self.y), {name: positive.now() for name, positive in self.positive.items()}
        value = {name: values for name, (values, _) in found.items()}
        density, offset, slopes = self._density(value)
        gradients = {id(self.constant): np.array([offset])}
        for name, positive in self.positive.items():
            prior, slope = positive.prior_of(value[name])
            density += prior
            gradients[id(positive.raw)] = (slopes[name] + slope) * found[name][1]
        shaped = [torch.from_numpy(-gradients[id(p)] / n).reshape(p.shape) for p in self.order]
        return torch.tensor(-density / n, dtype=torch.float64), shaped

    def _density(self, value: Mapping[str, np.ndarray]) -> tuple[float, float, dict[str, np.ndarray]]:
        """log p(y), its derivative by the mean, and by each positive parameter."""
        parts = {
            name: (squared_exponential if name == "bits" else matern)(x, value[name]) for name, x in self.x.items()
        }
        factors = {name: part.matrix for name, part in parts.items() if name != "sums"}
        product, sums = np.multiply.reduce([*factors.values()]), parts["sums"].matrix
        k = value["first"] * product + value["second"] * sums
        k[np.diag_indices_from(k)] += value["noise"]
        try:
            root = cho_factor(k, lower=True)
        except LinAlgError as error:  # the optimiser takes a shorter step
            raise RuntimeError(f"the kernel's matrix is singular: {error}") from error
        r = self.y - self.constant.item()
        a = cho_solve(root, r)
        density = -(r @ a) / 2 - np.log(np.diag(root[0])).sum() - len(r) * math.log(2 * math.pi) / 2
        g = (np.outer(a, a) - cho_solve(root, np.eye(len(r)))) / 2
        of_scales = {"noise": np.trace(g), "first": (g * product).sum(), "second": (g * sums).sum()}
        slopes = {name: np.array([slope]) for name, slope in of_scales.items()}
        for name, part in parts.items():
            scale = value["second" if name == "sums" else "first"]
            others = [matrix for other, matrix in factors.items() if name != "sums" and other != name]
            slopes[name] = part.along(np.multiply.reduce([g * scale, *others]), self.x[name], value[name])
        return float(density), float(a.sum()), slopes

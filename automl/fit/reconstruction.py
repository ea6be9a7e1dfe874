"""Least squares: the remaining weights of a layer take over the work of its removed inputs."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor, fx, nn

from automl.fit.gram import Gram
from automl.fit.shift import add_shift
from search_spaces import LayerSlice
from search_spaces.graph.lone_norms import lone_norms

RECONSTRUCTION_RIDGE = 0.1
"""Weight of the ridge penalty for as many rows as features, relative to the mean square of a feature."""

CACHE_BYTES = 64 * 2**20


def least_squares(
    gram: Tensor, weight: Tensor, kept: Tensor, *, intercept: bool, ridge: float | None = None
) -> tuple[Tensor, Tensor]:
    """Weights for the features `kept` that best reproduce the outputs of all features.

    With X: [rows, features], minimises over W' and s
        |X_K W'^T + s - X W^T|^2 / rows + ridge * scale * |W' - W_K|^2,
    which AMC (He et al. 2018, section 3.3; He et al. 2017, equation 5) solves from sampled features. The target is
    linear in X, so X^T Y = X^T X W^T: the Gram matrix alone gives the same solution, with nothing else gathered.

    The ridge pulls towards the sliced weights W_K, hence the residual never exceeds that of plain slicing. `scale`
    is the mean variance of a feature kept (mean square without intercept), and a little more, as what is left of
    constant features once centred is rounding; by default `ridge` is RECONSTRUCTION_RIDGE * kept / rows, as the error
    of a fit grows with that ratio (on ResNet-56 with 8 images, 512 rows for 288 features, 0.1 beat anything smaller
    by 2.5 points of accuracy; with 64 images 0.01 and less were alike).

    `gram`: [features + 1, features + 1]; `weight`: [out, features]; `kept`: [kept] ascending indices.
    Returns W': [out, kept] and s: [out] (zeros without `intercept`), in float64.
    """
    weight = weight.double()
    rows = gram[-1, -1]
    lost = torch.ones(weight.shape[1], dtype=torch.bool)
    lost[kept] = False
    removed = lost.nonzero()[:, 0]
    inner = gram[kept[:, None], kept] / rows  # [kept, kept]
    cross = gram[kept[:, None], removed] / rows  # [kept, removed]
    mean = gram[-1, :-1] / rows
    scale = 1e-3 * inner.diagonal().mean()
    if intercept:
        inner -= torch.outer(mean[kept], mean[kept])
        cross -= torch.outer(mean[kept], mean[removed])
    ridge = max(RECONSTRUCTION_RIDGE * len(kept) / float(rows), 1e-9) if ridge is None else ridge
    scale += inner.diagonal().mean()
    change = solve(inner, cross @ weight[:, removed].T, ridge * scale).T
    new = weight[:, kept] + change
    if not intercept:
        return new, torch.zeros(len(weight), dtype=torch.float64)
    return new, weight[:, removed] @ mean[removed] - change @ mean[kept]


def solve(inner: Tensor, right: Tensor, ridge: Tensor) -> Tensor:
    """(inner + ridge)^-1 right; the ridge grows until the sum is positive definite in floating point, else zeros."""
    identity = torch.eye(len(inner), dtype=inner.dtype)
    for _ in range(5):
        factor, info = torch.linalg.cholesky_ex(inner + ridge * identity)
        if not info:
            return torch.cholesky_solve(right, factor)
        ridge = 100 * ridge + 1e-9 * inner.diagonal().abs().mean()
    return torch.zeros_like(right)


def kept_in_groups(layer: nn.Conv2d | nn.Linear, kept_in: np.ndarray) -> list[np.ndarray] | None:
    """For each group of a layer, which of its input channels remain, counted within the group.

    None where there is nothing to refit: every group is kept whole or removed whole.
    """
    groups = layer.groups if isinstance(layer, nn.Conv2d) else 1
    width = layer.weight.shape[1]
    if isinstance(layer, nn.Linear) or groups == 1:
        return [kept_in] if len(kept_in) < width else None
    kept = [kept_in[kept_in // width == g] % width for g in range(groups)]
    return kept if any(0 < len(part) < width for part in kept) else None


class Reconstruction:
    """Refits the layers of a rebuilt network that lost inputs, from Gram matrices of the original network.

    The fitted shift goes into the layer's bias; without a bias, into the running mean of the batch norm that alone
    consumes the layer; with neither, the fit is made without an intercept. Layers without a Gram matrix, and
    grouped convolutions that only lost whole groups, keep their sliced weights.
    """

    def __init__(self, original: fx.GraphModule, grams: Mapping[str, Gram]) -> None:
        self._original = original
        self._grams = grams
        norms = {conv: norm for conv, norm in lone_norms(original).items() if conv in grams}
        self._norms = {conv: norm for conv, norm in norms.items() if self._same_channels(conv)}
        self._solved: OrderedDict[tuple[str, bytes], tuple[Tensor, Tensor]] = OrderedDict()
        self._solved_bytes = 0

    def _same_channels(self, name: str) -> bool:
        # Batch norm takes dimension 1 as channels, which is a linear layer's last one only for matrices.
        return not isinstance(self._original.get_submodule(name), nn.Linear) or self._grams[name].input_dims == 2

    def apply(self, network: nn.Module, slices: Mapping[str, LayerSlice]) -> None:
        """Overwrite weights of `network`, built with these `slices`, in place."""
        for name, kept in slices.items():
            if name in self._grams:
                self._refit(network, name, kept.kept_in, kept.kept_out)

    def _refit(self, network: nn.Module, name: str, kept_in: np.ndarray, kept_out: np.ndarray) -> None:
        solution = self._solution(name, kept_in)
        if solution is None:
            return
        weight, shift = (part[torch.from_numpy(kept_out)] for part in solution)
        layer = _layer(network, name)
        with torch.no_grad():
            layer.weight.copy_(weight.view_as(layer.weight))
        add_shift(network, name, shift, self._norms)

    def _solution(self, name: str, kept_in: np.ndarray) -> tuple[Tensor, Tensor] | None:
        """Weights [out, kept features] and shifts [out] of all output channels; None if nothing is to be fitted."""
        key = (name, kept_in.tobytes())
        if key in self._solved:
            self._solved.move_to_end(key)
            return self._solved[key]
        solution = self._fit(name, kept_in)
        if solution is not None:
            self._solved[key] = solution
            self._solved_bytes += _bytes(solution)
            while self._solved_bytes > CACHE_BYTES:
                self._solved_bytes -= _bytes(self._solved.popitem(last=False)[1])
        return solution

    def _fit(self, name: str, kept_in: np.ndarray) -> tuple[Tensor, Tensor] | None:
        layer = _layer(self._original, name)
        kept_of_group = kept_in_groups(layer, kept_in)
        if kept_of_group is None:
            return None
        grams = self._grams[name].matrix  # [groups, features + 1, features + 1]
        weight = layer.weight.detach().reshape(len(grams), -1, grams.shape[1] - 1)  # [groups, out, features]
        kernel = layer.weight[0, 0].numel()
        intercept = layer.bias is not None or name in self._norms
        new = torch.zeros(*weight.shape[:2], max(len(kept) for kept in kept_of_group) * kernel)
        shift = torch.zeros(*weight.shape[:2])
        for g, kept in enumerate(kept_of_group):
            if len(kept):
                features = torch.from_numpy((kept[:, None] * kernel + np.arange(kernel)).ravel())
                new[g], shift[g] = least_squares(grams[g], weight[g], features, intercept=intercept)
        return new.flatten(0, 1), shift.flatten()

    def __getstate__(self) -> dict[str, object]:
        return {**self.__dict__, "_solved": OrderedDict(), "_solved_bytes": 0}


def _layer(network: nn.Module, name: str) -> nn.Conv2d | nn.Linear:
    layer = network.get_submodule(name)
    assert isinstance(layer, (nn.Conv2d, nn.Linear))
    return layer


def _bytes(tensors: Sequence[Tensor]) -> int:
    return sum(tensor.nbytes for tensor in tensors)

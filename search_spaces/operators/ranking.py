"""The order in which the weights of a layer stay, by their scores and within a pattern."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.modules.conv import _ConvTransposeNd

from search_spaces.graph.tensors import Layer, along_inputs
from search_spaces.operators.patterns import UNSTRUCTURED, Pattern


def rank_weights(layer: Layer, scale: tuple[float, ...] = (), pattern: Pattern = UNSTRUCTURED) -> Tensor:
    """Rank a layer's weights by |weight| * scale of the input channel: 0 for the last to go; int32, as the weight."""
    scores = layer.weight.detach().double().abs()
    if scale:
        scores = scores * along_inputs(layer, torch.tensor(scale, dtype=torch.float64))
    return ranked(scores, pattern)


def ranked(scores: Tensor, pattern: Pattern = UNSTRUCTURED) -> Tensor:
    """The position of each of `scores`, none negative, in the order in which they stay: int32, in their shape.

    Descending, of several alike the first before the others. The first `count` of them, for any count that the pattern
    has (`Pattern.counts`), are a legal choice of weights:

    - of N:M those come first that are among the N highest of their M;
    - blocks are ordered by the sum of their squared scores.

    What does not fill the pattern, in a layer that was narrowed or factorised, keeps the same share: of an incomplete
    group at most N, of the edges beyond whole blocks single weights.
    """
    if pattern.free:
        return _positions(torch.sort(scores.reshape(-1), descending=True, stable=True).indices).view(scores.shape)
    places = columns(scores)
    matrix = scores.flatten(1)[:, places]
    order = _grouped(matrix, pattern) if pattern.grouped else _in_blocks(matrix, pattern)
    out = torch.empty_like(order)
    out[:, places] = order
    return out.view(scores.shape)


def columns(weight: Tensor) -> Tensor:
    """Where each feature of a pattern, kernel position by kernel position, lies in `weight.flatten(1)`: [features].

    `weight`: [out, in / groups, *kernel].
    """
    return torch.arange(weight[0].numel()).view(weight.shape[1], -1).T.flatten()


def matrix_of(layer: Layer) -> tuple[int, int] | None:
    """Rows of one group of a layer's weight, and features; None for a transposed convolution: inputs come first."""
    if isinstance(layer, _ConvTransposeNd):
        return None
    groups = getattr(layer, "groups", 1)
    return len(layer.weight) // groups, layer.weight[0].numel()


def _positions(order: Tensor) -> Tensor:
    """Where each index stands in `order`, [n]: [n], int32."""
    rank = torch.empty(len(order), dtype=torch.int32)
    rank[order] = torch.arange(len(order), dtype=torch.int32)
    return rank


def _grouped(matrix: Tensor, pattern: Pattern) -> Tensor:
    """The order for N:M: [out, features]. First N of each full group, then what may stay of the incomplete ones."""
    out, features = matrix.shape
    missing = -features % pattern.of
    padded = torch.nn.functional.pad(matrix, (0, missing), value=-1.0).view(out, -1, pattern.of)
    within = padded.argsort(dim=2, descending=True, stable=True).argsort(dim=2)  # [out, groups, M], 0 for the highest
    within = within.view(out, -1)[:, :features]
    full = torch.arange(features) < features // pattern.of * pattern.of
    stage = torch.where(within < pattern.most, torch.where(full, 0, 1), 2)  # [out, features]
    by_score = torch.sort(matrix.flatten(), descending=True, stable=True).indices
    staged = by_score[stage.flatten()[by_score].argsort(stable=True)]
    return _positions(staged).view(out, features)


def _in_blocks(matrix: Tensor, pattern: Pattern) -> Tensor:
    """The order for blocks: [out, features]. Units of as many weights of the edges come between, evenly spread."""
    (out, features), (rows, width) = matrix.shape, (pattern.rows, pattern.columns)
    at = torch.arange(out * features).view(out, features)
    down, across = out // rows, features // width
    inner = at[: down * rows, : across * width].reshape(down, rows, across, width)
    blocks = inner.transpose(1, 2).reshape(down * across, pattern.unit)  # where the weights of each block are
    squares = matrix.flatten().double().square()
    blocks = blocks[torch.sort(squares[blocks].sum(1), descending=True, stable=True).indices]
    edges = torch.cat([at[: down * rows, across * width :].flatten(), at[down * rows :].flatten()])
    edges = edges[torch.sort(squares[edges], descending=True, stable=True).indices]
    units = edges[: len(edges) // pattern.unit * pattern.unit].view(-1, pattern.unit)
    keys = torch.cat([(torch.arange(len(x), dtype=torch.float64) + 0.5) / max(len(x), 1) for x in (blocks, units)])
    order = torch.cat([blocks, units])[keys.argsort(stable=True)].flatten()
    return _positions(torch.cat([order, edges[units.numel() :]])).view(out, features)

"""Sparse starts: what is learnt is pruned, and learnt again, in turn (Meta-SparseINR).

Lee, Tack, Lee & Shin 2021, "Meta-learning sparse implicit neural representations", NeurIPS, arXiv 2110.14678, algorithm
1: MAML, then for some rounds 20 % of the weights that are left, those of the least magnitude over all layers, are
pruned and the start is learnt again by MAML, second order, with two inner steps. Biases are never pruned.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Literal

import torch
from torch import Tensor, nn

from automl.signals.learnt_start import WholeStart, before_learning
from automl.signals.meta import Learnt, MetaOptions, Tensors, learn

Ranking = Literal["magnitude", "random"]
PART = 0.2
"""Of the weights that are left, pruned in a round."""


def learn_sparse_start(
    network: nn.Module,
    points: Tensor,
    values: Tensor,
    options: MetaOptions,
    rounds: int,
    *,
    part: float = PART,
    ranking: Ranking = "magnitude",
    told: Callable[[int, Learnt, Tensors], None] = lambda done, learnt, masks: None,
) -> tuple[Learnt, Tensors]:
    """A start with `part` of its weights fewer after each of `rounds`, and its masks; zeros stand where it has none.

    `points`: [n, axes]; `values`: [signals, n, channels]. Each round, and what comes before the first, takes the outer
    steps of `options`. `told` hears how many rounds are done, what was learnt, and the masks.
    """
    shared = before_learning(network)
    masks: Tensors = {}
    for done in range(rounds + 1):
        if done:
            masks = pruned(shared, masks, part, ranking, torch.Generator().manual_seed(options.seed + done))
        learnt = learn(WholeStart(network, masks), shared, points, values, replace(options, seed=options.seed + done))
        shared = masked(learnt.shared, masks)
        learnt.shared = shared
        told(done, learnt, masks)
    return learnt, masks


def pruned(start: Tensors, masks: Tensors, part: float, ranking: Ranking, generator: torch.Generator) -> Tensors:
    """The masks without `part` of the weights that are left: the least over all layers, or any at random.

    `start`: parameters by name; those of two dimensions are weights. `masks`: empty if nothing is pruned yet.
    """
    weights = {name: tensor for name, tensor in start.items() if tensor.ndim > 1}
    there = torch.cat([masks.get(name, torch.ones_like(tensor)).reshape(-1) for name, tensor in weights.items()])
    sizes = [tensor.numel() for tensor in weights.values()]
    if ranking == "magnitude":
        scores = torch.cat([tensor.detach().abs().reshape(-1) for tensor in weights.values()])
    else:
        scores = torch.rand(len(there), generator=generator)
    scores = scores.masked_fill(there == 0, -1)  # what is gone comes first, and counts as gone
    gone = int((there == 0).sum())
    fewer = int(int(there.sum()) * part)
    there[scores.argsort()[: gone + fewer]] = 0
    return {name: part.view_as(weights[name]) for name, part in zip(weights, there.split(sizes), strict=True)}


def masked(tensors: Tensors, masks: Tensors) -> Tensors:
    """The tensors with zeros where masks have them."""
    return {name: tensor * masks[name] if name in masks else tensor for name, tensor in tensors.items()}

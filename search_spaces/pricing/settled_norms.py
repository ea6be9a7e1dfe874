"""What the norms behind layers in few bits need not tell a file, since they are settled (`search_spaces.settled`)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, fx

from search_spaces.codecs import brief
from search_spaces.codecs.reader import MOST_NUMBERS
from search_spaces.graph.lone_norms import movable_norms
from search_spaces.pricing.sheet import Pieces
from search_spaces.pricing.storage import Storage
from search_spaces.pricing.terms import Terms

FLOAT = 4
"""Bytes of a number of a norm, where it is settled."""
SHORTEST = 16
"""Characters that tell of the shortest name at least that it is a tensor of one number."""


@dataclass(frozen=True)
class SettledNorms:
    """Which bytes of a norm, and of the bias before it, need not be written once the layer before it is in few bits."""

    saved: np.ndarray
    """For each output channel of a site: [n_sites]."""
    lines: np.ndarray
    """What lines of tensors in bfloat16 take more: [n_sites]."""
    scale_bytes: int
    """Of the scale of an output channel."""

    @classmethod
    def of(cls, terms: Terms, network: fx.GraphModule, state: Mapping[str, Tensor], storage: Storage) -> SettledNorms:
        """Those of the sites that are coded in a network whose tensors are `state`."""
        short = all(tensor.dtype != torch.bfloat16 for tensor in state.values())
        halved = FLOAT - brief.BYTES if short else 0  # of biases, and of what a norm multiplies by behind a codebook
        shared = any(form.centroids for form in storage.formats)
        saved, lines, norms = np.zeros(len(terms.tensors)), np.zeros(len(terms.tensors)), movable_norms(network)
        for site in storage.coded:
            name, made = terms.tensors[site].layers[0], terms.tensors[site].shape[0]
            floats = name in norms and all(tensor.dtype == torch.float32 for tensor in norms[name].parameters())
            if not floats or made > MOST_NUMBERS * SHORTEST:
                continue
            has_bias = f"{name}.bias" in state
            saved[site] = FLOAT * (2 + has_bias) + (halved if shared else FLOAT) + halved
            lines[site] = 2
        return cls(saved, lines, FLOAT - halved)

    def bytes(self, pieces: Pieces) -> np.ndarray:
        """What is saved at each site whose weights are in few bits: [n_sites]."""
        # The norm is behind the last of the parts.
        made = np.take_along_axis(pieces.made, _last(pieces.made)[..., None], axis=-1)[..., 0]
        saved: np.ndarray = self.saved * made
        return saved


def _last(made: np.ndarray) -> np.ndarray:
    """The column of the last piece of each site that makes anything: [n_sites]."""
    last: np.ndarray = made.shape[-1] - 1 - np.argmax(made[..., ::-1] > 0, axis=-1)
    return last

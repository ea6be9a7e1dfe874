"""Spaces of the operators that are most often searched alone, by their options."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import nn

from search_spaces.spaces.network import NetworkSpace


def channel_space(model: nn.Module, example_inputs: Sequence[Any], **options: Any) -> NetworkSpace:
    """The space of the widths of `model`'s coupled groups of channels; options as of `ChannelsOptions`."""
    return NetworkSpace(model, example_inputs, {"channels": options})


def depth_space(
    model: nn.Module,
    example_inputs: Sequence[Any],
    *,
    exclude: Sequence[str] = (),
    skips: bool = False,
    max_skips: int = 1,
    **options: Any,
) -> NetworkSpace:
    """The space of the blocks and the widths of `model`; options as of `DepthOptions` and `ChannelsOptions`."""
    depth = {"exclude": tuple(exclude), "skips": skips, "max_skips": max_skips}
    return NetworkSpace(model, example_inputs, {"depth": depth, "channels": {"exclude": tuple(exclude), **options}})


def weight_space(model: nn.Module, example_inputs: Sequence[Any], **options: Any) -> NetworkSpace:
    """The space of how many single weights of each layer of `model` remain; options as of `SparsityOptions`."""
    return NetworkSpace(model, example_inputs, {"sparsity": options})

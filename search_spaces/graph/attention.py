"""`torch.nn.MultiheadAttention` written out in layers, which can lose heads, widths of heads and input channels."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from search_spaces.graph.plain_weights import set_weights


class WrittenOut(nn.Module):
    """Multi-head attention as linear layers and products (Vaswani et al. 2017, section 3.2.2).

    It computes what the layer that it is made of computes, with the same arguments.
    """

    bias_k = bias_v = in_proj_bias = in_proj_weight = None
    """The layers of transformers look here whether PyTorch's fused kernel would do; it would not."""
    _qkv_same_embed_dim = False
    add_zero_attn = False

    def __init__(self, layer: nn.MultiheadAttention) -> None:
        super().__init__()
        self.num_heads, self.dropout, self.batch_first = layer.num_heads, layer.dropout, layer.batch_first
        self.embed_dim, self.head_dim = layer.embed_dim, layer.head_dim
        weights = (
            layer.in_proj_weight.chunk(3)
            if layer.in_proj_weight is not None
            else (layer.q_proj_weight, layer.k_proj_weight, layer.v_proj_weight)
        )
        biases = layer.in_proj_bias.chunk(3) if layer.in_proj_bias is not None else (None, None, None)
        self.q, self.k, self.v = (_linear(w, b) for w, b in zip(weights, biases, strict=True))
        self.out_proj = _linear(layer.out_proj.weight, layer.out_proj.bias)

    def forward(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        key_padding_mask: Tensor | None = None,
        need_weights: bool = True,
        attn_mask: Tensor | None = None,
        average_attn_weights: bool = True,
        is_causal: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        """What is attended to, and where: as `torch.nn.MultiheadAttention.forward`."""
        swap = not self.batch_first and query.dim() == 3
        if swap:
            query, key, value = (x.transpose(0, 1) for x in (query, key, value))
        q, k, v = self._heads(self.q(query)), self._heads(self.k(key)), self._heads(self.v(value))
        mask = _joined(attn_mask, key_padding_mask, q)
        if need_weights:
            scores = q @ k.transpose(-2, -1) * self.head_dim**-0.5
            weights = (scores if mask is None else scores + mask).softmax(-1)
            attended = F.dropout(weights, self.dropout, self.training) @ v
        else:
            dropout = self.dropout if self.training else 0.0
            attended = F.scaled_dot_product_attention(q, k, v, mask, dropout)
        out: Tensor = self.out_proj(attended.transpose(-3, -2).flatten(-2))
        if swap:
            out = out.transpose(0, 1)
        if not need_weights:
            return out, None
        return out, weights.mean(-3) if average_attn_weights else weights

    def _heads(self, x: Tensor) -> Tensor:
        """[..., n, heads * width] as [..., heads, n, width]."""
        heads: Tensor = x.unflatten(-1, (self.num_heads, -1))
        return heads.transpose(-3, -2)


def _linear(weight: Tensor, bias: Tensor | None) -> nn.Linear:
    layer = nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None)
    set_weights(layer, weight, bias)
    return layer


def _joined(mask: Tensor | None, padding: Tensor | None, q: Tensor) -> Tensor | None:
    """Both masks as one to be added, of a shape that [batch, heads, n, m] broadcasts with."""
    if mask is not None:
        mask = _added(mask, q)
        if mask.dim() == 3:  # [batch * heads, n, m]
            mask = mask.unflatten(0, (q.shape[0], -1))
    if padding is None:
        return mask
    padding = _added(padding, q)[..., None, None, :]
    return padding if mask is None else mask + padding


def _added(mask: Tensor, q: Tensor) -> Tensor:
    """A mask as what is added to scores: minus infinity where it is true."""
    return mask if mask.dtype != torch.bool else torch.zeros_like(mask, dtype=q.dtype).masked_fill(mask, float("-inf"))


def write_out(network: nn.Module) -> None:
    """Put `WrittenOut` in the place of every plain multi-head attention within `network`."""
    for name, module in list(network.named_modules(remove_duplicate=False)):
        if name and type(module) is nn.MultiheadAttention and module.bias_k is None and not module.add_zero_attn:
            made: Any = WrittenOut(module)
            network.set_submodule(name, made.train(module.training))

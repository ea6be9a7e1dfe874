"""Joints of networks that are not mere convolutions: attention in several spellings, sizes computed on the way."""

from __future__ import annotations

from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import nn


class Attention(nn.Module):
    """Self-attention over the positions of a map, its heads and their widths written in one of several ways."""

    SPELLINGS = ("computed", "chunks", "fused", "einsum", "grouped", "layer")

    def __init__(self, rng, n):
        super().__init__()
        self.heads = int(rng.choice([h for h in (1, 2, 4) if n % (2 * h) == 0] or [1]))
        self.spelling = str(rng.choice(self.SPELLINGS))
        self.norm, self.out = nn.LayerNorm(n), nn.Linear(n, n)
        if self.spelling == "layer":
            self.attention = nn.MultiheadAttention(n, self.heads, batch_first=True)
        elif self.spelling == "grouped":  # queries of two heads read one key and value
            width = n // self.heads
            self.q, self.kv = nn.Linear(n, 2 * self.heads * width), nn.Linear(n, 2 * self.heads * width)
            self.out = nn.Linear(2 * self.heads * width, n)
        else:
            self.qkv = nn.Linear(n, 3 * n, bias=bool(rng.integers(2)))

    def forward(self, x):
        b, c, height, width = x.shape
        tokens = x.flatten(2).transpose(1, 2)
        tokens = tokens + self.out(getattr(self, self.spelling)(self.norm(tokens)))
        return tokens.transpose(1, 2).reshape(b, c, height, width)

    def computed(self, x):
        b, n, c = x.shape
        q, k, v = self.qkv(x).reshape(b, n, 3, self.heads, c // self.heads).permute(2, 0, 3, 1, 4).unbind(0)
        weights = (q @ k.transpose(-2, -1) * (c // self.heads) ** -0.5).softmax(-1)
        return (weights @ v).transpose(1, 2).reshape(b, n, c)

    def chunks(self, x):
        q, k, v = (
            part.view(x.size(0), -1, self.heads, part.size(-1) // self.heads).transpose(1, 2)
            for part in self.qkv(x).chunk(3, dim=-1)
        )
        weights = torch.softmax(torch.matmul(q, k.transpose(-1, -2)) / 2, dim=-1)
        return torch.matmul(weights, v).transpose(1, 2).flatten(2)

    def fused(self, x):
        b, n, _ = x.shape
        q, k, v = self.qkv(x).reshape(b, n, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        return F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(b, n, -1)

    def einsum(self, x):
        b, n, _ = x.shape
        q, k, v = (part.reshape(b, n, self.heads, -1) for part in self.qkv(x).chunk(3, dim=-1))
        weights = torch.einsum("bnhd,bmhd->bhnm", q, k).softmax(-1)
        return torch.einsum("bhnm,bmhd->bnhd", weights, v).reshape(b, n, -1)

    def grouped(self, x):
        b, n, c = x.shape
        width = c // self.heads
        q = self.q(x).view(b, n, 2 * self.heads, width).transpose(1, 2)
        k, v = self.kv(x).view(b, n, 2, self.heads, width).permute(2, 0, 3, 1, 4).unbind(0)
        k, v = (part[:, :, None].expand(b, self.heads, 2, n, width).reshape(b, -1, n, width) for part in (k, v))
        return (torch.softmax(q @ k.mT * width**-0.5, -1) @ v).transpose(1, 2).reshape(b, n, -1)

    def layer(self, x):
        return self.attention(x, x, x, need_weights=False)[0]


class BatchMerged(nn.Module):
    """Every channel is an image of its own for a while: the batch is part of a dimension that shrinks."""

    def __init__(self, rng, n):
        super().__init__()
        self.shared = nn.Conv2d(1, 1, 3, padding=1)
        self.flat = bool(rng.integers(2))

    def forward(self, x):
        b, c, h, w = x.shape
        y = x.flatten(0, 1).unsqueeze(1) if self.flat else x.reshape(b * c, 1, h, w)
        return x + self.shared(y).reshape(b, c, h, w)


class Gated(nn.Module):
    """A gated linear unit of a convolution's two halves."""

    def __init__(self, rng, n):
        super().__init__()
        self.conv = nn.Conv2d(n, 2 * n, 1)

    def forward(self, x):
        return F.glu(self.conv(x), dim=1)


class Rolled(nn.Module):
    """Windows are shifted, as between the layers of a Swin transformer."""

    def __init__(self, rng, n):
        super().__init__()
        self.conv = nn.Conv2d(n, n, 3, padding=1)

    def forward(self, x):
        y = torch.roll(x, shifts=(-1, -1), dims=(2, 3))
        return x + torch.roll(self.conv(y), shifts=(1, 1), dims=(2, 3))


class Shuffled(nn.Module):
    """Pixels move into channels and back."""

    def __init__(self, rng, n):
        super().__init__()
        self.down, self.up = nn.Conv2d(4 * n, n, 1), nn.Conv2d(n, 4 * n, 1)

    def forward(self, x):
        return F.pixel_shuffle(self.up(torch.tanh(self.down(F.pixel_unshuffle(x, 2)))), 2)


class Cached(nn.Module):
    """The shape to come is worked out once for each shape and remembered, as einops does."""

    def __init__(self, rng, n):
        super().__init__()
        self.mix = nn.Linear(n, n)

    def forward(self, x):
        tokens = x.permute(0, 2, 3, 1).reshape(_flattened(tuple(x.shape)))
        return self.mix(tokens).mT.reshape(x.shape)


@lru_cache(maxsize=256)
def _flattened(shape):
    b, c, h, w = shape
    return b, h * w, c


class Standardised(nn.Conv2d):
    """A convolution whose weight is standardised each time."""

    def __init__(self, rng, n):
        super().__init__(n, n, 3, padding=1)

    def forward(self, x):
        mean, deviation = self.weight.mean((1, 2, 3), keepdim=True), self.weight.std((1, 2, 3), keepdim=True)
        return self._conv_forward(x, (self.weight - mean) / (deviation + 1e-5), self.bias)


class Normed(nn.Module):
    """A convolution with weight norm, by a parametrization or by a hook."""

    def __init__(self, rng, n):
        super().__init__()
        norm = nn.utils.parametrizations.weight_norm if rng.integers(2) else nn.utils.weight_norm
        self.conv = norm(nn.Conv2d(n, n, 3, padding=1))

    def forward(self, x):
        return torch.tanh(self.conv(x)) ** 2


class Dense(nn.Module):
    """Linear layers written as products with matrices [in, out], a hidden width between them, as in GPT-2."""

    def __init__(self, rng, n):
        super().__init__()
        hidden = int(rng.integers(2, 9))
        self.up, self.down = nn.Parameter(torch.randn(n, hidden) * 0.3), nn.Parameter(torch.randn(hidden, n) * 0.3)
        self.bias, self.after = nn.Parameter(torch.randn(hidden)), nn.Linear(n, n)

    def forward(self, x):
        tokens = x.flatten(2).mT
        flat = tokens.reshape(-1, tokens.size(-1))
        hidden = torch.addmm(self.bias, flat, self.up).view(*tokens.shape[:-1], self.bias.numel())
        return self.after(F.gelu(hidden) @ self.down).mT.reshape(x.shape)


MODERN = {
    "attention": Attention,
    "merged": BatchMerged,
    "glu": Gated,
    "roll": Rolled,
    "pixels": Shuffled,
    "cached": Cached,
    "standardised": Standardised,
    "normed": Normed,
    "dense": Dense,
}

"""What the lines of layers that may be factorised take in the header of a file."""

from __future__ import annotations

from math import prod

import numpy as np

from search_spaces.pricing.overhead import header_bytes
from search_spaces.pricing.parts import Parts
from search_spaces.pricing.terms import Terms


def factor_lines(terms: Terms, parts: Parts | None) -> np.ndarray:
    """What the header's lines of all factors take more than that of the whole tensor: [n_sites]."""
    more, largest = np.zeros(len(terms.names)), largest_shapes(terms, parts)
    for site, count in enumerate([] if parts is None else parts.count.tolist()):
        if not count:
            continue
        name, shape = terms.names[site], largest[site]
        layer = name.removesuffix("weight")
        factors = {f"{layer}{i}.weight": shape for i in range(count)}
        lines = header_bytes({**factors, "rest": (prod(shape),)})
        more[site] = (
            sum(lines[factor] + 1 for factor in factors) - header_bytes({name: terms.tensors[site].shape})[name]
        )
        more[site] = max(more[site], 0.0) + 4 * count  # offsets may be longer by a digit each
    return more


def largest_shapes(terms: Terms, parts: Parts | None) -> list[tuple[int, ...]]:
    """For each site a shape that no factor of it exceeds in any dimension; of one without factors its own."""
    shapes = [tensor.shape for tensor in terms.tensors]
    if parts is None:
        return shapes
    whole = terms.sheet(terms.whole).pieces
    ranks = zip(
        *(rank.astype(int).tolist() for rank in parts.ranks(whole, np.full(len(shapes), parts.top))), strict=True
    )
    found = zip(shapes, parts.count, ranks, strict=True)
    return [(max(s[0], *most), max(s[1], *most), *s[2:]) if count else s for s, count, most in found]

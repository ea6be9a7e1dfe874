"""Integers for an entropy code: within their bits whatever the weights, nearer than others that take as many."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from automl.fit.descent import descended
from automl.fit.moments import squared_errors
from automl.fit.round_layer import round_layer
from automl.fit.rounding import compensated, scales
from automl.fit.shift import gain_after
from search_spaces.codecs.entropy import fits, stream_bytes
from search_spaces.codecs.integers import dequantized, format_of, symbols_of
from search_spaces.codecs.number_formats import CODED, FORMATS
from search_spaces.codecs.streams import stream
from search_spaces.operators.code import within_bits


def length(integers):
    """Bytes of the stream that a file has of these integers."""
    form = format_of(integers)
    return len(stream(symbols_of(integers, form), len(form.grid), coded=True).write())


def allowed(integers, form, there):
    return form.stored_bits * there / 8 + stream_bytes(form)


def correlated(features, rows=600, seed=0):
    """An augmented Gram matrix of one group, [1, features + 1, features + 1]."""
    generator = torch.Generator().manual_seed(seed)
    causes = torch.randn(rows, 6, generator=generator, dtype=torch.float64)
    x = causes @ torch.randn(6, features, generator=generator, dtype=torch.float64)
    x = x + 0.5 * torch.randn(rows, features, generator=generator, dtype=torch.float64)
    augmented = torch.cat([x, torch.ones(rows, 1, dtype=torch.float64)], 1)
    return (augmented.T @ augmented)[None]


@given(
    st.sampled_from(list(CODED.values())),
    st.sampled_from([(1, 1), (3, 5), (20, 40), (64, 90)]),
    st.sampled_from([0.0, 0.4, 1.0]),
    st.floats(0.3, 4),
    st.integers(0, 2**20),
    st.booleans(),
)
@settings(max_examples=40, deadline=None)
def test_any_weights_are_within_the_bits_with_any_signs(form, shape, zeros, tail, seed, pruned):
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(shape, generator=generator)
    weight = weight.sign() * weight.abs() ** tail * torch.rand(shape[0], 1, generator=generator) ** 4
    weight = weight.masked_fill(torch.rand(shape, generator=generator) < zeros, 0)
    integers, scale = within_bits(weight, form, pruned=pruned)
    integers = integers.to(torch.int8)
    assert (scale > 0).all() and not integers[weight == 0].any()
    there = weight != 0 if pruned else torch.ones_like(weight, dtype=torch.bool)
    assert fits(integers, form, there)
    turned = integers * torch.randint(0, 2, (shape[0], 1), generator=generator).mul(2).sub(1).to(torch.int8)
    for found in (integers, turned):
        assert length(found[there]) <= allowed(found, form, int(there.sum())) + 1
        assert length(found[found != 0]) <= allowed(found, form, int(there.sum())) + 1


@pytest.mark.parametrize("name", CODED)
def test_bits_are_used_up_and_more_of_them_are_nearer(name):
    weight, gram, form = torch.randn(48, 60, generator=torch.Generator().manual_seed(3)), correlated(60), CODED[name]
    found = round_layer(weight, form, gram, intercept=True)
    assert fits(found.integers, form)
    used = 8 * length(found.integers) / weight.numel()
    assert used > 0.93 * form.stored_bits - 0.1
    plain = round_layer(weight, form, None, intercept=True)
    second = gram[0, :-1, :-1] / gram[0, -1, -1]
    mean = gram[0, :-1, -1] / gram[0, -1, -1]
    covariance = second - torch.outer(mean, mean)
    ours, theirs = (squared_errors(r.weight - weight.double(), covariance).sum() for r in (found, plain))
    assert ours < 0.6 * theirs, "other weights make up for what is rounded"
    torch.testing.assert_close(found.shift, -(found.weight - weight).double() @ mean)


@pytest.mark.parametrize(("fixed", "coded"), [("int2", "coded2"), ("int3", "coded3"), ("int4", "coded4")])
def test_at_no_more_bits_it_is_nearer_than_integers_of_fixed_length(fixed, coded):
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(64, 150, generator=generator) * torch.rand(64, 1, generator=generator)
    gram = correlated(150)
    moments = gram[0, :-1, :-1] / gram[0, -1, -1]
    scale = scales(weight, FORMATS[fixed], moments.diagonal())
    integers = compensated(weight, moments, scale, FORMATS[fixed])
    integers, scale = descended(weight, moments, integers, scale, FORMATS[fixed])
    found = round_layer(weight, CODED[coded], gram, intercept=False)
    assert CODED[coded].stored_bits <= FORMATS[fixed].stored_bits
    change = (dequantized(integers, scale) - weight.double(), found.weight - weight.double())
    before, after = (float(squared_errors(part, moments).sum()) for part in change)
    assert after < before


def test_pruned_weights_stay_zero_and_layers_of_groups_are_rounded_too():
    weight, form = torch.randn(16, 4, 3, 3, generator=torch.Generator().manual_seed(1)), CODED["coded1.5"]
    weight[torch.rand(weight.shape, generator=torch.Generator().manual_seed(2)) < 0.5] = 0
    for gram in (correlated(36), correlated(36).repeat(2, 1, 1), None):
        found = round_layer(weight, form, gram, intercept=True, pruned=True)
        assert not found.integers[weight == 0].any() and fits(found.integers, form, weight != 0)
        assert found.integers.dtype == torch.int8 and found.integers.shape == weight.shape


def test_bits_go_to_the_outputs_that_a_norm_multiplies_by_much():
    generator = torch.Generator().manual_seed(5)
    weight, gram, form = torch.randn(48, 60, generator=generator), correlated(60), CODED["coded1.5"]
    gain = 3 * torch.rand(48, generator=generator).double() ** 3
    gain[0] = 0
    moments = gram[0, :-1, :-1] / gram[0, -1, -1]
    alike, shared = (round_layer(weight, form, gram, intercept=False, gain=g) for g in (None, -gain))
    assert fits(shared.integers, form) and not shared.integers[0].any()
    before, after = (
        float(squared_errors(found.weight - weight.double(), moments) @ gain**2) for found in (alike, shared)
    )
    assert after < 0.7 * before
    none = round_layer(weight, form, gram, intercept=False, gain=0 * gain)
    assert fits(none.integers, form) and none.scale.isfinite().all()


def test_the_gain_is_what_the_norm_after_a_layer_multiplies_by():
    network = nn.Sequential(nn.Conv2d(2, 3, 1), nn.BatchNorm2d(3), nn.BatchNorm2d(3, affine=False)).eval()
    nn.init.uniform_(network[1].weight)
    nn.init.uniform_(network[1].running_var, 1, 2)
    x = torch.randn(2, 3, 4, 4)
    gain = gain_after(network, "0", {"0": "1"})
    torch.testing.assert_close(network[1](x) - network[1](0 * x), gain.float()[:, None, None] * x)
    assert gain_after(network, "0", {}) is None and len(gain_after(network, "1", {"1": "2"})) == 3

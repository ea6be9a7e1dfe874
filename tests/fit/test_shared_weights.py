"""Weights that share numbers: k-means, the data, files that come back bit for bit, and centroids that are moved."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from automl.fit.gram import gram_of
from automl.fit.held import in_book
from automl.fit.moments import moments_of, squared_errors
from automl.fit.shared_weights import share_layer
from search_spaces import CodeStep, NetworkSpace, Plan, SpaceError, rebuild, trace
from search_spaces.codecs import reader
from search_spaces.codecs.number_formats import SHARED
from search_spaces.codecs.packing import pack, pack_open, unpack
from search_spaces.operators.code import BOOK
from search_spaces.operators.shared import clustered, nearest_centroid
from search_spaces.settled import settle_norms


def test_k_means_finds_the_best_clusters_of_few_numbers():
    """Against all ways to cut sorted numbers in three, which is what optimal clusters are."""
    values = torch.tensor([-3.0, -2.9, -1.0, -0.8, 0.5, 2.0, 2.2, 2.9], dtype=torch.float64)

    def error(parts):
        return sum(float((part - part.mean()).square().sum()) for part in parts)

    least = min(error((values[:a], values[a:b], values[b:])) for a, b in itertools.combinations(range(1, 8), 2))
    book, places = clustered(values, 3)
    assert float((book[places] - values).square().sum()) == pytest.approx(least, rel=1e-5)
    weighted, places = clustered(values, 2, torch.tensor([1e4] + [1.0] * 7))
    assert weighted[places[0]] == pytest.approx(-3, abs=0.01)


@given(st.integers(0, 1000), st.sampled_from([2, 4, 16]), st.booleans())
@settings(max_examples=30, deadline=None)
def test_every_weight_has_the_nearest_centroid_and_each_centroid_is_the_mean_of_its_weights(seed, centroids, pruned):
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(6, 30, generator=generator)
    if pruned:
        weight *= torch.rand(6, 30, generator=generator) < 0.5
    book, places = clustered(weight, centroids)
    assert (book[1:] >= book[:-1]).all() and len(book) == centroids
    distance = (weight[..., None] - book).abs()
    assert torch.allclose(distance.gather(2, places[..., None])[..., 0], distance.amin(2))
    for k in range(centroids):
        mine = weight[places == k]
        if len(mine) and book[k] != 0:
            assert float(book[k]) == pytest.approx(float(mine.double().mean()), abs=1e-5)
    assert (book[places][weight == 0] == 0).all()


@pytest.fixture(scope="module")
def layer():
    torch.manual_seed(0)
    layer = nn.Conv2d(8, 12, 3, padding=1)
    x = nn.functional.avg_pool2d(torch.randn(64, 8, 10, 10), 3, 1, 1) + 0.5
    return layer, gram_of(layer, x).matrix


@pytest.mark.parametrize("name", ["shared1", "shared2", "shared3", "shared4"])
def test_outputs_lose_less_than_by_k_means_of_the_weights(layer, name):
    layer, matrix = layer
    weight, form = layer.weight.detach(), SHARED[name]
    found = share_layer(weight, form, matrix, intercept=True)
    assert len(found.table) == form.centroids and (found.table[1:] >= found.table[:-1]).all()
    assert torch.isin(found.weight, found.table).all()
    moments, mean = moments_of(matrix[0], intercept=True)
    book, places = clustered(weight.flatten(1), form.centroids)
    lost, blind = (
        float(squared_errors(w.flatten(1) - weight.flatten(1), moments).sum()) for w in (found.weight, book[places])
    )
    assert lost < 0.6 * blind
    change = (found.weight - weight).flatten(1).double()
    torch.testing.assert_close(found.shift, -change @ mean)


def test_zeros_stay_and_layers_without_data_are_clustered(layer):
    layer, matrix = layer
    weight = layer.weight.detach() * (torch.rand(layer.weight.shape, generator=torch.Generator().manual_seed(0)) < 0.4)
    for grams in (matrix, None):
        found = share_layer(weight, SHARED["shared3"], grams, intercept=False)
        assert (found.weight[weight == 0] == 0).all() and (found.table == 0).any()
        assert torch.isin(found.weight, found.table).all()
    nothing = share_layer(torch.zeros(3, 2, 1, 1), SHARED["shared2"], None, intercept=False)
    assert not nothing.weight.any()
    grouped = nn.Conv2d(4, 4, 3, groups=2)
    sums = gram_of(grouped, torch.randn(20, 4, 6, 6)).matrix
    assert torch.isin(
        (found := share_layer(grouped.weight.detach(), SHARED["shared4"], sums, intercept=True)).weight, found.table
    ).all()


@pytest.mark.parametrize("share", [1.0, 0.5, 0.06])
@pytest.mark.parametrize("name", list(SHARED))
def test_files_come_back_bit_for_bit_by_both_readers(name, share, tmp_path):
    generator = torch.Generator().manual_seed(1)
    weight = torch.randn(40, 30, 3, 3, generator=generator)
    weight *= torch.rand(weight.shape, generator=generator) < share
    book, places = clustered(weight, SHARED[name].centroids)
    tensors = {"a.weight": book[places], "a.weight_codebook": book, "other": torch.randn(40, generator=generator)}
    content = pack(tensors)
    bits = int(SHARED[name].stored_bits)
    assert len(content) < weight.numel() * bits / 8 + 4 * len(book) + 160 + 900
    for data in (content, pack_open(tensors)):
        path = tmp_path / "x.safetensors"
        path.write_bytes(data)
        for read in (reader.read(path), unpack(path)):
            assert read.keys() == tensors.keys()
            for key, tensor in tensors.items():
                assert np.array_equal(np.asarray(read[key]).view(np.int32), tensor.numpy().view(np.int32))


def test_a_weight_that_is_not_of_its_codebook_stands_as_it_is_and_a_wrong_codebook_is_refused(tmp_path):
    book, places = clustered(torch.randn(20, 50, generator=torch.Generator().manual_seed(0)), 4)
    path = tmp_path / "x.safetensors"
    other = book[places].clone()
    other[0, 0] += 1e-3
    path.write_bytes(pack({"w": other, "w_codebook": book}))
    assert np.array_equal(reader.read(path)["w"], other.numpy())
    how, indices = reader.How((20, 50), None, 4), np.zeros(250, dtype=np.uint8)
    for table in (None, np.zeros(3, np.float32), np.zeros(4)):
        with pytest.raises(ValueError, match="_codebook"):
            reader.unpacked(how, {".indices": indices}, table, coded=False)


class Small(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.norm = nn.Conv2d(3, 16, 3, padding=1), nn.BatchNorm2d(16)
        self.second, self.out = nn.Conv2d(16, 16, 3, padding=1), nn.Linear(16, 10)

    def forward(self, x):
        return self.out(self.second(self.norm(self.first(x)).relu()).relu().mean((2, 3)))


@pytest.fixture
def shared():
    torch.manual_seed(0)
    model, x = Small().eval(), torch.randn(2, 3, 8, 8)
    model.norm.running_mean.normal_()
    space = NetworkSpace(model, (x,), {"code": {"formats": ["shared2", "shared4"]}})
    network = rebuild(trace(model, (x,)), space.plan(space.point(space.lowest.tolist()))).eval()
    return space, network, x


def test_norms_are_settled_and_centroids_are_moved_while_weights_keep_their_places(shared):
    _, network, x = shared
    with torch.no_grad():
        before = network(x)
        settle_norms(network)
        torch.testing.assert_close(network(x), before, rtol=1e-2, atol=2e-3)
    assert not network.norm.running_mean.any()
    weight, book = network.second.weight.detach().clone(), network.second.get_buffer(BOOK).clone()
    names = [name for name, _ in network.named_parameters()]
    with in_book(network, ["second"]):
        optimizer = torch.optim.Adam(network.second.parameters(), lr=0.01)
        (network(x) - 1).square().sum().backward()
        optimizer.step()
    after = network.second.get_buffer(BOOK)
    assert not torch.equal(after, book)
    assert torch.equal(network.second.weight.detach(), after[nearest_centroid(weight, book)])
    assert [name for name, _ in network.named_parameters()] == names


def test_a_plan_of_codebooks_is_recorded_and_they_are_not_offered_with_integers(shared):
    space, _, x = shared
    plan = space.plan(space.point(space.lowest.tolist()))
    assert Plan.from_json(plan.to_json()) == plan and set(plan.get(CodeStep).formats.values()) == {"shared2"}
    assert space.cost(space.point(space.lowest.tolist()), "bops") == space.original_cost("bops")
    for more in ({"formats": ["shared4", "int4"]}, {"formats": ["shared4"], "inputs": "int8"}):
        with pytest.raises(SpaceError, match=r"shared|inputs"):
            NetworkSpace(Small(), (x,), {"code": more})

import numpy as np
import torch
from torch import nn

from automl.fit.gram import gather_grams
from automl.fit.importance import activation_scores
from search_spaces import Channels, channel_space

X = torch.randn(40, 3, 6, 6, generator=torch.Generator().manual_seed(0))


def scores_of(network, names):
    space = channel_space(network.eval(), (X[:2],))
    grams = gather_grams(space.original, names, [((X,), torch.zeros(40))], rows=10**6)
    return space, activation_scores(space.operator(Channels), grams)


def test_score_is_weight_times_typical_activation():
    network = nn.Sequential(nn.Conv2d(3, 5, 3), nn.ReLU(), nn.Conv2d(5, 4, 1), nn.Flatten(), nn.Linear(4 * 16, 3))
    with torch.no_grad():
        network[0].bias[2] = -100  # never active, so its weights do not matter
    _, scores = scores_of(network, ["2", "4"])
    with torch.no_grad():
        h = network[:2](X)
        rms = h.square().mean((0, 2, 3)).sqrt()
        expected = network[2].weight.flatten(1).norm(dim=0) * rms
        flat = network[2](h).flatten(1)
        column = network[4].weight.norm(dim=0) * flat.square().mean(0).sqrt()
        by_channel = column.square().view(4, 16).sum(1).sqrt()
    np.testing.assert_allclose(scores["0"], expected, rtol=1e-4)
    np.testing.assert_allclose(scores["2"], by_channel, rtol=1e-4)
    assert scores["0"][2] == 0


def test_readers_without_a_gram_matrix_fall_back_on_magnitude():
    network = nn.Sequential(nn.Conv2d(3, 5, 3), nn.ReLU(), nn.ConvTranspose2d(5, 4, 1), nn.Conv2d(4, 2, 1))
    space, scores = scores_of(network, ["3"])
    np.testing.assert_array_equal(scores["0"], space.operator(Channels).magnitudes["0"])
    assert not np.allclose(scores["2"], space.operator(Channels).magnitudes["2"])


def test_grouped_readers():
    network = nn.Sequential(nn.Conv2d(3, 8, 1), nn.ReLU(), nn.Conv2d(8, 8, 3, groups=2), nn.Conv2d(8, 2, 1))
    space, scores = scores_of(network, ["2", "3"])
    for group in space.groups:
        assert scores[group.name].shape == (group.size,) and (scores[group.name] > 0).all()

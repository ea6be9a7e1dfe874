"""The closed form against numpy's least squares on the features written out."""

import numpy as np
import pytest
import torch
from torch import nn

from automl.fit import gram as gram_module
from automl.fit.gram import gather_grams, supported
from automl.fit.reconstruction import kept_in_groups, least_squares

LAYERS = {
    "3x3": nn.Conv2d(6, 5, 3, padding=1),
    "stride 2": nn.Conv2d(6, 5, 3, stride=2, padding=1),
    "dilated": nn.Conv2d(6, 5, 3, padding=2, dilation=2, bias=False),
    "oblong": nn.Conv2d(6, 5, (1, 3), stride=(2, 1), padding=(0, 2)),
    "same": nn.Conv2d(6, 5, (3, 4), padding="same"),
    "valid": nn.Conv2d(6, 5, 3, padding="valid"),
    "circular": nn.Conv2d(6, 5, 3, padding=1, padding_mode="circular"),
    "1x1": nn.Conv2d(6, 5, 1),
    "grouped": nn.Conv2d(6, 4, 3, padding=1, groups=2),
}


def features_of(layer, x):
    """[groups, rows, features], from PyTorch's own convolution with one-hot kernels."""
    if isinstance(layer, nn.Linear):
        return x.reshape(1, -1, layer.in_features)
    features = layer.weight[0].numel()
    probe = nn.Conv2d(
        layer.in_channels // layer.groups, features, layer.kernel_size, layer.stride, layer.padding, layer.dilation,
        bias=False, padding_mode=layer.padding_mode,
    )  # fmt: skip
    probe.weight.data = torch.eye(features).view(features, *layer.weight.shape[1:])
    parts = [probe(part).detach().movedim(1, -1).reshape(-1, features) for part in x.chunk(layer.groups, dim=1)]
    return torch.stack(parts)


def gram_of(layer, x, **options):
    network = nn.Sequential(layer)
    batches = [((part,), torch.zeros(len(part))) for part in x.split(7)]
    return gather_grams(network, ["0"], batches, **options)["0"]


@pytest.mark.filterwarnings("ignore:Using padding='same'")
@pytest.mark.parametrize("name", LAYERS)
def test_gram_holds_the_second_moments_of_what_a_layer_multiplies(name, monkeypatch):
    monkeypatch.setattr(gram_module, "CHUNK_ENTRIES", 20_000)  # several chunks a batch
    layer, x = LAYERS[name], torch.randn(20, 6, 9, 8, generator=torch.Generator().manual_seed(0)) + 0.5
    features = features_of(layer, x).double()
    ones = torch.ones(*features.shape[:2], 1, dtype=torch.float64)
    rows = torch.cat([features, ones], 2)
    gram = gram_of(layer, x)
    torch.testing.assert_close(gram.matrix, rows.mT @ rows, rtol=1e-5, atol=1e-3)
    torch.testing.assert_close(gram.power, (features**2).mean(1), rtol=1e-5, atol=1e-5)
    assert gram.input_dims == 4


@pytest.mark.parametrize("intercept", [True, False])
@pytest.mark.parametrize("name", [*LAYERS, "linear", "linear on sequences"])
def test_closed_form_equals_numpy_on_unfolded_features(name, intercept):
    generator = torch.Generator().manual_seed(1)
    if "linear" in name:
        layer = nn.Linear(9, 5)
        x = torch.randn(300, 9, generator=generator) if name == "linear" else torch.randn(40, 7, 9, generator=generator)
    else:
        layer, x = LAYERS[name], torch.randn(20, 6, 9, 8, generator=generator)
    x = torch.relu(x + 0.3 * x.roll(1, dims=1) + 0.5)  # correlated and not centred
    gram = gram_of(layer, x)
    groups, out = len(gram.matrix), layer.weight.shape[0] // len(gram.matrix)
    width = layer.weight.shape[1]
    for g, features in enumerate(features_of(layer, x).double().numpy()):
        weight = layer.weight.detach()[g * out : (g + 1) * out].reshape(out, -1)
        kernel = weight.shape[1] // width
        kept = np.flatnonzero(np.repeat(np.arange(width) % 3 != 1, kernel))
        target = features @ weight.double().numpy().T
        known = features[:, kept]
        if intercept:
            known = np.concatenate([known, np.ones((len(known), 1))], axis=1)
        expected, *_ = np.linalg.lstsq(known, target, rcond=None)
        new, shift = least_squares(gram.matrix[g], weight, torch.from_numpy(kept), intercept=intercept, ridge=0.0)
        np.testing.assert_allclose(new.numpy(), expected[: len(kept)].T, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(shift.numpy(), expected[len(kept)] if intercept else 0, rtol=1e-4, atol=1e-5)
    assert groups == getattr(layer, "groups", 1)


@pytest.mark.parametrize("intercept", [True, False])
@pytest.mark.parametrize("case", ["many rows", "fewer rows than features", "duplicates", "constant", "all zero"])
def test_residual_is_never_worse_than_that_of_plain_slicing(case, intercept):
    generator = torch.Generator().manual_seed(2)
    x = torch.randn({"fewer rows than features": 12}.get(case, 400), 30, generator=generator).relu()
    if case == "duplicates":
        x[:, 10:20] = x[:, :10]
    if case == "constant":
        x[:, ::2] = 3.0
    if case == "all zero":
        x[:] = 0
    layer = nn.Linear(30, 8)
    gram = gram_of(layer, x).matrix[0]
    kept = torch.arange(0, 30, 2)
    weight = layer.weight.detach().double()
    new, shift = least_squares(gram, weight, kept, intercept=intercept)
    target = x.double() @ weight.T
    fitted = ((x.double()[:, kept] @ new.T + shift - target) ** 2).sum()
    plain = ((x.double()[:, kept] @ weight[:, kept].T - target) ** 2).sum()
    assert torch.isfinite(new).all() and torch.isfinite(shift).all()
    assert fitted <= plain * (1 + 1e-9) + 1e-9
    if case == "many rows":
        assert fitted < 0.9 * plain


def test_large_maps_are_sampled():
    layer, x = nn.Conv2d(2, 3, 1), torch.randn(20, 2, 40, 40)
    assert gram_of(layer, x).matrix[0, -1, -1] == 20_000
    assert gram_of(layer, x, rows=400).matrix[0, -1, -1] == 20 * 20
    everything = gram_of(layer, x, rows=10**6)
    assert everything.matrix[0, -1, -1] == 20 * 1600
    assert torch.equal(gram_of(layer, x).matrix, gram_of(layer, x).matrix)
    torch.testing.assert_close(gram_of(layer, x).power, everything.power, rtol=0.1, atol=0)


def test_gathering_leaves_no_hook_and_no_mode_behind():
    network = nn.Sequential(nn.Conv2d(2, 3, 1), nn.BatchNorm2d(3))
    gather_grams(network, ["0"], [((torch.randn(4, 2, 5, 5),), torch.zeros(4))])
    assert not network[0]._forward_pre_hooks and network.training
    assert torch.equal(network[1].running_mean, torch.zeros(3))


def test_what_is_not_supported_is_left_out():
    assert supported(nn.Conv2d(4, 4, 3)) and supported(nn.Linear(8192, 2))
    for layer in (nn.Conv1d(4, 4, 3), nn.ConvTranspose2d(4, 4, 3), nn.Linear(8193, 2), nn.BatchNorm2d(4)):
        assert not supported(layer)


def test_which_channels_of_each_group_remain():
    grouped = nn.Conv2d(6, 4, 1, groups=2)
    assert [kept.tolist() for kept in kept_in_groups(grouped, np.array([0, 2, 4, 5]))] == [[0, 2], [1, 2]]
    assert kept_in_groups(grouped, np.array([3, 4, 5])) is None  # a whole group went, the other lost nothing
    assert kept_in_groups(nn.Conv2d(4, 4, 3, groups=4), np.array([1, 3])) is None
    assert kept_in_groups(nn.Linear(3, 2), np.arange(3)) is None

"""SIREN and its fit to a signal."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch.func import functional_call, grad

from automl.errors import NotFiniteError
from automl.signals import fitting
from automl.signals.fitting import fit, squared_error
from automl.signals.signal import Signal, coordinates, psnr_of_error
from automl.signals.siren import FourierFeatures, Siren, parameters_of


def waves(side: int = 16) -> Signal:
    x, y = np.meshgrid(*[np.linspace(-1, 1, side)] * 2, indexing="ij")
    values = np.stack([0.5 + 0.4 * np.sin(4 * x + y), 0.5 + 0.3 * np.cos(5 * x * y)], -1)
    return Signal(values.astype(np.float32), "image")


def test_weights_are_drawn_as_in_the_paper():
    torch.manual_seed(0)
    siren = Siren(2, 3, 64, 3)
    first, hidden, last = siren.layers[0].weight, siren.layers[1].weight, siren.layers[-1].weight
    for weight, reach in ((first, 1 / 2), (hidden, math.sqrt(6 / 64) / 30), (last, math.sqrt(6 / 64) / 30)):
        assert 0.95 * reach < weight.abs().max() <= reach
    assert sum(p.numel() for p in siren.parameters()) == parameters_of(2, 3, 64, 3)
    sums = 30 * torch.sin(30 * first @ torch.rand(2, 500)).T @ hidden.T
    assert float(sums.detach().std()) == pytest.approx(
        1, abs=0.15
    )  # so that each layer's sines see what the one before saw


def test_outputs_are_those_of_the_formula():
    siren = Siren(2, 1, 4, 2, w0=7.0)
    x = torch.rand(5, 2)
    (a, b), (c, d), (e, f) = [(layer.weight, layer.bias) for layer in siren.layers]
    expected = torch.sin(7 * (torch.sin(7 * (x @ a.T + b)) @ c.T + d)) @ e.T + f
    torch.testing.assert_close(siren(x), expected)


def test_fourier_features_are_those_of_the_formula():
    found = FourierFeatures(2, 3, base=1.5)(torch.tensor([[0.2, -0.5]]))
    angles = [math.pi * 1.5**j * p for p in (0.2, -0.5) for j in range(3)]
    expected = [*map(math.sin, angles), *map(math.cos, angles)]
    torch.testing.assert_close(found, torch.tensor([expected]))
    assert Siren(2, 3, 8, 2, features=FourierFeatures(2, 3))(torch.rand(4, 2)).shape == (4, 3)


def test_a_fit_comes_nearer_and_says_how_near(monkeypatch):
    torch.manual_seed(0)
    signal, siren, told = waves(), Siren(2, 2, 16, 2), []
    before = squared_error(siren, signal)
    fitted = fit(siren, signal, 150, 5e-3, tell=lambda step, value: told.append((step, value)))
    assert [step for step, _ in told] == list(range(1, 151))
    assert fitted.network is siren and fitted.psnr > psnr_of_error(before) + 15
    assert fitted.psnr == pytest.approx(psnr_of_error(squared_error(siren, signal)), abs=1e-3)
    assert fitted.psnr >= max(value for _, value in told) - 1e-3


def test_the_best_weights_are_kept_even_if_the_fit_diverges():
    torch.manual_seed(0)
    signal, siren = waves(), Siren(2, 2, 16, 2)
    before = squared_error(siren, signal)
    fit(siren, signal, 20, 30.0)
    assert squared_error(siren, signal) <= before * (1 + 1e-6)
    with pytest.raises(NotFiniteError, match="Lower the rate"):
        fit(siren, signal, 20, math.inf)


def test_points_in_chunks_have_the_gradients_of_all_at_once(monkeypatch):
    signal = waves()
    results = []
    for chunk in (2**17, 100):
        monkeypatch.setattr(fitting, "CHUNK", chunk)
        torch.manual_seed(0)
        siren = Siren(2, 2, 8, 2).double()
        monkeypatch.setattr(fitting, "coordinates", lambda shape: coordinates(shape).double())
        fit(siren, signal, 5, 1e-3)
        results.append(siren.layers[1].weight.detach().clone())
    torch.testing.assert_close(results[0], results[1], rtol=1e-9, atol=1e-12)


def test_steps_on_parts_see_every_point_and_keep_what_is_best_on_all():
    signal = waves(10)
    points = fitting.Points(signal, 4, seed=0)
    seen = torch.cat([points.next()[0] for _ in range(4)])
    assert len({*map(tuple, seen.tolist())}) == 100
    torch.manual_seed(0)
    siren = Siren(2, 2, 16, 2)
    before = squared_error(siren, signal)
    fitted = fit(siren, signal, 200, 5e-3, one_in=4)
    assert fitted.psnr == pytest.approx(psnr_of_error(squared_error(siren, signal)), abs=1e-3)
    assert fitted.psnr > psnr_of_error(before) + 12
    fit(siren, signal, 20, 30.0, one_in=4)  # diverges
    assert psnr_of_error(squared_error(siren, signal)) >= fitted.psnr - 1e-3


def test_what_stands_between_parameters_and_network_is_fitted():
    torch.manual_seed(0)
    signal, siren = waves(), Siren(2, 2, 16, 2)

    def halved(named):
        return {name: p / 2 for name, p in named.items()}

    fitted = fit(siren, signal, 60, 5e-3, through=halved)
    assert fitted.psnr == pytest.approx(psnr_of_error(squared_error(siren, signal, through=halved)), abs=1e-3)
    assert fitted.psnr > psnr_of_error(squared_error(siren, signal)) + 3


def test_a_siren_can_be_called_as_a_function_of_its_weights():
    siren, signal = Siren(2, 2, 8, 2), waves(8)
    named = dict(siren.named_parameters())

    def loss(named):
        outputs = functional_call(siren, named, (coordinates(signal.shape),))
        return (outputs - signal.targets).square().mean()

    gradients = grad(loss)(named)
    loss(named).backward()
    assert gradients.keys() == named.keys()
    for name, p in siren.named_parameters():
        torch.testing.assert_close(gradients[name], p.grad)

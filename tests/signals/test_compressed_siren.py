"""A SIREN is a network like any other: `automl.compress` prunes and rounds it as a task of the kind `signal`."""

from __future__ import annotations

import pytest
import torch

import automl
from automl.signals.encode_file import signal_of
from automl.signals.fitting import fit, squared_error
from automl.signals.signal import coordinates, psnr_of_error
from automl.signals.siren import Siren
from tests.signals.conftest import picture


def test_a_siren_is_compressed_within_a_budget():
    torch.manual_seed(0)
    signal, siren = signal_of(picture()), Siren(2, 3, 20, 3)
    fit(siren, signal, 150, 5e-3)
    batches = [(coordinates(signal.shape), signal.targets)]
    result = automl.compress(
        siren,
        batches,
        batches,
        "size <= 90%",
        task="signal",
        space=["sparsity", "code"],
        trials=2,
        agent="random",
        baselines=(),
        progress=False,
    )
    base, found = result.base, result.measurements
    assert found["size_bytes"].value <= 0.9 * base["size_bytes"].value
    assert base["psnr"].value == pytest.approx(psnr_of_error(squared_error(siren, signal)), abs=0.01)
    assert found["psnr"].value == pytest.approx(psnr_of_error(squared_error(result.network, signal)), abs=0.01)

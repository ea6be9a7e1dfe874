"""How many threads a worker computes on."""

import pytest

from automl.config.study import StudyConfig
from automl.study.setup import Setup
from automl.util.threads import pinned_threads
from tests.cli.conftest import DIGITS


@pytest.mark.parametrize(
    ("runner", "expected"),
    [
        ({}, 6),
        ({"workers": 2}, 3),
        ({"workers": 4}, 1),
        ({"workers": 12}, 1),
        ({"workers": 12, "threads": 5}, 5),
        ({"workers": 2, "cpus_per_trial": 4.0}, 4),
    ],
)
def test_workers_share_what_torch_would_use_here(runner, expected):
    model = {"name": "small_cnn", "weights": "small_cnn.safetensors"}
    data = {"name": "digits", "validation_size": 400, "calibration_size": 256}
    study = {"name": "s", "model": model, "data": data, "budget": "macs <= 50%", "runner": runner}
    with pinned_threads(6):  # as OMP_NUM_THREADS=6 does
        assert Setup(StudyConfig.from_dict(study, folder=DIGITS.parent)).threads == expected

"""A study whose peak memory is limited, beside other costs: kept by every trial, counted and on record."""

import pytest
import torch
from torch import nn

import automl
from automl.config.study import StudyConfig
from automl.errors import ConfigError
from automl.measures.memory import sample_peak
from automl.store import open_store
from automl.store.conclusions import conclusion

STUDY = {"name": "s", "model": "resnet20", "data": "cifar10", "budget": "peak_memory <= 60%"}


@pytest.mark.parametrize(
    ("more", "complaint"),
    [
        ({"space": ["channels", "rank"]}, "foretold with rank"),
        ({"space": {"channels": {}, "depth": {"skips": True}}}, "foretold with depth.skips"),
        ({"space": {"channels": {}, "code": {"inputs": "int8"}}}, "foretold with code.inputs"),
        ({"space": "code"}, "code does not lower peak_memory"),
        ({"space": "cells"}, "cells does not lower peak_memory: limit `macs`"),
    ],
)
def test_what_changes_memory_otherwise_is_refused(more, complaint):
    study = {**STUDY, **more}
    if study.get("space") == "cells":
        del study["model"]  # it makes its own
    with pytest.raises(ConfigError, match=complaint):
        StudyConfig.from_dict(study)


def test_every_trial_keeps_it_and_the_winner_is_counted(tmp_path):
    torch.manual_seed(0)
    network = nn.Sequential(
        *(nn.Conv2d(3, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 8, 3), nn.Flatten(), nn.Linear(288, 3))
    )
    data = [(torch.randn(16, 3, 8, 8), torch.randint(0, 3, (16,))) for _ in range(2)]
    budget, url = ["peak_memory <= 60%", "size <= 50%"], f"sqlite:///{tmp_path / 's.db'}"
    options = {"agent": "random", "baselines": (), "trials": 3, "storage": url, "name": "s", "progress": False}
    found = automl.compress(network, data, data, budget, **options)
    limit = 0.6 * sample_peak(network, found.example_inputs)
    assert sample_peak(found.network, found.example_inputs) <= limit
    assert "memory" in found.table()
    with open_store(url, create=False) as store:
        study = store.study("s")
        trials = store.trials(study.id, agent="random")
        rules = conclusion(store, study.id).rules
    assert len(trials) == 3 and all(trial.values["peak_activation_bytes"] <= limit for trial in trials)
    assert [rule.text for rule in rules] == budget
    assert rules[0].metric == "peak_activation_bytes" and rules[0].value <= rules[0].bound

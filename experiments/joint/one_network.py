"""What the scripts of this folder share that put several ways to compress one network beside each other."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from automl.config.study import StudyConfig
from automl.evaluation import Evaluator
from automl.study.setup import Setup
from automl.tasks.batches import Batch
from search_spaces.codecs.packing import pack


def setup_of(
    network: str,
    weights: Path,
    data_root: str,
    space: Mapping[str, Any],
    budget: str,
    *,
    calibration: int = 1024,
    data: str = "cifar10",
) -> Setup:
    """A study of a network, its evaluator prepared: nothing trained, judged by the divergence."""
    settings: Mapping[str, Any] = {
        "name": "one-network",
        "model": {"name": network, "weights": str(weights)},
        "data": {"name": data, "root": data_root, "validation_size": 2000, "calibration_size": calibration},
        "space": space,
        "budget": budget,
        "objective": "divergence",
        "agent": "allocation",
        "runner": {"threads": 1},
    }
    torch.set_num_threads(1)
    setup = Setup(StudyConfig.from_dict(settings))
    setup.evaluator.prepare()
    return setup


class Lines:
    """The lines of a table, each on the screen and in a file as it is measured on all test images."""

    def __init__(self, out: Path | None) -> None:
        self._out = out

    def add(
        self, name: str, network: nn.Module, evaluator: Evaluator, test: list[Batch], **more: object
    ) -> dict[str, Any]:
        """Measure `network`, and say what it takes: counts, and the bytes of its packed file."""
        measured = {m.metric: m.value for m in (*evaluator.measure(network, test), *evaluator.counts(network))}
        size = len(pack({key: tensor.clone() for key, tensor in network.state_dict().items()}))
        line = {"line": name, **measured, "packed_bytes": size, **more}
        print(json.dumps(line), flush=True)
        if self._out is not None:
            with self._out.open("a") as file:
                file.write(json.dumps(line) + "\n")
        return line

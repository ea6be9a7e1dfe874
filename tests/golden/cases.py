"""What the golden records are of: spaces as study files ask for them, on networks equal on any processor."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from automl.config.study import StudyConfig
from automl.study.loading import load_problem
from automl.study.setup import Setup

HERE = Path(__file__).resolve().parent
DIGITS = HERE.parents[1] / "experiments" / "digits"
DATA = {"name": "digits", "validation_size": 400, "calibration_size": 256}


@dataclass(frozen=True)
class Case:
    """A space on a network: the network of the demo, or a built-in one with made-up weights."""

    space: str | Mapping[str, Any]
    budget: str
    limits: tuple[Mapping[str, float], ...]
    """Cost metric -> part of the original's: the budgets under which bounds and projections are recorded."""
    network: Mapping[str, Any] = field(
        default_factory=lambda: {"name": "small_cnn", "weights": "small_cnn.safetensors"}
    )

    def config(self, name: str = "golden", **settings: Any) -> StudyConfig:
        """The study as a file beside the demo's would have it."""
        raw = {
            "name": name,
            "model": self.network,
            "data": DATA,
            "space": self.space,
            "budget": self.budget,
            "runner": {"threads": 1},
        }
        return StudyConfig.from_dict(raw | settings, folder=DIGITS)

    def setup(self) -> Setup:
        """What the study comes to."""
        config = self.config()
        problem = load_problem(config)
        if "weights" not in self.network:
            make_up(problem.model)
        return Setup(config, problem)


WIDTHS = ({"macs": 0.3}, {"params": 0.5, "size_bytes": 0.4}, {"macs": 0.6, "params": 0.7, "size_bytes": 0.5}, {})
WEIGHTS = ({"size_bytes": 0.25}, {"params": 0.4}, {"params": 0.5, "size_bytes": 0.5}, {})
RESNET = {"name": "resnet20", "options": {"in_channels": 1}}
TINY = {"name": "small_cnn", "options": {"width": 6}}
"""The demo's network, narrow: 3 k parameters, for files that lie in the repository."""

CASES = {
    "channels": Case("channels", "macs <= 30%", WIDTHS),
    "channels_coarse": Case(
        {"name": "channels", "min_keep": 0.2, "round_to": 4, "steps": 6, "exclude": ["layer1.*"]},
        "macs <= 60%",
        WIDTHS[1:],
        RESNET,
    ),
    "depth": Case({"name": "depth", "skips": True}, "macs <= 40%", WIDTHS),
    "depth_resnet20": Case(
        {"name": "depth", "skips": True, "max_skips": 2, "min_keep": 0.3}, "macs <= 40%", WIDTHS, RESNET
    ),
    "weights": Case("weights", "size <= 25%", WEIGHTS),
}
SPACES = ("channels", "depth", "weights")
"""One case of each space, on the demo's network, whose trials mean something."""


def make_up(network: nn.Module) -> None:
    """Overwrite every number of `network` with one that integers make, so that it is the same on any processor.

    Weights are about as large as at the start of a training; running variances lie in [0.5, 1.5].
    """
    start = 0
    for name, tensor in network.state_dict().items():
        if not tensor.is_floating_point():
            continue
        values = made_up(tensor.shape, start)
        start += tensor.numel()
        if name.endswith("running_var") or (name.endswith("weight") and tensor.ndim == 1):
            values += 1.0
        elif tensor.ndim > 1:
            values *= 4 / math.sqrt(tensor[0].numel())
        tensor.copy_(values)


def made_up(shape: torch.Size | tuple[int, ...], start: int = 0) -> Tensor:
    """Numbers in [-0.5, 0.5), 24 bits each, without a pattern: float64 of `shape`."""
    state = torch.arange(start + 1, start + 1 + math.prod(shape)) * 0x9E3779B1 & 0xFFFFFFFF
    for shift, factor in ((16, 0x45D9F3B), (16, 0x45D9F3B)):
        state = ((state >> shift) ^ state) * factor & 0xFFFFFFFF
    return ((state >> 8).double() / 2**24 - 0.5).reshape(shape)


def outputs(network: nn.Module) -> list[float]:
    """What `network` makes of two made-up images, in float64, in which sums in another order are as good as equal."""
    with torch.no_grad():
        return network.double().eval()(4 * made_up((2, 1, 8, 8))).flatten().tolist()


def golden(name: str) -> Any:
    """What was recorded."""
    return json.loads((HERE / f"{name}.json").read_text(encoding="utf-8"))

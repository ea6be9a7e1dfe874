"""ESNAC: a learnt embedding space for compressed networks (Cao et al., ICLR 2019).

A Gaussian process over architectures whose kernel is learnt (`agents.embedding`). Not one but many are trained, each
from the start on a random half of the trials, so that they disagree where little is known (the multi-kernel strategy,
section 3); each proposes the Point of the largest expected improvement by its own half. Trial n is the proposal of
kernel n, where the paper evaluates those of eight at a time. A kernel is trained when it is asked for, so that a
history told again trains none. What is running is not proposed again, and is otherwise kept apart by the differences
between kernels, as in the paper.

Chosen where the paper leaves room, or where the released code errs:

- A network is read as its space tells it (`Space.sequence`), scaled to [0, 1]; values are standardised, so that any
  goal serves. The original network is no observation.
- The improvement is maximised over mutations of the best trials, not over random networks alone (`agents.candidates`),
  and on a logarithmic scale. All candidates are read in one padded batch; the released code reads them one by one.
- The limits, if there are any, are kept by the candidates. The paper has none.
- Defaults are such that a proposal takes tenths of a second; `PAPER` has the paper's.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch

from agents.candidates import Acquisition
from agents.embedding import Embedding, Padded, predict, train
from agents.errors import AgentError
from agents.improvement import log_expected_improvement
from agents.networks import one_thread
from agents.surrogate import Surrogate, SurrogateOptions, standardised
from agents.types import Task
from search_spaces import Point

SHARE = 0.5
"""The chance of a trial to be among those that a kernel is trained on."""

PAPER = {"layers": 4, "hidden": 64, "steps": 100, "lr": 1e-3}
"""The options of the paper and the code released for it."""


@dataclass(frozen=True)
class EsnacOptions(SurrogateOptions):
    """What may be set; see `PAPER` for the paper's. It judges as many candidates."""

    layers: int = 1
    """Of the LSTM."""
    hidden: int = 16
    """Units of the LSTM in each direction."""
    steps: int = 20
    """Training steps at most."""
    lr: float = 0.03
    """Of Adam."""
    weight_decay: float = 5e-4
    """The paper's."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("lr", "weight_decay"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < math.inf:
                raise AgentError(f"option {name!r}: expected a finite number >= 0, got {value!r}")


class Esnac(Surrogate):
    """Kernel after kernel, each with a proposal of its own."""

    Options: ClassVar[type] = EsnacOptions

    def __init__(self, task: Task, options: EsnacOptions) -> None:
        super().__init__(task, options)
        self.options = options
        self._kernels: dict[tuple[int, int], _Kernel] = {}

    def acquisition(self, number: int, pending: Sequence[Point], rng: np.random.Generator) -> Acquisition:
        """The expected improvement on the best of a random half, by a kernel trained on that half."""
        # The kernel has a stream of its own: what is drawn for it does not depend on whether it is trained already.
        stream, key = rng.spawn(1)[0], (self.told, number)
        if key not in self._kernels:
            self._kernels = {known: kernel for known, kernel in self._kernels.items() if known[0] == self.told}
            self._kernels[key] = _Kernel(self, stream)
        return self._kernels[key]


class _Kernel:
    """A Gaussian process with an embedding of its own, trained on a random half of the trials."""

    def __init__(self, agent: Esnac, rng: np.random.Generator) -> None:
        options, self.space = agent.options, agent.space
        half = np.flatnonzero(rng.random(len(agent.learnt)) < SHARE)
        if len(half) < 2:
            half = np.arange(len(agent.learnt))
        values = standardised([agent.learnt[i][1] for i in half])
        batch = Padded([agent.space.sequence(agent.learnt[i][0]) for i in half])
        self.y, self.best = torch.from_numpy(values), float(values.max())
        self.embedding = Embedding(batch.forwards.shape[2], options.hidden, options.layers, rng)
        with one_thread():
            train(self.embedding, batch, self.y, steps=options.steps, lr=options.lr, weight_decay=options.weight_decay)
            with torch.no_grad():
                self.known = self.embedding(batch)  # [n, 2 * hidden]

    def __call__(self, points: Sequence[Point]) -> np.ndarray:
        """The logarithm of the expected improvement at each of the Points: [n]."""
        with one_thread(), torch.no_grad():
            new = self.embedding(Padded([self.space.sequence(point) for point in points]))
            return log_expected_improvement(*predict(self.known, self.y, new), self.best)

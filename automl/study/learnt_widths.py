"""What gates learn about widths before a search: trained once, put on record, and found there when a study goes on."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import agents
from agents.gates import GatesOptions
from automl.config.agent import AgentConfig
from automl.config.training import TrainingOptions
from automl.evaluation import Evaluator
from automl.store import Store, TrialRecord
from automl.study.error_curves import LONGEST
from automl.study.selection import PREPARED
from automl.training.epochs import counted
from automl.training.methods import bernoulli, hard_concrete
from automl.training.methods.channel_gates import ChannelGates
from automl.training.methods.expected_cost import ExpectedCost
from automl.training.methods.ranked_gates import RankedGates
from automl.types import Measurement, Phase, Say
from automl.util.duration import duration
from search_spaces import NetworkSpace

STEPS = 100
"""The most steps that a line of progress, and a checkpoint, wait for."""


@dataclass(frozen=True)
class Learnt:
    """What one training with gates came to."""

    kept: Mapping[str, float]
    """Knob -> the fraction of its channels whose gates are open."""
    seconds: float


class LearntWidths:
    """What gates have learnt in a study, by seed."""

    def __init__(
        self,
        store: Store,
        base: TrialRecord | None,
        evaluator: Evaluator,
        space: NetworkSpace,
        folder: Path,
        say: Say,
    ) -> None:
        """`base`: the trial of the original network, if there is one: what is on record is not trained again. `space`:
        the one that `evaluator` judges."""
        self._store, self._evaluator, self._space = store, evaluator, space
        self._folder, self._say = folder, say
        self._known = recorded(base) if base is not None else {}
        self._new: dict[int, tuple[str, Learnt]] = {}

    def of(self, agent: AgentConfig, seed: int) -> Mapping[str, float]:
        """Knob -> the fraction to keep, for an agent that `learns_widths`. Errors: those of training."""
        if seed not in self._known:
            options: Any = agents.options(agent.name)(**agent.options)
            self._known[seed] = self._trained(options, seed)
            self._new[seed] = agent.name, self._known[seed]
        return self._known[seed].kept

    def keep(self, base: TrialRecord) -> None:
        """Put on record, with the trial of the original network, what has been trained; its checkpoints may go."""
        for seed, (agent, learnt) in self._new.items():
            told = {**learnt.kept, PREPARED + agent: learnt.seconds}
            if max(map(len, told)) <= LONGEST:
                measured = [Measurement(name, value, step=seed, phase=Phase.GATES) for name, value in told.items()]
                self._store.add_measurements(base.id, measured)
                self._checkpoint(seed).unlink(missing_ok=True)
        self._new.clear()

    def _trained(self, options: GatesOptions, seed: int) -> Learnt:
        """A copy of the original trained with gates. One that was killed goes on from its last epoch."""
        evaluator, space = self._evaluator, self._space
        self._say(f"training a copy of the network with gates on its channels, {options.steps} steps")
        training = self._training(options, seed)
        method = gates_of(space, ExpectedCost(space, evaluator.limits), options, training.weight_decay)
        start = time.monotonic()
        evaluator.train(
            copy.deepcopy(space.original),
            space.original_point,
            training,
            checkpoint=self._checkpoint(seed),
            methods=[method],
        )
        seconds = time.monotonic() - start
        whole = {group.name: group.size for group in space.groups}
        kept = {name: width / whole[name] for name, width in method.widths().items()}
        self._say(f"gates have learnt how wide {len(kept)} groups are to be, in {duration(seconds)}")
        return Learnt(kept, seconds)

    def _training(self, options: GatesOptions, seed: int) -> TrainingOptions:
        """So many epochs, of at most `STEPS` steps, as hold the steps of `options`."""
        batches, _ = counted(self._evaluator.problem.epochs(options.batch_size), 0)
        return TrainingOptions(
            epochs=math.ceil(options.steps / min(batches, STEPS)),
            samples=STEPS * options.batch_size if batches > STEPS else None,
            batch_size=options.batch_size,
            optimizer=options.optimizer,
            learning_rate=options.learning_rate,
            seed=seed,
        )

    def _checkpoint(self, seed: int) -> Path:
        return self._folder / f"gates-{seed}.checkpoint"


def gates_of(
    space: NetworkSpace, cost: ExpectedCost, options: GatesOptions, weight_decay: float
) -> ChannelGates | RankedGates:
    """What learns widths as `options` say; gates that are Bernoulli variables pay for weight decay too."""
    settings: dict[str, float] = {
        "gate_rate": options.settled_gate_rate,
        "dual_rate": options.dual_rate,
        "dropout": options.dropout,
    }
    match options.learner:
        case "ranked":
            return RankedGates(space, cost, **settings)
        case "bernoulli":
            return ChannelGates(space, cost, gate=bernoulli, decay=weight_decay, **settings)
        case _:
            return ChannelGates(space, cost, gate=hard_concrete, **settings)


def recorded(base: TrialRecord) -> dict[int, Learnt]:
    """Seed -> what gates have learnt, as it is on record with the trial of the original network."""
    kept: dict[int, dict[str, float]] = {}
    seconds: dict[int, float] = {}
    for measured in base.measurements:
        if measured.phase == Phase.GATES and measured.metric.startswith(PREPARED):
            seconds[measured.step] = measured.value
        elif measured.phase == Phase.GATES:
            kept.setdefault(measured.step, {})[measured.metric] = measured.value
    return {seed: Learnt(told, seconds[seed]) for seed, told in kept.items()}

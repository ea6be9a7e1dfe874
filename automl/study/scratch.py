"""The controls that say whether a winner's weights are worth keeping: its structure, trained from new weights.

Liu et al. 2019, "Rethinking the value of network pruning", arXiv 1810.05270: where a structure that is trained from new
weights is as good as the one that was pruned and tuned, what a search has found is the structure. Scratch-E has as many
epochs as the original was trained for, Scratch-B as many multiply-accumulates: more epochs, as the network is smaller.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace

import torch
from torch import nn

from automl.config.finish import ScratchOptions
from automl.config.training import TrainingOptions
from automl.store import TrialRecord
from automl.study.artifacts import artifacts_folder, write_weights
from automl.study.finishing import reported_plan
from automl.study.selection import final
from automl.study.study import Study
from automl.types import Measurement, Phase, Say, in_phase
from automl.util.quantities import in_unit

KIND = "weights from scratch"
"""Of an artifact."""
ARMS = {"epochs": "e", "macs": "b"}
"""What both trainings have in common -> the letter of the control."""


def scratch_controls(study: Study, winner: TrialRecord, say: Say) -> tuple[str, ...]:
    """Train the winner's structure from new weights as the study asks, once; what came of it, a line each.

    What each is worth on the validation data goes on record with the winner's trial, and its weights into a file. A
    training that was killed goes on.
    """
    options, lines = study.config.finish.scratch, []
    if options is None or not study.finisher.changes(winner.point):
        return ()
    for arm in options.arms:
        epochs = _epochs(study, winner, options, arm)
        metric = f"{ARMS[arm]}_{study.config.objective}"
        known = study.store.trial(winner.id).measured(metric, Phase.SCRATCH)
        if known is None:
            known = _trained(study, winner, options, arm, epochs, say)
        lines.append(_told(study, winner, arm, epochs, known))
    return tuple(lines)


def renewed(network: nn.Module, seed: int = 0) -> nn.Module:
    """A copy of the network with new weights, drawn as PyTorch draws them."""
    network = copy.deepcopy(network)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        for module in network.modules():
            reset: Callable[[], None] | None = getattr(module, "reset_parameters", None)
            if reset is not None:
                reset()
    return network


def _epochs(study: Study, winner: TrialRecord, options: ScratchOptions, arm: str) -> int:
    """How long the control of an arm is trained."""
    assert study.training is not None
    whole = options.epochs or study.training.epochs
    if arm == "epochs":
        return whole
    space = study.setup.given_space
    return max(1, round(whole * space.original_cost("macs") / final(winner, "macs")))


def _trained(
    study: Study, winner: TrialRecord, options: ScratchOptions, arm: str, epochs: int, say: Say
) -> Measurement:
    """Train a control, keep its weights, and record what it is worth by the objective; that."""
    assert study.training is not None
    plan, folder = reported_plan(study, winner.point), artifacts_folder(study.store, study.config)
    network = renewed(study.setup.given_space.build(plan), study.training.seed)
    training = _training(study.training, options, epochs)
    say(f"training the winner's structure from new weights, {epochs} epochs, as a control")
    checkpoint = folder / f"{winner.point.key}.scratch_{ARMS[arm]}.checkpoint"
    study.finisher.train(
        network, winner.point, training, plan=plan, validated=True, checkpoint=checkpoint, say=_within(say, arm)
    )
    path = folder / f"{winner.point.key}.scratch_{ARMS[arm]}.safetensors"
    digest = write_weights(network.eval(), plan, path)
    worth = [
        replace(m, metric=f"{ARMS[arm]}_{m.metric}")
        for m in study.finisher.measure(network, study.setup.problem.validation)
    ]
    study.store.add_artifact(study.record.id, winner.id, KIND, path.resolve(), digest)
    study.store.add_measurements(winner.id, in_phase(Phase.SCRATCH, worth))
    checkpoint.unlink(missing_ok=True)
    return next(m for m in worth if m.metric == f"{ARMS[arm]}_{study.config.objective}")


def _training(usual: TrainingOptions, options: ScratchOptions, epochs: int) -> TrainingOptions:
    """How a control is trained: as finalists are, from a rate for new weights, along the whole schedule."""
    return replace(usual, epochs=epochs, rewind=None, norms="batch", learning_rate=options.rate_beside(usual))


def _within(say: Say, arm: str) -> Say:
    return lambda text: say(f"from new weights, as many {arm}: {text}")


def _told(study: Study, winner: TrialRecord, arm: str, epochs: int, worth: Measurement) -> str:
    """A control beside the winner, in words."""
    goal, unit = study.config.goal, study.setup.problem.unit(study.config.objective)
    ours = final(winner, goal.metric)
    equal = {"epochs": "Scratch-E", "macs": "Scratch-B, as many multiply-accumulates"}[arm]
    verdict = "so the weights that it inherits are worth having"
    if goal.utility(worth.value) >= goal.utility(ours):
        verdict = "so what was found is the structure: train it from new weights, which are kept beside it"
    return (
        f"control: from new weights the winner's structure has {goal.metric} {in_unit(worth.value, unit)} on the "
        f"validation data after {epochs} epochs ({equal}), and as it is {in_unit(ours, unit)}, {verdict}"
    )

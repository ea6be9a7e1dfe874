"""What a search starts from, if not the original: that network trained to gather in fewer channels what it knows."""

from __future__ import annotations

import copy
from pathlib import Path

from torch import nn

from automl.config.study import StudyConfig
from automl.config.training import SparsifyOptions
from automl.evaluation import Evaluator
from automl.store import ArtifactRecord, Store, StudyRecord
from automl.study.artifacts import artifacts_folder, file_of, read_weights, write_weights
from automl.training.methods.group_decay import GroupSparseDecay
from automl.training.methods.group_lasso import OutInGroupLasso
from automl.training.methods.growl import OrderedGroupLasso
from automl.types import Say, silent
from search_spaces import NetworkSpace

SPARSE = "sparse weights"
"""The kind of artifact that the network is which a search starts from."""
_PENALTIES = {"group_lasso": OutInGroupLasso, "group_decay": GroupSparseDecay, "growl": OrderedGroupLasso}


def starting_network(
    store: Store,
    config: StudyConfig,
    found: StudyRecord | None,
    evaluator: Evaluator,
    space: NetworkSpace,
    say: Say = silent,
) -> nn.Module:
    """The network that a study with the section `sparsify` starts from: the one it has kept, or one trained now.

    `found`: the study, if it is in the database; `evaluator`: of the original network, whose space is `space`. A
    training that was killed goes on from its last epoch, until `keep_start` has what came of it. Errors: those of
    training, `StudyError`.
    """
    assert config.sparsify is not None
    folder = artifacts_folder(store, config)
    known = _kept(store, found) if found is not None else None
    if found is not None and known is not None:
        path = file_of(found, known, folder)
        say(f"starting from the network that was trained with {config.sparsify.method} before: {path}")
        network = copy.deepcopy(space.original)
        read_weights(network, path, known.sha256)
        return network
    say(f"training the original with {config.sparsify.method} before the search")
    return _sparsified(evaluator, space, config.sparsify, folder, say)


def keep_start(store: Store, config: StudyConfig, study: StudyRecord, space: NetworkSpace) -> None:
    """Keep the network of `space`, which `starting_network` gave, in a file, if the study has none yet."""
    folder = artifacts_folder(store, config)
    if _kept(store, study) is None:
        path = folder / "sparse.safetensors"
        digest = write_weights(space.original, space.plan(space.original_point), path)
        store.add_artifact(study.id, None, SPARSE, path.resolve(), digest)
    for checkpoint in folder.glob("sparse-*.checkpoint"):
        checkpoint.unlink()


def _kept(store: Store, study: StudyRecord) -> ArtifactRecord | None:
    return next((artifact for artifact in store.artifacts(study.id) if artifact.kind == SPARSE), None)


def _sparsified(
    evaluator: Evaluator, space: NetworkSpace, options: SparsifyOptions, folder: Path, say: Say
) -> nn.Module:
    """A copy of the original network of the evaluator's space, all of it still there, trained with the penalty."""
    problem = evaluator.problem
    network = copy.deepcopy(space.original)
    whole = space.original_point
    kind = _PENALTIES[options.method]
    judged = evaluator.judged.metric
    before = next(m.value for m in evaluator.measure(network, problem.validation) if m.metric == judged)
    penalty = kind(space) if options.strength is None else kind(space, options.strength)
    say(f"validation {judged} {before:.4f} before that")
    evaluator.train(
        network,
        whole,
        options.training,
        plan=space.plan(whole),
        validated=True,
        checkpoint=folder / f"sparse-{options.method}-{penalty.strength:g}.checkpoint",  # no other penalty goes on
        methods=[penalty],
        say=say,
    )
    return network

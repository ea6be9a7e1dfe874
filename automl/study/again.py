"""A search that is done, finished in another way: a second study with the trials of the first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import agents
from automl.config.finish import FinishConfig
from automl.config.parse import Source, convert
from automl.config.study import StudyConfig
from automl.errors import ConfigError, StudyError
from automl.store import Store, conclusion, copy_search
from automl.study.prelude import SPARSE
from automl.study.sharing_study import SUPERNET
from automl.study.trust import trusted_config
from automl.types import BASE, CHECK


def again(
    store: Store,
    name: str,
    changes: Mapping[str, Any],
    other: str,
    code: Sequence[str] = (),
    code_root: str | Path | None = None,
) -> StudyConfig:
    """The configuration of study `other`, which has the trials of study `name` and another section `finish`.

    The trials are copied if there is no `other` yet, so that running it searches nothing and finishes the best of
    them. `changes`: what is different of that section, as in a study file. `code`, `code_root`: what of a study from
    elsewhere may be run (`trusted_config`). `ConfigError` if it makes no sense or changes nothing, `StudyError` if the
    search is not done.
    """
    source = store.study(name)
    config = trusted_config(store, name, code, code_root)
    finish: FinishConfig = convert(FinishConfig, {**asdict(config.finish), **changes}, Source(), ("finish",))
    if finish == config.finish:
        raise ConfigError(f"study {name!r} was finished just so: say what is to be different, as `reconstruction`")
    _require_searched(store, source.id, config)
    new = replace(config, name=other, finish=finish)
    if other not in [study.name for study in store.studies()]:
        copy_search(store, name, other, {**source.config, **new.to_record()}, keep=[SPARSE, SUPERNET], searched_as=name)
    return new


def _require_searched(store: Store, study_id: int, config: StudyConfig) -> None:
    """Raise `StudyError` unless every trial of the study has been run."""
    supernet = config.evaluation.supernet
    wanted = {(BASE, 0): 1} | ({(CHECK, 0): supernet.check} if supernet is not None else {})
    wanted |= {(a.name, seed): agents.planned(a.name, config.trials) for a, seed in config.lanes}
    there = store.count_finished(study_id)
    if config.seconds is not None and conclusion(store, study_id) is not None:
        return  # it ended by its time
    for (agent, seed), trials in wanted.items():
        if there.get((agent, seed), 0) < trials:
            raise StudyError(
                f"study {config.name!r} has run {there.get((agent, seed), 0)} of {trials} trials of {agent}, seed "
                f"{seed}: complete its search with `automl resume {config.name}`, then finish it in another way"
            )

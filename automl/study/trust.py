"""What may be run of a recorded study: all it names, if this user started it; of any other, what is named again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from automl.config.study import StudyConfig
from automl.errors import StudyError
from automl.store import Store, is_ours


def trusted_config(
    store: Store, name: str, code: Sequence[str] = (), code_root: str | Path | None = None
) -> StudyConfig:
    """The recorded configuration of study `name`, in which nothing stands that its user has not chosen to run.

    A study that this user started is gone on with as it is. One from elsewhere (an import, a database of another user)
    is data: each function and each model of a hub that it names must be in `code` too, modules are looked for in
    `code_root` instead of its sender's folder, and it chooses neither a cluster to connect to nor a folder to write
    or download to. `StudyError` if something is not named, `ConfigError` if the record is no configuration.
    """
    record = store.study(name)
    config = StudyConfig.from_record({**record.config, "name": record.name})
    root = None if code_root is None else str(Path(code_root).resolve())
    if is_ours(record):
        return config if root is None else replace(config, folder=root)
    named = code_of(config)
    missing = [spec for spec in named if spec not in code]
    if missing:
        called = " and ".join(f"{spec} with {_shown(named[spec])}" for spec in missing)
        again = " ".join(f"--code {spec}" for spec in named)
        raise StudyError(
            f"study {name!r} in {store.name} was not started by this user here, and would run {called}. If you know "
            f"that code, name it: {again}, and with --code-root DIR the folder in which it lies"
        )
    data, runner = replace(config.data, root=None), replace(config.runner, address=None)
    return replace(config, folder=root, artifacts=None, data=data, runner=runner)


def code_of(config: StudyConfig) -> dict[str, Any]:
    """What a study has called beside this program: a function, an agent's class, or a model of a hub -> the options
    that it is given."""
    called: dict[str, Any] = {config.model.name: config.model.options, config.data.name: config.data.options}
    metrics = config.task.metrics if config.task is not None else None
    called |= {spec: {} for spec in (config.loss, metrics) if spec is not None}
    called |= {agent.name: agent.options for agent, _ in config.lanes}
    called |= {spec: {} for options in config.trainings for spec in options.own_code}
    return {spec: options for spec, options in called.items() if ":" in spec}


def _shown(options: Any) -> str:
    return f"the options {dict(options)!r:.200}" if options else "no options"

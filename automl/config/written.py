"""A study file for a configuration that was made in another way: what is not as it is by default, as YAML."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, fields, is_dataclass
from typing import Any

import yaml

from automl.config.agent import AgentConfig
from automl.config.model import FROM_NOTHING
from automl.config.study import StudyConfig
from automl.config.walk import NOT_IN_FILES

WIDTH = 110


def written(config: StudyConfig, about: str = "") -> str:
    """The study file that is read as `config`, paths apart, which are absolute in it; `about` is a comment above it."""
    content = _changed(config)
    if config.model.name == FROM_NOTHING:
        del content["model"]
    content["agent"] = {"name": config.agent.name, **config.agent.options}
    lines = "".join(f"# {line}\n" for line in about.splitlines())
    return lines + yaml.safe_dump(content, sort_keys=False, width=WIDTH, default_flow_style=None, allow_unicode=True)


def _changed(section: Any) -> dict[str, Any]:
    """The keys of a section that are not as by default."""
    found = {}
    for field in fields(section):
        value = getattr(section, field.name)
        usual = field.default_factory() if field.default_factory is not MISSING else field.default
        if value != usual and field.metadata != NOT_IN_FILES:
            found[field.name] = _plain(value)
    return found


def _plain(value: Any) -> Any:
    """A value as YAML has it."""
    if isinstance(value, AgentConfig):
        return {}  # its options stand beside its name
    if is_dataclass(value):
        return _changed(value)
    if isinstance(value, Mapping):
        return {key: _plain(inner) for key, inner in value.items()}
    return [_plain(inner) for inner in value] if isinstance(value, list | tuple) else value

"""Every key that a study file may hold, with its default and its meaning, as YAML to copy from.

All of it is read from the dataclasses that a study file is checked against, so that it cannot be out of date.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Iterator
from typing import Any, Literal, get_args, get_origin

import yaml

import agents
from automl.config.budget_presets import BUDGET_PRESETS, described
from automl.config.choices import NAMES
from automl.config.study import StudyConfig
from automl.config.walk import Key, documented, keys_of, unless_none
from automl.errors import ConfigError
from automl.util.names import nearest

WIDTH = 110


def listing(what: str | None) -> str:
    """The keys of the section or agent `what`, a preset's limits, the whole file for None. Errors: `ConfigError`."""
    sections = optional_sections(StudyConfig)
    if what is None:
        return "\n".join(
            [
                "# A study file: every key with its default. null is none; `automl keys SECTION` has the keys of a "
                "section",
                f"# that is null here ({', '.join(sections)}), `automl keys AGENT` the options of an agent.",
                *_lines(StudyConfig),
            ]
        )
    if what in sections:
        places, cls = sections[what]
        return "\n".join([f"# {', '.join(places)}", f"{what}:", *_indented(_lines(cls))])
    if what in agents.names():
        options = list(_lines(agents.options(what)))
        head = ["agent:"] if options else ["# It has no options.", "agent:"]
        return "\n".join([*head, *_indented([f"name: {what}", *options])])
    if what in BUDGET_PRESETS:
        return "\n".join(described(what))
    known = (*sections, *agents.names(), *BUDGET_PRESETS)
    raise ConfigError(f"no section, agent or preset {what!r}{nearest(what, known)}")


def optional_sections(cls: type, path: str = "") -> dict[str, tuple[list[str], type]]:
    """Section that is none by default -> every place where it may stand, and its dataclass."""
    found: dict[str, tuple[list[str], type]] = {}
    for key in keys_of(cls):
        if key.section is None:
            continue
        place = f"{path}{key.name}"
        if key.may_be_none:
            found.setdefault(key.name, ([], key.section))[0].append(place)
        for name, (places, inner) in optional_sections(key.section, f"{place}.").items():
            found.setdefault(name, ([], inner))[0].extend(places)
    return found


def _lines(cls: type, usual: object = None) -> Iterator[str]:
    """The keys of one section as commented YAML, those of the sections within indented below them.

    `usual`: the section where the study file says nothing of it, if that is not all defaults.
    """
    for key, about in documented(cls):
        if choices := _choices(cls, key):
            about = f"{about} {choices}.".strip()
        yield from textwrap.wrap(about, WIDTH, initial_indent="# ", subsequent_indent="# ")
        default = key.default if usual is None else getattr(usual, key.name)
        if key.section is not None and (not key.may_be_none or default is not None):
            yield f"{key.name}:"
            yield from _indented(_lines(key.section, default if isinstance(default, key.section) else None))
        elif key.required:
            yield f"{key.name}:  # required"
        else:
            yield f"{key.name}: {_yaml(default)}"


def _indented(lines: Iterable[str]) -> list[str]:
    return [f"  {line}" for line in lines]


def _choices(cls: type, key: Key) -> str:
    """What a key may be, in words; "" where that is no short list."""
    if names := NAMES.get((cls, key.name)):
        return f"Built in: {', '.join(names.known())}"
    wanted = unless_none(key.hint)
    return f"One of {', '.join(map(_yaml, get_args(wanted)))}" if get_origin(wanted) is Literal else ""


def _yaml(value: Any) -> str:
    plain = list(value) if isinstance(value, tuple) else value
    return str(yaml.safe_dump(plain, default_flow_style=True, width=WIDTH)).removesuffix("...\n").strip()

"""`automl keys [WHAT]`: every key that may be set, its default and its meaning, as YAML to copy from.

All of it is read from the dataclasses that a study file is checked against, so that it cannot be out of date.
"""

from __future__ import annotations

import argparse
import textwrap
from collections.abc import Iterator
from dataclasses import MISSING, Field, fields, is_dataclass
from typing import Any, Literal, get_args, get_origin, get_type_hints

import yaml

import agents
from automl import data, zoo
from automl.config.agent import AgentConfig
from automl.config.field_docs import field_docs
from automl.config.model import DataConfig, ModelConfig
from automl.config.parse import unless_none
from automl.config.study import StudyConfig
from automl.errors import ConfigError
from automl.util.names import nearest

WIDTH = 110

_NAMES = {
    ModelConfig: ("Built in:", zoo.names),
    DataConfig: ("Built in:", data.names),
    AgentConfig: ("One of", agents.names),
}
"""Section -> what its `name` may be."""

_NOT_TO_BE_SET = {(StudyConfig, "folder"), (AgentConfig, "options")}  # options stand beside the agent's name


def run(args: argparse.Namespace) -> int:
    """Print the keys of a study file, of one of its sections, or the options of an agent."""
    sections = optional_sections(StudyConfig)
    if args.what is None:
        print(
            "# A study file: every key with its default. null is none; `automl keys SECTION` has the keys of a section"
        )
        print(f"# that is null here ({', '.join(sections)}), `automl keys AGENT` the options of an agent.")
        print("\n".join(_lines(StudyConfig)))
    elif args.what in sections:
        where, cls = sections[args.what]
        print(f"# {', '.join(where)}")
        print(f"{args.what}:")
        print(textwrap.indent("\n".join(_lines(cls)), "  "))
    elif args.what in agents.names():
        lines = list(_lines(agents.options(args.what)))
        print("agent:" if lines else "# It has no options.\nagent:")
        print(textwrap.indent("\n".join([f"name: {args.what}", *lines]), "  "))
    else:
        raise ConfigError(f"no section or agent {args.what!r}{nearest(args.what, (*sections, *agents.names()))}")
    return 0


def optional_sections(cls: type, path: str = "") -> dict[str, tuple[list[str], type]]:
    """Section that is none by default -> every place where it may stand, and its dataclass."""
    found: dict[str, tuple[list[str], type]] = {}
    for field, hint in _fields(cls):
        section = unless_none(hint)
        if not is_dataclass(section):
            continue
        assert isinstance(section, type)
        place = f"{path}{field.name}"
        if section is not hint:
            found.setdefault(field.name, ([], section))[0].append(place)
        for name, (places, inner) in optional_sections(section, f"{place}.").items():
            found.setdefault(name, ([], inner))[0].extend(places)
    return found


def _lines(cls: type) -> Iterator[str]:
    """The keys of one section as commented YAML, those of the sections within indented below them."""
    docs = field_docs(cls)
    for field, hint in _fields(cls):
        about = docs.get(field.name, "")
        if choices := _choices(cls, field, hint):
            about = f"{about} {choices}.".strip()
        yield from textwrap.wrap(about, WIDTH, initial_indent="# ", subsequent_indent="# ")
        default = _default(field)
        if isinstance(hint, type) and is_dataclass(hint):
            yield f"{field.name}:"
            yield from textwrap.indent("\n".join(_lines(hint)), "  ").split("\n")
        elif default is MISSING:
            yield f"{field.name}:  # required"
        else:
            yield f"{field.name}: {_yaml(default)}"


def _fields(cls: type) -> list[tuple[Field[Any], Any]]:
    hints = get_type_hints(cls)
    return [(field, hints[field.name]) for field in fields(cls) if (cls, field.name) not in _NOT_TO_BE_SET]


def _choices(cls: type, field: Field[Any], hint: Any) -> str:
    """What a key may be, in words; "" where that is no short list."""
    if field.name == "name" and cls in _NAMES:
        words, names = _NAMES[cls]
        return f"{words} {', '.join(names())}"
    wanted = unless_none(hint)
    return f"One of {', '.join(map(_yaml, get_args(wanted)))}" if get_origin(wanted) is Literal else ""


def _default(field: Field[Any]) -> Any:
    return field.default_factory() if field.default_factory is not MISSING else field.default


def _yaml(value: Any) -> str:
    plain = list(value) if isinstance(value, tuple) else value
    return str(yaml.safe_dump(plain, default_flow_style=True, width=WIDTH)).removesuffix("...\n").strip()

"""Builds a frozen dataclass from a mapping that a user wrote, with an error for every way in which it can be wrong."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, is_dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args, get_origin

import yaml

from automl.config.walk import has_short_form, keys_of, unless_none
from automl.config.yaml_text import read_text
from automl.errors import ConfigError
from automl.util.names import nearest
from search_spaces.errors import SpaceError

T = TypeVar("T")

_WORDS = {str: "text", int: "a whole number", float: "a number", bool: "true or false"}


@dataclass(frozen=True)
class Source:
    """Where a study's settings come from, so that an error can point there."""

    title: str = "study"
    lines: Mapping[tuple[str, ...], int] = field(default_factory=dict)
    """Path of a key, e.g. `("model", "name")` -> its line, from 1."""

    def error(self, path: tuple[str, ...], message: str) -> ConfigError:
        """`message` with the file, the line if known, and the key."""
        line = next((self.lines[path[:n]] for n in range(len(path), 0, -1) if path[:n] in self.lines), None)
        place = self.title if line is None else f"{self.title}, line {line}"
        keys = ".".join(key if key and key.isprintable() else repr(key) for key in path)
        return ConfigError(f"{place}: {keys + ': ' if path else ''}{message}")


def read_yaml(path: Path) -> tuple[dict[str, Any], Source]:
    """The mapping in a YAML file and where each of its keys stands. Errors: `ConfigError`."""
    try:
        text = path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot read the study file {path}: {error}") from None
    try:
        raw, node = read_text(text)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from None
    lines: dict[tuple[str, ...], int] = {}
    if node is not None:
        _note_lines(node, (), lines, path)
    if not isinstance(raw, dict):
        raise ConfigError(f"{path}: expected a mapping of settings, got {_describe(raw)}")
    return raw, Source(str(path), lines)


def _note_lines(node: yaml.Node, path: tuple[str, ...], lines: dict[tuple[str, ...], int], file: Path) -> None:
    if not isinstance(node, yaml.MappingNode):
        return
    for key, value in node.value:
        inner = (*path, str(key.value))
        if inner in lines:
            raise ConfigError(f"{file}, line {key.start_mark.line + 1}: {'.'.join(inner)} is set twice")
        lines[inner] = key.start_mark.line + 1
        _note_lines(value, inner, lines, file)


def build(cls: type[T], raw: Any, source: Source, path: tuple[str, ...] = ()) -> T:
    """An instance of the dataclass `cls` from the mapping `raw`: known keys, right types, nothing missing."""
    if not isinstance(raw, Mapping):
        raise source.error(path, f"expected a mapping, got {_describe(raw)}")
    known = {key.name: key for key in keys_of(cls)}
    for name in raw:
        if name not in known:
            raise source.error((*path, str(name)), f"unknown key{nearest(str(name), known)}")
    for name, key in known.items():
        if key.required and name not in raw:
            raise source.error((*path, name), "is missing")
    values = {name: convert(known[name].hint, value, source, (*path, name)) for name, value in raw.items()}
    try:
        return cls(**values)
    except (ConfigError, SpaceError) as error:
        raise source.error(path, str(error)) from None


def convert(hint: Any, value: Any, source: Source, path: tuple[str, ...]) -> Any:
    """`value` as the type `hint`; a whole number may stand for a float and one item for a list of one."""
    if (wanted := unless_none(hint)) is not hint:
        return None if value is None else convert(wanted, value, source, path)
    origin = get_origin(hint)
    if origin is Literal:
        if value not in get_args(hint):
            choices = ", ".join(map(str, get_args(hint)))
            raise source.error(path, f"expected one of {choices}, got {_describe(value)}")
        return value
    if origin is tuple:
        items = value if isinstance(value, list | tuple) else [value]
        return tuple(convert(get_args(hint)[0], item, source, path) for item in items)
    if origin is not None and issubclass(origin, Mapping):
        if not isinstance(value, Mapping):
            raise source.error(path, f"expected a mapping, got {_describe(value)}")
        _, of_values = get_args(hint)
        if of_values is Any:
            return dict(value)
        return {name: convert(of_values, one, source, (*path, str(name))) for name, one in value.items()}
    if is_dataclass(hint):
        assert isinstance(hint, type)
        return value if isinstance(value, hint) else build(hint, _written_out(hint, value), source, path)
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, hint) or (hint is not bool and isinstance(value, bool)):
        raise source.error(path, f"expected {_WORDS[hint]}, got {_describe(value)}")
    return value


def _written_out(section: type, value: Any) -> Any:
    """A section that is written as its name alone, as a mapping; anything else as it is."""
    return {"name": value} if isinstance(value, str) and has_short_form(section) else value


def _describe(value: Any) -> str:
    if isinstance(value, Mapping):
        return "a mapping"
    if isinstance(value, list | tuple):
        return "a list"
    return "nothing" if value is None else repr(value)

"""The JSON schema of study files, by which an editor completes keys, shows what they mean and marks what is wrong.

It is made by the walk by which study files are read, so that it refuses what the reader refuses of keys, types and
names. Numbers out of range, and sections that do not fit one another, are noticed by the reader alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import is_dataclass
from typing import Any, Literal, get_args, get_origin

import agents
from automl.config.agent import DEPTH_AGENT, AgentConfig
from automl.config.budget_presets import BUDGET_PRESETS, KEY
from automl.config.choices import NAMES, Names
from automl.config.space import CELLS, CHOICES, PRESETS, SpaceConfig
from automl.config.study import StudyConfig
from automl.config.walk import documented, has_short_form, unless_none
from automl.tasks.kinds import OFFERED
from automl.tasks.objectives import known_objectives

Schema = dict[str, Any]

DIALECT = "https://json-schema.org/draft/2020-12/schema"
OF_OWN = ("task", "direction")
"""The keys that a study file has whose objective is a metric of the user's own."""
_OF_CELLS: Schema = {
    "anyOf": [
        {"const": CELLS},
        {"const": [CELLS]},
        {"required": [CELLS]},
        {"required": ["name"], "properties": {"name": {"const": CELLS}}},
    ]
}
"""The spaces that need no network."""
_OWN = {"type": "string", "pattern": ":"}
"""`module:function` or `module:Class`, of the user's own."""
_LIMIT: Schema = {
    "anyOf": [
        {"type": "string"},
        {
            "type": "object",
            "properties": {KEY: {"enum": list(BUDGET_PRESETS)}},
            "required": [KEY],
            "additionalProperties": False,
        },
    ]
}
_BUDGET: Schema = {"anyOf": [*_LIMIT["anyOf"], {"type": "array", "items": _LIMIT}]}
"""Limits and presets, one or several."""
_TYPES = {str: "string", int: "integer", float: "number", bool: "boolean"}


def study_schema() -> Schema:
    """The schema of a whole study file, in draft 2020-12 of JSON Schema. Every section has its place in `$defs`."""
    definitions: Schema = {}
    whole = _section(StudyConfig, definitions)
    whole["required"].remove("model")
    # An objective of the user's own metrics may have any name, and needs to be told which is better.
    objective = {
        "anyOf": [
            {"properties": {"objective": {"enum": known_objectives(*OFFERED.sound())}}},
            {"required": list(OF_OWN)},
        ]
    }
    given = {"anyOf": [{"required": ["model"]}, {"required": ["space"], "properties": {"space": _OF_CELLS}}]}
    title = "A study file of automl-compress"
    return {"$schema": DIALECT, "title": title, **whole, "allOf": [objective, given], "$defs": definitions}


def _section(cls: type, definitions: Schema) -> Schema:
    """A mapping with the keys of the dataclass `cls`, and no others."""
    properties: Schema = {}
    required = []
    for key, about in documented(cls):
        names = NAMES.get((cls, key.name))
        schema = _BUDGET if (cls, key.name) == (StudyConfig, "budget") else _value(key.hint, definitions, names)
        if key.section is None and not key.required:
            schema["default"] = list(key.default) if isinstance(key.default, tuple) else key.default
        properties[key.name] = {"description": about, **schema} if about else schema
        if key.required:
            required.append(key.name)
    schema = {"type": "object", "properties": properties, "additionalProperties": False}
    return {**schema, "required": required} if required else schema


def _value(hint: Any, definitions: Schema, names: Names | None = None) -> Schema:
    """What is written for a value of the type `hint`, or for one of the `names`."""
    if (wanted := unless_none(hint)) is not hint:
        return {"anyOf": [_value(wanted, definitions, names), {"type": "null"}]}
    origin = get_origin(hint)
    if origin is Literal:
        return {"enum": list(get_args(hint))}
    if origin is tuple:
        item = _value(get_args(hint)[0], definitions, names)
        return {"anyOf": [item, {"type": "array", "items": item}]}  # one item stands for a list of one
    if origin is not None and issubclass(origin, Mapping):
        _, of_values = get_args(hint)
        more = {} if of_values is Any else {"additionalProperties": _value(of_values, definitions)}
        return {"type": "object", **more}
    if is_dataclass(hint):
        assert isinstance(hint, type)
        return _reference(hint, definitions)
    return _name(names) if names is not None else {"type": _TYPES[hint]}


def _name(names: Names) -> Schema:
    known = {"enum": names.known()}
    return {"anyOf": [known, _OWN]} if names.own else known


def _reference(cls: type, definitions: Schema) -> Schema:
    """A section by reference, or its name alone, if it has one."""
    if cls is AgentConfig:
        return _agent(definitions)
    if cls is SpaceConfig:
        return _space(definitions)
    if cls.__name__ not in definitions:
        definitions[cls.__name__] = _section(cls, definitions)
    section = {"$ref": f"#/$defs/{cls.__name__}"}
    if not has_short_form(cls):
        return section
    return {"anyOf": [definitions[cls.__name__]["properties"]["name"], section]}


def _space(definitions: Schema) -> Schema:
    """A mapping of operators to their options, a list of operators, or a name with options beside it."""
    whole = _section(SpaceConfig, definitions)
    named: Schema = {}
    for options in CHOICES.values():
        named |= _section(options, definitions)["properties"]
    names = {"enum": [*PRESETS, *(name for name in CHOICES if name not in PRESETS)]}
    beside = {"type": "object", "properties": {"name": names, **named}, "additionalProperties": False}
    listed = {"type": "array", "items": {"enum": list(CHOICES)}, "minItems": 1}
    definitions["SpaceConfig"] = whole
    return {"anyOf": [{"$ref": "#/$defs/SpaceConfig"}, beside, listed, names]}


def _agent(definitions: Schema) -> Schema:
    """The name of an agent, or a mapping with its name and its own options beside it."""
    forms = []
    for name in agents.sound_names():
        options = _section(agents.options(name), definitions)
        options["properties"] = {"name": {"const": name}, **options["properties"]}
        if name not in (AgentConfig.name, DEPTH_AGENT):  # those are meant where none is named
            options["required"] = ["name"]
        definitions[f"agent_{name}"] = options
        forms.append({"$ref": f"#/$defs/agent_{name}"})
    own = {"type": "object", "properties": {"name": _OWN}, "required": ["name"]}  # its options are its own
    return {"anyOf": [_name(Names(agents.names)), *forms, own]}

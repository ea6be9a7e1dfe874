"""The walk over the dataclasses of a study file, which the reader, `automl keys` and the JSON schema share."""

from __future__ import annotations

import types
from collections.abc import Iterator
from dataclasses import MISSING, dataclass, fields, is_dataclass
from typing import Any, Union, get_args, get_origin, get_type_hints

from automl.config.field_docs import field_docs

NOT_IN_FILES = {"in_files": False}
"""The metadata of a field that is recorded and that no study file may set as it is."""


@dataclass(frozen=True)
class Key:
    """One key of a section: a field of its dataclass."""

    name: str
    hint: Any
    """The type of its value, resolved."""
    default: Any
    """`MISSING` if the key is required."""
    in_files: bool = True
    """Whether a study file may set it."""
    about: str = ""
    """What it means, where no string below a field says it."""

    @property
    def required(self) -> bool:
        """Whether a section is refused without it."""
        return self.default is MISSING

    @property
    def section(self) -> type | None:
        """The dataclass that its value is read into; None: its value is no section."""
        wanted = unless_none(self.hint)
        return wanted if isinstance(wanted, type) and is_dataclass(wanted) else None

    @property
    def may_be_none(self) -> bool:
        """Whether null is a value of it."""
        return unless_none(self.hint) is not self.hint


def keys_of(cls: type) -> list[Key]:
    """Every key of the section that the dataclass `cls` describes, in its order."""
    hints = get_type_hints(cls)
    return [
        Key(
            field.name,
            hints[field.name],
            field.default if field.default_factory is MISSING else field.default_factory(),
            field.metadata.get("in_files", True),
            field.metadata.get("about", ""),
        )
        for field in fields(cls)
    ]


def documented(cls: type) -> Iterator[tuple[Key, str]]:
    """The keys of a section that a study file may set, each with the string below its field, "" if there is none."""
    docs = field_docs(cls)
    return ((key, docs.get(key.name) or key.about) for key in keys_of(cls) if key.in_files)


def has_short_form(cls: type) -> bool:
    """Whether a section may be written as its name alone, `model: resnet20`: it has a key `name`."""
    return any(field.name == "name" for field in fields(cls))


def unless_none(hint: Any) -> Any:
    """What a value must be that is not None, where it may be: `X` of `X | None`; any other hint as it is."""
    if get_origin(hint) not in (Union, types.UnionType):
        return hint
    return next(choice for choice in get_args(hint) if choice is not type(None))

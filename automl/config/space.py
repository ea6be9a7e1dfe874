"""What may be chosen: a list of operators, each with its options, searched together."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, make_dataclass
from typing import TYPE_CHECKING, Any

from automl.config.parse import Source
from automl.errors import ConfigError
from automl.util.names import nearest
from search_spaces.cells.cells_options import CellsOptions
from search_spaces.operators.options import OPTIONS, ChannelsOptions, Options

CELLS = "cells"
CHOICES: dict[str, type[Options]] = {**OPTIONS, CELLS: CellsOptions}
"""What a space may be of: operators, which change a network that is given, or cells, of which networks are made."""

PRESETS: dict[str, tuple[str, ...]] = {
    "channels": ("channels",),
    "depth": ("depth", "channels"),
    "weights": ("sparsity",),
}
"""Name of a space of versions up to 0.1 -> its operators."""


@dataclass(frozen=True)
class _Chosen:
    @property
    def operators(self) -> dict[str, Options]:
        """The operators that are searched, in the order of their steps, each with its options."""
        return {name: value for name in CHOICES if (value := getattr(self, name)) is not None}

    @property
    def of_cells(self) -> CellsOptions | None:
        """The options of whole architectures, if those are searched."""
        found: CellsOptions | None = getattr(self, CELLS)
        return found

    @property
    def structural(self) -> bool:
        """Whether channels or calls may be removed."""
        return any(options.structural for options in self.operators.values())

    @property
    def lowers(self) -> frozenset[str]:
        """The costs that some operator lowers."""
        return frozenset[str]().union(*(options.lowers for options in self.operators.values()))

    def __post_init__(self) -> None:
        if not self.operators:
            raise ConfigError(f"a space needs an operator: some of {', '.join(CHOICES)}")
        for name, options in self.operators.items():
            for other, why in options.excludes.items():
                if other in self.operators:
                    raise ConfigError(f"{name} and {other} cannot be joined: {why}")


if TYPE_CHECKING:

    @dataclass(frozen=True)
    class SpaceConfig(_Chosen):
        """What may be chosen."""

        def __init__(self, **operators: Options | None) -> None: ...

else:
    SpaceConfig = make_dataclass(
        "SpaceConfig",
        [
            (name, options | None, field(default=None, metadata={"about": options.__doc__}))
            for name, options in CHOICES.items()
        ],
        bases=(_Chosen,),
        frozen=True,
        namespace={"__doc__": "What may be chosen.", "__module__": __name__},
    )

CHANNELS = SpaceConfig(channels=ChannelsOptions())


def written_out(raw: Any, source: Source) -> tuple[Any, Source]:
    """The section `space` as a mapping from operators to options, however it is written, and where its keys stand.

    A list names operators: `[depth, channels]`. A name is that of an operator, or of a space of versions up to 0.1,
    whose options could stand beside it: `{name: depth, min_keep: 0.2, skips: true}`. Errors: `ConfigError`.
    """
    if isinstance(raw, str):
        raw = {"name": raw}
    if isinstance(raw, list | tuple):
        for name in raw:
            if not isinstance(name, str) or name not in CHOICES:
                raise source.error(("space",), f"unknown operator {name!r}{nearest(str(name), CHOICES)}")
        return {name: {} for name in raw}, source
    if not isinstance(raw, Mapping):
        return raw, source  # refused by who reads it
    if raw.keys() & CHOICES.keys():
        return raw, source
    return _of_preset(raw, source)


def _of_preset(raw: Mapping[str, Any], source: Source) -> tuple[dict[str, Any], Source]:
    """The same for a space that is named, with the options of all its operators beside the name."""
    name = raw.get("name", "channels")
    known = {**PRESETS, **{operator: (operator,) for operator in CHOICES if operator not in PRESETS}}
    if not isinstance(name, str) or name not in known:
        raise source.error(("space", "name"), f"expected one of {', '.join(known)}, got {name!r}")
    operators = known[name]
    takes = {operator: {f.name for f in fields(CHOICES[operator])} for operator in operators}
    options: dict[str, dict[str, Any]] = {operator: {} for operator in operators}
    lines = dict(source.lines)
    for key, value in raw.items():
        if key == "name":
            continue
        owners = [operator for operator in operators if key in takes[operator]]
        others = [f.default for options in OPTIONS.values() for f in fields(options) if f.name == key]
        if not owners and value in others:
            continue  # records of those versions hold every option of every space
        if not owners and others:
            raise source.error(("space", str(key)), f"is no option of {' and '.join(operators)}: leave it out")
        if not owners:
            names = ("name", *OPTIONS, *sorted(set().union(*takes.values())))
            raise source.error(("space", str(key)), f"unknown key{nearest(str(key), names)}")
        for operator in owners:
            options[operator][key] = value
            if ("space", key) in lines:
                lines["space", operator, key] = lines["space", key]
    return options, Source(source.title, lines)

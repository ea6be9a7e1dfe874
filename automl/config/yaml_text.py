"""Reads YAML that people write: numbers as in YAML 1.2, and nothing that grows when it is read."""

from __future__ import annotations

import re
from typing import Any

import yaml

from automl.errors import ConfigError, in_a_line

MOST_VALUES = 10_000
"""How many values a text may stand for once its aliases are written out: a study file has some dozens."""


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader, which knows YAML 1.1, with the exponents of 1.2 and without numbers to the base of 60."""


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)[eE][-+]?[0-9]+$"), list("-+.0123456789")
)
for digit in "123456789":  # 2:4 is text, not 124; before what YAML 1.1 makes of it
    _Loader.yaml_implicit_resolvers[digit].insert(0, ("tag:yaml.org,2002:str", re.compile(r"[0-9]+:[0-9]+$")))


def read_text(text: str) -> tuple[Any, yaml.Node | None]:
    """What `text` says, and the tree of its nodes, which know their lines; a `ConfigError` says what is wrong with it.

    `1e-3` is a number, which YAML 1.1 takes for text, and `2:4` is text, which it takes for 124.
    Aliases may be used, but not to hold themselves or to multiply.
    """
    try:
        node = yaml.compose(text, Loader=_Loader)
        if node is not None and _size(node, ()) > MOST_VALUES:
            raise ConfigError(f"its aliases stand for more than {MOST_VALUES:,} values: write out what is meant")
        return yaml.load(text, Loader=_Loader), node
    except ConfigError:
        raise
    except (yaml.YAMLError, ValueError) as error:  # a date that does not exist is a ValueError
        raise ConfigError(f"not valid YAML: {in_a_line(error)}") from None
    except RecursionError:
        raise ConfigError("lists and mappings lie too deep in each other: a study file needs five levels") from None


def _size(node: yaml.Node, around: tuple[yaml.Node, ...]) -> int:
    """How many values a node stands for, more than `MOST_VALUES` as such; `around`: the nodes that it lies in."""
    if any(node is outer for outer in around):
        raise ConfigError(f"line {node.start_mark.line + 1} holds itself by an alias: write out what is meant")
    if isinstance(node, yaml.ScalarNode):
        return 1
    parts = [part for pair in node.value for part in pair] if isinstance(node, yaml.MappingNode) else node.value
    size = 1
    for part in parts:
        size += _size(part, (*around, node))
        if size > MOST_VALUES:
            break
    return size

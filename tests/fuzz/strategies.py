"""What a fuzzer makes: study files that are nearly right, JSON with one place spoilt, and batches of any form."""

from __future__ import annotations

import copy
import string
from collections.abc import Mapping
from typing import Any

import torch
from hypothesis import strategies as st

from automl.config.json_schema import study_schema

SCHEMA = study_schema()
"""Of a study file."""

TEXTS = st.sampled_from(
    [
        "",
        " ",
        "all",
        "none",
        "amc",
        "macs <= 50%",
        "size <= 1e9 KB",
        "../../x",
        "a:b",
        "1e400",
        "é\u202e",
        "\0",
        "x" * 300,
    ]
) | st.text(st.characters(codec="utf-8"), max_size=12)
NUMBERS = st.sampled_from([0, 1, -1, 2, 0.5, 1e-300, 1e308, 2**63, -(2**63), 10**30, float("nan"), float("inf")]) | (
    st.integers() | st.floats()
)
ANYTHING = st.recursive(
    st.none() | st.booleans() | NUMBERS | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=6,
)
"""A value that YAML and JSON can hold."""


def rarely(strange: st.SearchStrategy[Any], usual: st.SearchStrategy[Any], odds: int = 12) -> st.SearchStrategy[Any]:
    """What is usual, and once in `odds` times something strange."""
    return st.integers(1, odds).flatmap(lambda drawn: strange if drawn == odds else usual)


def of_schema(schema: Mapping[str, Any], definitions: Mapping[str, Any]) -> st.SearchStrategy[Any]:
    """Values that a JSON schema allows, but here and there one that it does not."""
    return rarely(ANYTHING, st.deferred(lambda: _allowed(schema, definitions)))


def _allowed(schema: Mapping[str, Any], definitions: Mapping[str, Any]) -> st.SearchStrategy[Any]:
    if "$ref" in schema:
        return _allowed(definitions[schema["$ref"].rpartition("/")[2]], definitions)
    for choices in ("anyOf", "oneOf"):
        if choices in schema:
            return st.one_of(*(_allowed({**choice}, definitions) for choice in schema[choices]))
    if "enum" in schema:
        return st.sampled_from(schema["enum"])
    if "const" in schema:
        return st.just(schema["const"])
    kind = schema.get("type")
    if kind == "object":
        return _mapping(schema, definitions)
    if kind == "array":
        return st.lists(of_schema(schema.get("items", {}), definitions), max_size=3)
    simple = {
        "string": TEXTS,
        "integer": st.integers(-2, 5) | st.integers(),
        "number": st.floats(0, 1) | NUMBERS,
        "boolean": st.booleans(),
        "null": st.none(),
    }
    return simple.get(str(kind), ANYTHING)


def _mapping(schema: Mapping[str, Any], definitions: Mapping[str, Any]) -> st.SearchStrategy[dict[str, Any]]:
    """A mapping with the keys that must be there, a few of the others, and sometimes one that must not."""
    properties = schema.get("properties", {})
    required = set(schema.get("required", ()))

    def with_keys(keys: list[str]) -> st.SearchStrategy[dict[str, Any]]:
        return st.fixed_dictionaries({key: of_schema(properties[key], definitions) for key in keys})

    chosen = st.lists(st.sampled_from(sorted(properties)), max_size=4, unique=True) if properties else st.just([])
    known = chosen.flatmap(lambda keys: with_keys(sorted(required.union(keys))))
    strange = st.dictionaries(st.sampled_from(string.ascii_lowercase) | TEXTS, ANYTHING, min_size=1, max_size=1)
    return rarely(st.tuples(known, strange).map(lambda pair: {**pair[0], **pair[1]}), known)


@st.composite
def spoilt(draw: st.DrawFn, value: Any) -> Any:
    """A copy of a JSON value in which one to three places are gone, or hold anything."""
    made = copy.deepcopy(value)
    for _ in range(draw(st.integers(1, 3))):
        place, key = made, None
        while True:
            keys = list(place) if isinstance(place, dict) else list(range(len(place)))
            if not keys:
                break
            key = draw(st.sampled_from(keys))
            inner = place[key]
            if not isinstance(inner, dict | list) or not inner or draw(st.integers(0, 4)) == 0:
                break
            place = inner
        if key is None or not place:
            continue
        if draw(st.booleans()):
            place[key] = draw(ANYTHING)
        else:
            del place[key]
    return made


def tensors(channels: int = 3, side: int = 6) -> st.SearchStrategy[Any]:
    """Images for a small network, and now and then numbers of another form."""
    usual = st.integers(1, 5).map(lambda n: torch.randn(n, channels, side, side))
    kinds = st.sampled_from([torch.float32, torch.float64, torch.float16, torch.int64, torch.bool, torch.complex64])
    shapes = st.lists(st.integers(0, 6), max_size=5)
    strange = st.tuples(shapes, kinds).map(lambda drawn: torch.ones(drawn[0], dtype=drawn[1]))
    full = st.sampled_from([float("nan"), float("inf"), 0.0]).map(lambda x: torch.full((3, channels, side, side), x))
    return rarely(strange | full | ANYTHING, usual, 6)


def batches(classes: int = 4) -> st.SearchStrategy[Any]:
    """Lists of batches for a small classifier, and now and then something else."""

    def labelled(x: Any) -> st.SearchStrategy[Any]:
        n = len(x) if isinstance(x, torch.Tensor) and x.ndim else 2
        labels = st.lists(rarely(st.integers(-3, 300), st.integers(0, classes - 1), 20), min_size=n, max_size=n)
        right = labels.map(lambda y: torch.tensor(y, dtype=torch.int64))
        return rarely(tensors() | ANYTHING, right, 8).map(lambda y: (x, y))

    one = rarely(tensors() | ANYTHING, tensors().flatmap(labelled), 8)
    return rarely(ANYTHING, st.lists(one, min_size=1, max_size=3), 15)

"""What people write in YAML is read as they mean it, and a text that grows or turns in on itself is refused."""

from __future__ import annotations

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from automl.config.yaml_text import read_text
from automl.errors import ConfigError

BOMB = "a: &a [1, 1, 1, 1, 1, 1, 1, 1, 1]\n" + "".join(
    f"{name}: &{name} [{', '.join([f'*{before}'] * 9)}]\n" for before, name in zip("abcdefgh", "bcdefghi", strict=True)
)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-3", 0.001),
        ("-1E5", -1e5),
        (".5e3", 500.0),
        ("5.e+2", 500.0),
        ("1e3x", "1e3x"),
        ("e5", "e5"),
        ("3", 3),
        ("2:4", "2:4"),
    ],
)
def test_exponents_are_numbers(text, value):
    got = read_text(f"value: {text}")[0]["value"]
    assert got == value and type(got) is type(value)


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_every_number_that_python_writes_is_read_back(number):
    assert read_text(repr(number))[0] == number


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(st.characters(codec="utf-8", exclude_categories=["C"])),
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text("abc_", min_size=1), inner, max_size=4),
        max_leaves=20,
    )
)
def test_what_is_written_is_read_back(value):
    assert read_text(yaml.safe_dump(value))[0] == value


def test_aliases_may_stand_for_what_was_said_before():
    assert read_text("a: &x {epochs: 3}\nb: *x")[0] == {"a": {"epochs": 3}, "b": {"epochs": 3}}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a: 1\nb: &x [*x]", "line 2 holds itself"),
        ("a: &x {b: [*x]}", "line 1 holds itself"),
        (BOMB, "its aliases stand for more than 10,000 values"),
        ("[" * 5000, "too deep in each other"),
        ("a: 2020-99-99", "not valid YAML: month"),
        ("a: !!python/object/apply:os.getcwd []", "not valid YAML: could not determine a constructor"),
        ("? [a]\n: b", "unhashable key"),
        ("a: [1", "not valid YAML"),
    ],
)
def test_one_sentence_says_what_is_wrong(text, expected):
    with pytest.raises(ConfigError) as error:
        read_text(text)
    assert expected in str(error.value) and "\n" not in str(error.value)

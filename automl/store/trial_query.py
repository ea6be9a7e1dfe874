"""Which trials a user asks for: a condition such as `macs <= 50% and accuracy > 0.9`, and an order such as `-accuracy`.

The grammar, which knows nothing but names of columns and values, and runs nothing:

    condition  = conjunction {"or" conjunction}
    conjunction = term {"and" term}
    term       = "not" term | "(" condition ")" | column ("<" | "<=" | ">" | ">=" | "=" | "!=") value
    value      = number ["%" | "k" | "M" | "G" | "KB" | "MB" | "GB" | "ms"] | word | 'text' | "text"

A percentage of a cost is of the original network's, any other is a fraction. A trial that lacks the column does not
fulfil a comparison.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Collection, Sequence
from typing import Any, NoReturn

from automl.errors import ConfigError
from automl.store.meanings import COSTS
from automl.store.trial_rows import Row, TrialRows
from automl.util.names import nearest

Condition = Callable[[Row], bool]

_TOKEN = re.compile(
    r"\s*(?:(?P<number>[+-]?(?:\d[\d_,]*\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)\s*(?P<unit>%|[A-Za-z]+\b(?<!and)(?<!or))?"
    r"|(?P<sign><=|>=|!=|==|=|<|>|≤|≥)|(?P<text>'[^']*'|\"[^\"]*\")|(?P<word>[^\s()<>=!'\"≤≥]+)|(?P<mark>[()]))"
)
_SIGNS: dict[str, Callable[[Any, Any], bool]] = {
    "<": operator.lt,
    "<=": operator.le,
    "≤": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
    "≥": operator.ge,
    "=": operator.eq,
    "==": operator.eq,
    "!=": operator.ne,
}
_UNITS = {"k": 1e3, "M": 1e6, "m": 1e6, "G": 1e9, "g": 1e9, "KB": 1e3, "MB": 1e6, "GB": 1e9, "kB": 1e3, "ms": 1.0}
_SHORT = {"size": "size_bytes", "latency": "latency_ms", "time": "wall_s"}
"""What people call a column that has another name."""
_EXAMPLE = 'for example --where "macs <= 50% and accuracy > 0.9 and agent = random"'


def column_named(name: str, columns: Collection[str]) -> str:
    """The column that `name` means. `ConfigError`, which offers the nearest, if there is none."""
    found = name if name in columns else _SHORT.get(name, name)
    if found not in columns:
        raise ConfigError(f"no column {name!r} in these trials{nearest(name, columns)}")
    return found


def chosen(trials: TrialRows, where: str | None = None, sort: str | None = None) -> TrialRows:
    """The trials that fulfil `where`, in the order `sort`: columns by commas, `-` for the largest first, what lacks
    the column last. Errors: `ConfigError`."""
    places = list(range(len(trials.rows)))
    if where is not None:
        fulfils = _Reader(where, trials).condition()
        places = [i for i in places if fulfils(trials.rows[i])]
    for part in reversed([part.strip() for part in (sort or "").split(",") if part.strip()]):
        column, down = column_named(part.removeprefix("-"), trials.columns), part.startswith("-")
        there = [i for i in places if trials.rows[i].get(column) is not None]
        missing = [i for i in places if trials.rows[i].get(column) is None]
        places = sorted(there, key=lambda i: trials.rows[i][column], reverse=down) + missing
    return trials.picked(places)


class _Reader:
    """Reads a condition from left to right, one token ahead."""

    def __init__(self, text: str, trials: TrialRows) -> None:
        self._text, self._trials = text, trials
        self._tokens: list[re.Match[str]] = []
        place = 0
        while text[place:].strip():
            match = _TOKEN.match(text, place)
            if match is None:
                self._refuse(text[place:].strip())
            self._tokens.append(match)
            place = match.end()

    def condition(self) -> Condition:
        """The whole text."""
        read = self._any()
        if self._tokens:
            self._refuse(self._tokens[0].group().strip())
        return read

    def _any(self) -> Condition:
        parts = self._joined("or", self._all)
        return lambda row: any(part(row) for part in parts)

    def _all(self) -> Condition:
        parts = self._joined("and", self._term)
        return lambda row: all(part(row) for part in parts)

    def _joined(self, word: str, read: Callable[[], Condition]) -> Sequence[Condition]:
        parts = [read()]
        while self._take("word", word):
            parts.append(read())
        return parts

    def _term(self) -> Condition:
        if self._take("word", "not"):
            negated = self._term()
            return lambda row: not negated(row)
        if self._take("mark", "("):
            inner = self._any()
            if not self._take("mark", ")"):
                self._refuse("the end: a bracket is open" if not self._tokens else self._tokens[0].group().strip())
            return inner
        column = column_named(self._next("word", "a column"), self._trials.columns)
        compare = _SIGNS[self._next("sign", "one of < <= > >= = !=")]
        value = self._value(column)

        def holds(row: Row) -> bool:
            there = row.get(column)
            return there is not None and bool(compare(there, value))

        return holds

    def _value(self, column: str) -> Any:
        """What a column is compared with: a number where it holds numbers, else text."""
        match = self._tokens.pop(0) if self._tokens else None
        if match is None or match["sign"] or match["mark"]:
            self._refuse("the end" if match is None else match.group().strip())
        kinds = {type(row[column]) for row in self._trials.rows if row.get(column) is not None}
        if kinds <= {str}:
            return (match["text"] or "''")[1:-1] if match["text"] else match.group().strip()
        if kinds == {bool} and match["word"] in ("true", "false"):
            return match["word"] == "true"
        if not kinds <= {int, float} or match["number"] is None:
            raise ConfigError(f"{column!r} is compared with a number, got {match.group().strip()!r}: {_EXAMPLE}")
        return self._number(match, column)

    def _number(self, match: re.Match[str], column: str) -> float:
        value, unit = float(match["number"].replace("_", "").replace(",", "")), match["unit"] or ""
        if unit == "%":
            base = self._trials.original.get(column) if column.removeprefix("final_") in (*COSTS, "latency_ms") else 1.0
            if base is None:
                raise ConfigError(f"{match.group().strip()} of {column!r}: the original network has none on record")
            return value / 100 * float(base)
        if unit and unit not in _UNITS:
            raise ConfigError(f"no unit {unit!r} in {self._text!r}{nearest(unit, (*_UNITS, '%'))}")
        return value * _UNITS.get(unit, 1.0)

    def _next(self, kind: str, what: str) -> str:
        if not self._tokens or not self._tokens[0][kind]:
            self._refuse(self._tokens[0].group().strip() if self._tokens else "the end", what)
        return str(self._tokens.pop(0)[kind])

    def _take(self, kind: str, text: str) -> bool:
        if self._tokens and (self._tokens[0][kind] or "").lower() == text:
            self._tokens.pop(0)
            return True
        return False

    def _refuse(self, got: str, what: str = "a condition") -> NoReturn:
        raise ConfigError(f"expected {what}, got {got!r} in --where {self._text!r}: {_EXAMPLE}")

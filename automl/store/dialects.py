"""How each database looks into JSON: the one thing in which the views differ."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Dialect:
    """SQL of one database for what a study's `config` and a trial's `point`, both JSON, hold."""

    knobs: str
    """A table `k` of the knobs of `study`, as recorded."""
    position: str
    """Of `k` among the knobs, from 0."""
    name: str
    unit: str
    kind: str
    lowest: str
    """The first of the levels of `k`."""
    highest: str
    size: str
    site: str
    """The name of `k` after its first colon."""
    levels: str
    """A table `d` of the point of trial `t`: `d.key` is the name of a knob."""
    level: str
    """The level in a row of `d`, a whole number."""
    real: str
    """The type of a double."""
    knobs_once: str
    """What a query begins with that joins `known`: all knobs."""
    known: str


SQLITE = Dialect(
    knobs="json_each(study.config, '$.knobs') AS k",
    position="k.key",
    name="json_extract(k.value, '$.name')",
    unit="coalesce(json_extract(k.value, '$.unit'), 'channels')",
    kind="json_extract(k.value, '$.kind')",
    lowest="json_extract(k.value, '$.levels[0]')",
    highest="json_extract(k.value, '$.levels[#-1]')",
    size="json_extract(k.value, '$.size')",
    site="substr(json_extract(k.value, '$.name'), instr(json_extract(k.value, '$.name'), ':') + 1)",
    levels="json_each(t.point) AS d",
    level="d.value",
    real="REAL",
    # SQLite would look into the configuration of a study for each decision.
    knobs_once="WITH known AS MATERIALIZED (SELECT * FROM knob)\n",
    known="known",
)

POSTGRESQL = Dialect(
    # A record may be anybody's: what is no list has no knobs.
    knobs="json_array_elements(CASE json_typeof(study.config -> 'knobs') WHEN 'array' "
    "THEN study.config -> 'knobs' END) WITH ORDINALITY AS k(value, ordinality)",
    position="k.ordinality - 1",
    name="(k.value ->> 'name')",
    unit="coalesce(k.value ->> 'unit', 'channels')",
    kind="(k.value ->> 'kind')",
    lowest="CAST(k.value -> 'levels' ->> 0 AS bigint)",
    highest="CAST(k.value -> 'levels' ->> -1 AS bigint)",
    size="CAST(k.value ->> 'size' AS bigint)",
    site="substr(k.value ->> 'name', strpos(k.value ->> 'name', ':') + 1)",
    levels="json_each_text(CAST(t.point AS json)) AS d(key, value)",
    level="CAST(d.value AS bigint)",
    real="double precision",
    # PostgreSQL does not look through a view that begins like that, but through one with this in it.
    knobs_once="",
    known="(SELECT * FROM knob OFFSET 0)",
)

DIALECTS = {"sqlite": SQLITE, "postgresql": POSTGRESQL}

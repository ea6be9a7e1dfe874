"""Views of the record for whoever brings `sqlite3`, `psql` or pandas: the same columns in both databases.

A view holds nothing, so all are dropped before a migration and made anew after it: they are always those of the version
of the tables. What each column means is in `meanings.py`, and so in the comments of a PostgreSQL database and in
`docs/database.md`.

A metric is a row of `measurement`, and which metrics there are is the user's affair; the columns of a view are fixed.
So `trial_summary` has columns for the study's objective, whatever it is, in each phase, and for what this program
itself measures; everything else is in `measured`, a row each. A column is a subquery of its own, one look into an
index: a query pays for the columns that it names.
"""

from __future__ import annotations

from collections.abc import Callable

import sqlalchemy as sa

from automl.store import meanings as meant
from automl.store.dialects import DIALECTS, Dialect
from automl.types import BASE

_SIGN = "CASE direction WHEN 'minimize' THEN -1 ELSE 1 END"
"""What an objective is multiplied by, so that more is better."""


def _place(study: str) -> str:
    """What names a trial in each view."""
    return f"t.study_id, {study} AS study, t.id AS trial_id, t.agent, t.seed, t.number"


def _last(m: str) -> str:
    """Whether a measurement is the one that counts: of the last step, of equal ones that which was added last."""
    return f"""NOT EXISTS (SELECT 1 FROM measurement AS later WHERE later.trial_id = {m}.trial_id
    AND later.phase = {m}.phase AND later.metric = {m}.metric
    AND (later.step > {m}.step OR (later.step = {m}.step AND later.id > {m}.id)))"""


def _number(phase: str, metric: str, column: str = "value") -> str:
    """One measured number of trial `t`."""
    return f"""(SELECT m.{column} FROM measurement AS m WHERE m.trial_id = t.id AND m.phase = '{phase}'
    AND m.metric = {metric} ORDER BY m.step DESC, m.id DESC LIMIT 1)"""


def _measured(d: Dialect) -> str:
    return f"""SELECT {_place("s.name")}, m.phase, m.metric, m.value, m.unit, m.n, m.spread, m.device, m.step
FROM measurement AS m JOIN trial AS t ON t.id = m.trial_id JOIN study AS s ON s.id = t.study_id WHERE {_last("m")}"""


def _trial_summary(d: Dialect) -> str:
    columns = []
    for name, phase in (("searched", "search"), ("final", "final"), ("test", "test")):
        columns.append(f"{_number(phase, 's.objective')} AS {name}")
        columns.append(f"{_number(phase, 's.objective', 'spread')} AS {name}_spread")
    columns.append(f"{_number('refitted', 's.objective')} AS refitted")
    for metric in meant.QUALITIES:
        for prefix, phase in (("", "search"), ("final_", "final"), ("test_", "test")):
            columns.append(f"{_number(phase, _quoted(metric))} AS {prefix}{metric}")
    for cost in meant.COSTS:
        counted, predicted = (_number(phase, _quoted(cost)) for phase in ("final", "search"))
        columns.append(f"coalesce({counted}, {predicted}) AS {cost}")
    for metric in ("latency_ms", "latency_ratio"):
        columns.append(f"{_number('certificate', _quoted(metric))} AS certified_{metric}")
    for metric in ("latency_ms", "latency_ratio", "peak_activation_bytes"):
        columns.append(f"{_number('latency', _quoted(metric))} AS {metric}")
    listed = ",\n  ".join(columns)
    return f"""SELECT {_place("s.name")}, t.state, t.reason, t.started, t.finished, t.wall_s, t.finish_order,
  t.attempts, t.repeat_of,
  EXISTS (SELECT 1 FROM conclusion AS c WHERE c.trial_id = t.id AND {_last_conclusion("c")}) AS reported,
  s.objective, s.direction,
  {listed}
FROM trial AS t JOIN study AS s ON s.id = t.study_id"""


def _quoted(text: str) -> str:
    """A constant of this program as a literal."""
    return "'" + text.replace("'", "''") + "'"


def _last_conclusion(c: str) -> str:
    return f"{c}.id = (SELECT max(last.id) FROM conclusion AS last WHERE last.study_id = {c}.study_id)"


def _winner(d: Dialect) -> str:
    return f"""SELECT c.id AS conclusion_id, c.concluded, c.notes, w.*
FROM conclusion AS c JOIN trial_summary AS w ON w.trial_id = c.trial_id WHERE {_last_conclusion("c")}"""


def _knob(d: Dialect) -> str:
    return f"""SELECT study.id AS study_id, study.name AS study, {d.position} AS position, {d.name} AS knob,
  CASE {d.unit} WHEN 'channels' THEN 'channels' WHEN 'block' THEN 'depth' WHEN 'skip' THEN 'depth'
    WHEN 'of break-even' THEN 'rank' WHEN 'weights' THEN 'sparsity' WHEN 'bits' THEN 'code' END AS operator,
  CASE WHEN {d.unit} IN ('block', 'skip', 'of break-even', 'bits') THEN {d.site} ELSE {d.name} END AS site,
  coalesce({d.kind}, CASE {d.unit} WHEN 'block' THEN 'gate' WHEN 'skip' THEN 'free' ELSE 'amount' END) AS kind,
  {d.unit} AS unit, CASE {d.unit} WHEN 'skip' THEN {d.lowest} ELSE {d.highest} END AS original,
  coalesce(nullif({d.size}, 0), {d.highest}) AS size
FROM study CROSS JOIN {d.knobs}"""


def _decision(d: Dialect) -> str:
    kept = f"CAST({d.level} AS {d.real}) / k.size"
    return f"""{d.knobs_once}SELECT {_place("k.study")}, k.operator, k.site, k.knob, k.position, k.kind, k.unit,
  {d.level} AS level, k.original, k.size, CASE k.kind WHEN 'free' THEN 1 - {kept} ELSE {kept} END AS keep
FROM trial AS t CROSS JOIN {d.levels} CROSS JOIN {d.known} AS k WHERE k.study_id = t.study_id AND k.knob = d.key"""


def _pareto(d: Dialect) -> str:
    costs = ", ".join(map(_quoted, meant.COSTS))
    return f"""WITH scored AS (SELECT {_place("s.name")}, m.phase, s.objective, m.value, cost.metric AS cost,
    cost.value AS taken, cost.unit, m.value * {_SIGN} AS utility
  FROM study AS s JOIN trial AS t ON t.study_id = s.id
  JOIN measurement AS m ON m.trial_id = t.id AND m.metric = s.objective AND m.phase IN ('search', 'final')
  JOIN measurement AS cost ON cost.trial_id = t.id AND (cost.phase = m.phase AND cost.metric IN ({costs})
    OR cost.phase = 'latency' AND m.phase = 'final' AND cost.metric = 'latency_ms')
  WHERE t.state = 'done' AND t.agent <> '{BASE}' AND {_last("m")} AND {_last("cost")}),
ranked AS (SELECT scored.*, max(utility) OVER (PARTITION BY study_id, phase, cost ORDER BY taken, utility DESC, trial_id
    ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS cheaper FROM scored)
SELECT study_id, study, phase, cost, taken, unit, objective, value, trial_id, agent, seed, number
FROM ranked WHERE cheaper IS NULL OR utility > cheaper"""


def _best_so_far(d: Dialect) -> str:
    return f"""WITH told AS (SELECT {_place("s.name")}, t.finish_order, t.finished, t.wall_s, t.state, s.objective,
    {_SIGN} AS sign, CASE t.state WHEN 'done' THEN {_number("search", "s.objective")} END AS value
  FROM trial AS t JOIN study AS s ON s.id = t.study_id WHERE t.finish_order IS NOT NULL)
SELECT study_id, study, trial_id, agent, seed, number, finish_order, finished, wall_s, state, objective, value,
  max(value * sign) OVER (PARTITION BY study_id, agent, seed ORDER BY finish_order) * sign AS best
FROM told"""


def _failure(d: Dialect) -> str:
    return f"""SELECT {_place("s.name")}, t.state AS outcome, t.attempts AS attempt, t.reason, t.finished AS ended
FROM trial AS t JOIN study AS s ON s.id = t.study_id WHERE t.state IN ('failed', 'infeasible', 'stopped')
UNION ALL
SELECT {_place("s.name")}, 'attempt', a.number, a.reason, a.ended
FROM attempt AS a JOIN trial AS t ON t.id = a.trial_id JOIN study AS s ON s.id = t.study_id"""


def _latency(d: Dialect) -> str:
    ratio, its_spread = (_number("latency", "'latency_ratio'", column) for column in ("value", "spread"))
    return f"""SELECT {_place("s.name")}, m.phase, m.device, m.n,
  CASE m.metric WHEN 'latency_ms' THEN m.value END AS latency_ms,
  CASE m.metric WHEN 'latency_ms' THEN m.spread END AS latency_ms_spread,
  CASE WHEN m.metric = 'latency_ratio' THEN m.value WHEN m.phase = 'latency' THEN {ratio} END AS latency_ratio,
  CASE WHEN m.metric = 'latency_ratio' THEN m.spread WHEN m.phase = 'latency' THEN {its_spread} END
    AS latency_ratio_spread,
  coalesce({_number("final", "'predicted_latency_ms'")}, {_number("search", "'predicted_latency_ms'")})
    AS predicted_latency_ms
FROM measurement AS m JOIN trial AS t ON t.id = m.trial_id JOIN study AS s ON s.id = t.study_id
WHERE (m.phase = 'latency' AND m.metric = 'latency_ms'
  OR m.phase = 'certificate' AND m.metric IN ('latency_ms', 'latency_ratio')) AND {_last("m")}"""


VIEWS: dict[str, Callable[[Dialect], str]] = {
    "measured": _measured,
    "trial_summary": _trial_summary,
    "winner": _winner,
    "knob": _knob,
    "decision": _decision,
    "pareto": _pareto,
    "best_so_far": _best_so_far,
    "failure": _failure,
    "latency": _latency,
}
"""Name -> what it selects, in the order in which one may stand on another."""


def make_views(connection: sa.Connection) -> None:
    """Make every view, where there is none."""
    dialect = DIALECTS[connection.dialect.name]
    for name, select in VIEWS.items():
        connection.exec_driver_sql(f"CREATE VIEW {name} AS {select(dialect)}")


def comment(connection: sa.Connection) -> None:
    """Say in the database what each table, view and column means, where it keeps comments."""
    if connection.dialect.name != "postgresql":
        return
    for kind, meanings in (("TABLE", meant.TABLES), ("VIEW", meant.VIEWS)):
        for name, columns in meanings.items():
            for column, meaning in columns.items():
                what = f"COLUMN {name}.{column}" if column else f"{kind} {name}"
                connection.exec_driver_sql(f"COMMENT ON {what} IS {_quoted(meaning)}")


def drop_views(connection: sa.Connection) -> None:
    """Drop the views, so that the tables below them can be changed."""
    for name in reversed(VIEWS):
        connection.exec_driver_sql(f"DROP VIEW IF EXISTS {name}")

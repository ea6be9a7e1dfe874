"""The tables: study, trial, measurement (long format, so that a new metric is no migration), artifact, attempt, lease,
conclusion and rule (which trial was reported, and what it keeps to).

They are the record. Optuna's tables, in the same database, are a view of them (`optuna_projection`); no name is
in both. Names and JSON go in, never a pickle. Of what is named only what is trusted is run (`automl.study.trust`).
"""

from __future__ import annotations

from datetime import UTC, datetime

import sqlalchemy as sa

from automl.store.meanings import ITSELF, TABLES
from automl.util.file_names import LONGEST

SCHEMA_VERSION = 5
"""Written to `automl_schema` when the tables are made, and checked whenever they are opened. A change of the tables
raises it, and is a file in `automl/store/migrations/versions`."""

OPTUNA_TABLES = frozenset(
    {
        "alembic_version",
        "studies",
        "study_directions",
        "study_system_attributes",
        "study_user_attributes",
        "trial_heartbeats",
        "trial_intermediate_values",
        "trial_params",
        "trial_system_attributes",
        "trial_user_attributes",
        "trial_values",
        "trials",
        "version_info",
    }
)
"""The only tables of others beside which ours are made."""

_FINITE = "BETWEEN -1.7976931348623157e308 AND 1.7976931348623157e308"
"""True of every finite double and of nothing else, in SQLite (which stores NaN as NULL) and in PostgreSQL."""


class UTCDateTime(sa.types.TypeDecorator[datetime]):
    """An aware datetime, stored in UTC; SQLite keeps no time zone, so it is put back on reading."""

    impl = sa.DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: sa.Dialect) -> datetime | None:
        """To UTC on the way in."""
        return None if value is None else value.astimezone(UTC)

    def process_result_value(self, value: datetime | None, dialect: sa.Dialect) -> datetime | None:
        """To UTC on the way out."""
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


metadata = sa.MetaData()

# A row for each version that the database has had; the highest is the one it has.
automl_schema = sa.Table(
    "automl_schema",
    metadata,
    sa.Column("version", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("created", UTCDateTime, nullable=False),
)

# Alembic's own note of the same, under a name of our own: `alembic_version` is Optuna's.
alembic_version = sa.Table(
    "automl_alembic_version",
    metadata,
    sa.Column("version_num", sa.String(32), primary_key=True),
)

study = sa.Table(
    "study",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("name", sa.String(LONGEST), nullable=False, unique=True),
    sa.Column("config", sa.JSON, nullable=False),
    sa.Column("code_version", sa.Text, nullable=False),
    sa.Column("environment", sa.JSON, nullable=False),
    sa.Column("created", UTCDateTime, nullable=False),
    # By which the user who started it knows it (`seals`); NULL of one that comes from elsewhere.
    sa.Column("seal", sa.String(64)),
    # The metric that is improved and its direction, as the configuration has them: views join by them.
    sa.Column("objective", sa.String(200)),
    sa.Column("direction", sa.String(8)),
)

trial = sa.Table(
    "trial",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("study_id", sa.ForeignKey("study.id"), nullable=False),
    # A lane, (agent, seed), numbers its own trials from 0.
    sa.Column("agent", sa.String(100), nullable=False),
    sa.Column("seed", sa.BigInteger, nullable=False),
    sa.Column("number", sa.Integer, nullable=False),
    sa.Column("point", sa.Text, nullable=False),
    sa.Column("point_key", sa.String(16), nullable=False),
    sa.Column("state", sa.String(16), nullable=False),
    sa.Column("reason", sa.Text),
    sa.Column("started", UTCDateTime, nullable=False),
    # How often it was handed out; above 1 if an attempt ended without an outcome: see `attempt`.
    sa.Column("attempts", sa.Integer, nullable=False, default=1),
    sa.Column("finished", UTCDateTime),
    sa.Column("wall_s", sa.Double, sa.CheckConstraint(f"wall_s {_FINITE}")),
    # 1, 2, ... within the lane, in the order in which outcomes were told to the agent.
    sa.Column("finish_order", sa.Integer),
    sa.Column("repeat_of", sa.ForeignKey("trial.id")),
    # When a process last set out to copy the trial into Optuna's tables.
    sa.Column("projected", UTCDateTime),
    sa.UniqueConstraint("study_id", "agent", "seed", "number"),
    sa.UniqueConstraint("study_id", "agent", "seed", "finish_order"),
    sa.Index("trial_point", "study_id", "point_key"),
)

measurement = sa.Table(
    "measurement",
    metadata,
    sa.Column("id", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True),
    sa.Column("trial_id", sa.ForeignKey("trial.id"), nullable=False),
    sa.Column("metric", sa.String(200), nullable=False),
    sa.Column("step", sa.BigInteger, nullable=False),
    sa.Column("value", sa.Double, sa.CheckConstraint(f"value {_FINITE}"), nullable=False),
    sa.Column("unit", sa.String(100), nullable=False),
    sa.Column("n", sa.BigInteger, nullable=False),
    sa.Column("spread", sa.Double, sa.CheckConstraint(f"spread {_FINITE}")),
    sa.Column("device", sa.String(200), nullable=False),
    # When in the study it was measured (`automl.types.Phase`); agents are told those of the search.
    sa.Column("phase", sa.String(16), nullable=False, server_default="search"),
    # The last step of a metric in a phase is one look, which the columns of `trial_summary` take (`views`).
    sa.Index("measurement_of", "trial_id", "phase", "metric", "step"),
)

artifact = sa.Table(
    "artifact",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("study_id", sa.ForeignKey("study.id"), nullable=False, index=True),
    sa.Column("trial_id", sa.ForeignKey("trial.id")),
    sa.Column("kind", sa.String(100), nullable=False),
    sa.Column("path", sa.Text, nullable=False),
    sa.Column("sha256", sa.String(64), nullable=False),
    sa.Column("created", UTCDateTime, nullable=False),
)

# Each time that another trial was reported as a study's winner; the last is the one that counts.
conclusion = sa.Table(
    "conclusion",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("study_id", sa.ForeignKey("study.id"), nullable=False, index=True),
    sa.Column("trial_id", sa.ForeignKey("trial.id"), nullable=False),
    sa.Column("concluded", UTCDateTime, nullable=False),
    # What a reader of the study's figures should know, a line each.
    sa.Column("notes", sa.Text, nullable=False),
)

# What that trial's network was held against, a row a rule: each limit of the budget, and the guarantee.
rule = sa.Table(
    "rule",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("conclusion_id", sa.ForeignKey("conclusion.id"), nullable=False, index=True),
    # As the user wrote it.
    sa.Column("text", sa.Text, nullable=False),
    # What was held against it: a metric of the trial's measurements in a phase, at most or at least the bound.
    sa.Column("metric", sa.String(200), nullable=False),
    sa.Column("phase", sa.String(16), nullable=False),
    sa.Column("sense", sa.String(8), nullable=False),
    sa.Column("bound", sa.Double, sa.CheckConstraint(f"bound {_FINITE}"), nullable=False),
    sa.Column("value", sa.Double, sa.CheckConstraint(f"value {_FINITE}"), nullable=False),
)

# Attempts that ended without an outcome: the worker was lost, or the driver died.
attempt = sa.Table(
    "attempt",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("trial_id", sa.ForeignKey("trial.id"), nullable=False),
    # 1, 2, ... within the trial.
    sa.Column("number", sa.Integer, nullable=False),
    sa.Column("reason", sa.Text, nullable=False),
    # Whether the trial is to blame, so that it is set aside when this happens too often.
    sa.Column("counted", sa.Boolean, nullable=False),
    sa.Column("ended", UTCDateTime, nullable=False),
    sa.UniqueConstraint("trial_id", "number"),
)

# Who drives a study: one process at a time (`leases`).
lease = sa.Table(
    "lease",
    metadata,
    sa.Column("study_id", sa.ForeignKey("study.id"), primary_key=True, autoincrement=False),
    sa.Column("token", sa.String(32), nullable=False),
    sa.Column("host", sa.String(255), nullable=False),
    # Where `pid` means a process: a boot of a machine, and a namespace of process ids on it.
    sa.Column("machine", sa.String(100), nullable=False),
    sa.Column("pid", sa.BigInteger, nullable=False),
    # When the process was started, in a form of the machine's own; process ids are given again.
    sa.Column("born", sa.String(40), nullable=False),
    sa.Column("acquired", UTCDateTime, nullable=False),
    sa.Column("expires", UTCDateTime, nullable=False),
    # For how long its holder may be silent: a quarter of that lies between two renewals.
    sa.Column("length_s", sa.Double, nullable=False, server_default="60"),
)

for table in metadata.tables.values():  # so that a database of PostgreSQL and this description agree
    table.comment = TABLES[table.name][ITSELF]
    for column in table.c:
        column.comment = TABLES[table.name][column.name]

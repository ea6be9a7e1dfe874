"""Version 5: which trial a study reported, and the rules that its network keeps. A measurement is found by phase and
metric."""

import sqlalchemy as sa
from alembic import op

revision = "v5"
down_revision = "v4"

_FINITE = "BETWEEN -1.7976931348623157e308 AND 1.7976931348623157e308"


def upgrade() -> None:
    """Two tables more, and an index of measurements that leads further. What was reported before nobody wrote down."""
    op.create_table(
        "conclusion",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("study_id", sa.Integer, sa.ForeignKey("study.id"), nullable=False, index=True),
        sa.Column("trial_id", sa.Integer, sa.ForeignKey("trial.id"), nullable=False),
        sa.Column("concluded", sa.DateTime(timezone=True), nullable=False),
        sa.Column("notes", sa.Text, nullable=False),
    )
    op.create_table(
        "rule",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("conclusion_id", sa.Integer, sa.ForeignKey("conclusion.id"), nullable=False, index=True),
        sa.Column("text", sa.Text, nullable=False),
        sa.Column("metric", sa.String(200), nullable=False),
        sa.Column("phase", sa.String(16), nullable=False),
        sa.Column("sense", sa.String(8), nullable=False),
        sa.Column("bound", sa.Double, sa.CheckConstraint(f"bound {_FINITE}"), nullable=False),
        sa.Column("value", sa.Double, sa.CheckConstraint(f"value {_FINITE}"), nullable=False),
    )
    op.add_column("study", sa.Column("objective", sa.String(200)))
    op.add_column("study", sa.Column("direction", sa.String(8)))
    study = sa.table(
        "study", *(sa.column(name) for name in ("id", "objective", "direction")), sa.column("config", sa.JSON)
    )
    connection = op.get_bind()
    for row in connection.execute(sa.select(study.c.id, study.c.config)).all():
        goal = row.config.get("goal", {}) if isinstance(row.config, dict) else {}
        named = {"objective": goal.get("metric"), "direction": goal.get("direction")}
        connection.execute(study.update().where(study.c.id == row.id).values(named))
    op.create_index("measurement_of", "measurement", ["trial_id", "phase", "metric", "step"])
    op.drop_index("ix_measurement_trial_id", "measurement")

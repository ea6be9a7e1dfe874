"""Version 3: the phase in which a number was measured is a column, and no longer the beginning of the metric's name."""

import sqlalchemy as sa
from alembic import op

from automl.store.prefixes import phase_and_metric

revision = "v3"
down_revision = "v2"


def upgrade() -> None:
    """A column more; `test_loss` of the search becomes `loss` of the test."""
    op.add_column("measurement", sa.Column("phase", sa.String(16), nullable=False, server_default="search"))
    measurement = sa.table("measurement", sa.column("metric", sa.String), sa.column("phase", sa.String))
    connection = op.get_bind()
    for name in connection.scalars(sa.select(measurement.c.metric).distinct()).all():
        phase, metric = phase_and_metric(name)
        if phase != "search":
            named = (measurement.c.metric == name) & (measurement.c.phase == "search")
            connection.execute(measurement.update().where(named).values(metric=metric, phase=phase))

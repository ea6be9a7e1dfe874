"""Version 4: the seal by which a study is known as one that this user started. Those of before have none."""

import sqlalchemy as sa
from alembic import op

revision = "v4"
down_revision = "v3"


def upgrade() -> None:
    """A column more. Nothing is sealed here: nothing tells whose a database of before is."""
    op.add_column("study", sa.Column("seal", sa.String(64)))

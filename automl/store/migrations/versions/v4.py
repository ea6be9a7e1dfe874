"""Version 4: the seal by which a study is known as one that this user started, which those of before lack; and for how
long the holder of a lease may be silent."""

import sqlalchemy as sa
from alembic import op

revision = "v4"
down_revision = "v3"


def upgrade() -> None:
    """Two columns more. Nothing is sealed here: nothing tells whose a database of before is."""
    op.add_column("study", sa.Column("seal", sa.String(64)))
    op.add_column("lease", sa.Column("length_s", sa.Double, nullable=False, server_default="60"))

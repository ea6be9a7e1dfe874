"""Version 1: study, trial, measurement, artifact. Where Alembic begins; there is nothing before it."""

revision = "v1"
down_revision = None


def upgrade() -> None:
    """Nothing: these tables were made before there were migrations."""

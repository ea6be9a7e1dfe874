"""Versions of the tables: made new, found, or brought up to date by the migrations in `migrations/versions`."""

from __future__ import annotations

import logging
import sqlite3
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import sqlalchemy as sa

from automl.store import schema
from automl.store.errors import StoreError
from automl.store.schema import OPTUNA_TABLES, SCHEMA_VERSION
from automl.store.views import comment, drop_views, make_views
from automl.util.files import make_private

logger = logging.getLogger(__name__)
_FOLDER = Path(__file__).parent / "migrations"


def create_tables(connection: sa.Connection) -> None:
    """Make the tables and views of today where there are none."""
    schema.metadata.create_all(connection)
    make_views(connection)
    comment(connection)
    connection.execute(schema.automl_schema.insert().values(version=SCHEMA_VERSION, created=datetime.now(UTC)))
    connection.execute(schema.alembic_version.insert().values(version_num=revision(SCHEMA_VERSION)))


def recorded_version(connection: sa.Connection, name: str) -> int | None:
    """The version of the tables in the database `name`, None if they are to be made.

    `StoreError` if they are newer than this program, or others stand in their place.
    """
    tables = set(sa.inspect(connection).get_table_names())
    if "automl_schema" in tables:
        version = connection.execute(sa.select(sa.func.max(schema.automl_schema.c.version))).scalar_one()
        if version > SCHEMA_VERSION:
            raise StoreError(
                f"{name} has schema version {version}, and this automl-compress reads versions up to {SCHEMA_VERSION}. "
                f"Use the automl-compress that wrote it, or another database with --storage"
            )
        return int(version)
    foreign = sorted(tables - OPTUNA_TABLES)
    if foreign:
        names = ", ".join(foreign[:3]) + (", ..." if len(foreign) > 3 else "")
        raise StoreError(
            f"{name} belongs to another program (it has the tables {names}) and is left as it is. "
            f"Name another database with --storage"
        )
    return None


def upgrade(connection: sa.Connection, name: str, version: int) -> None:
    """Bring tables of an earlier `version` up to date, all or nothing, within the caller's transaction.

    The caller holds the lock on the schema. An SQLite file is copied first, for an earlier automl-compress to read.
    """
    # Slow to load, and needed once in the life of a database.
    from alembic import command
    from alembic.config import Config

    kept = _copy(connection, version) if connection.dialect.name == "sqlite" else None
    config = Config()
    config.set_main_option("script_location", str(_FOLDER).replace("%", "%%"))
    config.attributes["connection"] = connection
    if not sa.inspect(connection).has_table(schema.alembic_version.name):
        command.stamp(config, revision(version))  # version 1 did not have Alembic's table
    drop_views(connection)
    command.upgrade(config, "head")
    make_views(connection)
    comment(connection)
    for passed in range(version + 1, SCHEMA_VERSION + 1):
        connection.execute(schema.automl_schema.insert().values(version=passed, created=datetime.now(UTC)))
    note = f"; a copy as it was is kept in {kept}" if kept else ""
    logger.warning("%s was brought from schema version %d to %d%s", name, version, SCHEMA_VERSION, note)


def revision(version: int) -> str:
    """Alembic's name of a version."""
    return f"v{version}"


def _copy(connection: sa.Connection, version: int) -> Path:
    """A copy of an SQLite file, beside it, as it is before the transaction under way has changed anything."""
    file = connection.exec_driver_sql("PRAGMA database_list").all()[0].file
    copy = Path(f"{file}.v{version}")
    try:
        copy.unlink(missing_ok=True)  # one that was not finished
        make_private(copy)
        with (
            closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True)) as source,
            closing(sqlite3.connect(copy)) as out,
        ):
            source.backup(out)
    except (OSError, sqlite3.Error) as error:
        raise StoreError(
            f"{file} has to be brought up to date, and cannot be copied to {copy} first: {error}. Free some space, or "
            f"make its folder writable"
        ) from error
    return copy

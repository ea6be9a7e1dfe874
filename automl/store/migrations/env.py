"""Run by Alembic: migrates on the connection that it is given, within the transaction that is open there."""

from alembic import context

from automl.store.schema import alembic_version

context.configure(connection=context.config.attributes["connection"], version_table=alembic_version.name)
context.run_migrations()

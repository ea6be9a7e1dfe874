"""How the tables came to be what they are: Alembic runs `env`, which runs the files in `versions` in their order."""

"""What a database driver reports, in words that name a remedy."""

from __future__ import annotations

import sqlite3

from sqlalchemy import exc

_SQLITE_ERRORS = {
    "SQLITE_BUSY": "is locked by another process. Wait for it or stop it, then run the command again",
    "SQLITE_LOCKED": "is locked by another process. Wait for it or stop it, then run the command again",
    "SQLITE_FULL": "cannot grow: the disk is full. Free some space, then go on with `automl resume`",
    "SQLITE_READONLY": "is read-only. Make the file and its folder writable, or name another one with --storage",
    "SQLITE_NOTADB": "is not an SQLite database, and is left as it is. Name another file with --storage",
    "SQLITE_CORRUPT": "is damaged. Save what can be saved with `sqlite3 FILE .recover`, or start another one",
    "SQLITE_CANTOPEN": "cannot be opened. Make the file and its folder readable and writable, or name another one "
    "with --storage",
    "SQLITE_IOERR": "cannot be read or written: the disk reports an error. Check it and its free space, then go on "
    "with `automl resume`",
}
_POSTGRES_ERRORS = {
    "55P03": "is locked by another process. Wait for it or stop it, then run the command again",
    "53100": "cannot grow: the disk of the server is full. Free some space, then go on with `automl resume`",
    "25006": "is read-only. Name a primary server or a writable database with --storage",
    "42501": "does not allow this user to write. Grant the rights, or name another one with --storage",
    "3D000": "does not exist on the server. Create it with `createdb`, or correct --storage",
    "28P01": "refuses the password. Correct it in PGPASSWORD, in ~/.pgpass or in --storage",
    "28000": "refuses this user. Correct the user in --storage, or the server's pg_hba.conf",
    "08006": "cannot be reached. Start the server, or correct --storage",
}
# Of a connection that is refused the driver tells no state, only the server's text.
_POSTGRES_REFUSALS = {
    'FATAL:  database "': "3D000",
    'FATAL:  role "': "28000",
    "no pg_hba.conf entry": "28000",
    "password": "28P01",
}
_LOST = ("08", "57P01", "57P02", "57P03", "25P03")
"""Connections; shut down by an administrator, by a crash; not started yet; a transaction that was idle for too long."""


def explain(error: exc.DBAPIError, name: str) -> str:
    """`error` of the database `name` in one sentence, with the remedy where one is known."""
    cause = error.orig
    detail = str(cause).strip().partition("\n")[0]
    if isinstance(cause, sqlite3.Error):
        code = getattr(cause, "sqlite_errorname", "")  # an extended code, e.g. SQLITE_READONLY_DBMOVED
        known = next((text for key, text in _SQLITE_ERRORS.items() if code == key or code.startswith(f"{key}_")), None)
    else:
        known = _POSTGRES_ERRORS.get("08006" if is_lost(error) else _state(error))
    return f"the database {name} {known} ({detail})" if known else f"the database {name} reports: {detail}"


def is_lost(error: exc.DBAPIError) -> bool:
    """Whether the server is gone or only starting, so that the same may work later. SQLite has none to lose."""
    if isinstance(error.orig, sqlite3.Error):
        return False
    state = _state(error)
    return error.connection_invalidated or state.startswith(_LOST) or "the database system is" in str(error.orig)


def _state(error: exc.DBAPIError) -> str:
    """PostgreSQL's code of what happened, "" if there is none."""
    state = getattr(error.orig, "sqlstate", None)
    if state is None and isinstance(error, exc.OperationalError):
        state = next((state for text, state in _POSTGRES_REFUSALS.items() if text in str(error.orig)), "08006")
    return state or ""

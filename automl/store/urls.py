"""URLs of databases: how they are read, and how they are shown."""

from __future__ import annotations

import re
from pathlib import Path

import sqlalchemy as sa
from sqlalchemy import exc

from automl.store.errors import StoreError

EXPECTED = "Expected sqlite:///study.db, postgresql+psycopg://USER@HOST/DATABASE or a path"
_SECRET = re.compile(r"pass|pwd|secret|token", re.IGNORECASE)
"""What is in the keys whose values are not shown: `password`, `sslpassword`, and what they are taken for."""
_SERVER = re.compile(r"\s*postgres\w*(\+\w+)?:|.*\bpassword\s*=", re.IGNORECASE | re.DOTALL)
"""The beginning of what was meant as the address of a server and is not written as a URL."""


def parse_url(url: str | Path) -> sa.URL:
    """The URL of a database; a plain path is that of an SQLite file, made absolute.

    `StoreError`, which shows nothing of a text that cannot be read: anything in it may be a password.
    """
    text = str(url)
    if "://" not in text:
        if isinstance(url, str) and _SERVER.match(text):
            raise StoreError(
                f"the database is neither URL nor path (it is not shown, as it may hold a password). {EXPECTED}"
            )
        parsed = sa.URL.create("sqlite", database=text)
    else:
        try:
            parsed = sa.make_url(text)
        except (exc.ArgumentError, ValueError):
            raise StoreError(
                f"the URL of the database cannot be read (it is not shown, as it may hold a password). {EXPECTED}"
            ) from None
    backend = parsed.drivername.partition("+")[0]
    if backend in ("postgres", "postgresql"):
        return parsed.set(drivername="postgresql+psycopg")
    if backend != "sqlite":
        raise StoreError(f"databases are SQLite or PostgreSQL, got {backend!r}. Try --storage sqlite:///study.db")
    path = parsed.database
    if parsed.host or parsed.username or parsed.password:
        raise StoreError(f"an SQLite file has no server: the path follows three slashes. {EXPECTED}")
    if not path or path == ":memory:":
        raise StoreError("a database in memory is lost with the process. Name a file, e.g. sqlite:///study.db")
    if path.startswith("file:"):
        return parsed
    return parsed.set(database=str(Path(path).expanduser().absolute()))


def shown(url: sa.URL) -> str:
    """The URL as it may be shown to anybody: without a password, wherever one stands."""
    hidden = {key: "hidden" for key in url.query if _SECRET.search(key)}
    return url.update_query_dict(hidden).render_as_string(hide_password=True)

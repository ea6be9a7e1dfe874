"""`automl dashboard`: Optuna Dashboard on the same database, where each study explains itself."""

from __future__ import annotations

import argparse

from automl.commands.options import add_storage


def arguments(parser: argparse.ArgumentParser) -> None:
    """The database, and the address at which it is served."""
    add_storage(parser)
    parser.add_argument("--host", default="127.0.0.1", help="default: %(default)s")
    parser.add_argument("--port", type=int, default=8080, help="default: %(default)s")
    parser.add_argument("--writable", action="store_true", help="let notes be written, and Optuna's studies be removed")


def run(args: argparse.Namespace) -> int:
    """Serve until Ctrl-C."""
    from automl.dashboard import serve_dashboard

    serve_dashboard(
        args.storage,
        args.host,
        args.port,
        writable=args.writable,
        ready=lambda url: print(f"dashboard at {url} (Ctrl-C ends it)", flush=True),
    )
    return 0

"""`automl dashboard`: Optuna Dashboard on the same database."""

from __future__ import annotations

import argparse

from automl.store import serve_dashboard


def run(args: argparse.Namespace) -> int:
    """Serve until Ctrl-C."""
    serve_dashboard(
        args.storage, args.host, args.port, ready=lambda url: print(f"dashboard at {url} (Ctrl-C ends it)", flush=True)
    )
    return 0

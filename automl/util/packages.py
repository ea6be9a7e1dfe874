"""Checks that `agents` and `search_spaces` are this distribution's packages, before anything imports them."""

from __future__ import annotations

import sys
from importlib.util import find_spec
from pathlib import Path

DISTRIBUTION = "automl-compress"


def check_packages() -> None:
    """Raise an `ImportError` with path and remedy if another distribution's package has taken one of our names.

    `agents` is also the import name of a popular distribution. The foreign package is not executed: its
    source is only read for our marker.
    """
    for name in ("search_spaces", "agents"):
        if name in sys.modules:
            found = getattr(sys.modules[name], "__file__", None)
            ours = getattr(sys.modules[name], "DISTRIBUTION", None) == DISTRIBUTION
        else:
            spec = find_spec(name)
            if spec is None:
                raise ImportError(
                    f"the package `{name}` of {DISTRIBUTION} is missing beside {Path(__file__).parents[1]}. "
                    f"Install {DISTRIBUTION} again"
                )
            found = spec.origin
            ours = found is not None and f'DISTRIBUTION = "{DISTRIBUTION}"' in Path(found).read_text("utf-8")
        if not ours:
            home = Path(__file__).resolve().parents[2]
            raise ImportError(
                f"`import {name}` finds {found or 'a folder without __init__.py'}, not the package of {DISTRIBUTION} "
                f"in {home}. Uninstall the distribution that brings it, use a virtual environment without it, "
                f"or put {home} first on PYTHONPATH"
            )

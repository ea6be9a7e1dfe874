"""`automl studies`: what the database holds."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import Any

from automl.commands.options import add_storage


def arguments(parser: argparse.ArgumentParser) -> None:
    """The database."""
    add_storage(parser)


def run(args: argparse.Namespace) -> int:
    """List the studies, the oldest first."""
    from automl.store import is_ours, open_store
    from automl.util.columns import align

    with open_store(args.storage, create=False) as store:
        lines = [["study", "model", "data", "budget", "agent", "trials", "origin", "started"]]
        for study in store.studies():
            lines.append(
                [
                    study.name,
                    _told(study.config, "model", "name"),
                    _told(study.config, "data", "name"),
                    _told(study.config, "budget"),
                    _told(study.config, "agent", "name"),
                    str(sum(store.count_finished(study.id).values())),
                    "here" if is_ours(study) else "elsewhere",
                    f"{study.created:%Y-%m-%d %H:%M} UTC",
                ]
            )
        print(align(lines) if len(lines) > 1 else f"no studies in {store.name} yet")
    return 0


def _told(config: Mapping[str, Any], *keys: str) -> str:
    """What a record says at these keys, "-" where it says nothing: it may be anybody's."""
    found: Any = config
    for key in keys:
        found = found.get(key) if isinstance(found, Mapping) else None
    texts = found if isinstance(found, list) else [found]
    return ", ".join(str(text) for text in texts if text is not None) or "-"

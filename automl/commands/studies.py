"""`automl studies`: what the database holds."""

from __future__ import annotations

import argparse

from automl.commands.options import add_storage


def arguments(parser: argparse.ArgumentParser) -> None:
    """The database."""
    add_storage(parser)


def run(args: argparse.Namespace) -> int:
    """List the studies, the oldest first."""
    from automl.store import open_store
    from automl.util.columns import align

    with open_store(args.storage, create=False) as store:
        lines = [["study", "model", "data", "budget", "agent", "trials", "started"]]
        for study in store.studies():
            config = study.config
            lines.append(
                [
                    study.name,
                    config["model"]["name"],
                    config["data"]["name"],
                    ", ".join(config["budget"]) or "-",
                    config["agent"]["name"],
                    str(sum(store.count_finished(study.id).values())),
                    f"{study.created:%Y-%m-%d %H:%M} UTC",
                ]
            )
    print(align(lines) if len(lines) > 1 else f"no studies in {args.storage} yet")
    return 0

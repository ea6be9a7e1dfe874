"""`automl search FILE`: run a study, or go on with it."""

from __future__ import annotations

import argparse
import shlex
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from automl.commands.interrupt import ends_on_ctrl_c
from automl.commands.options import DEFAULT_STORAGE, add_running, add_storage

if TYPE_CHECKING:
    from collections.abc import Callable

    from automl.config.study import StudyConfig
    from automl.lanes.progress import Form
    from automl.store import Store
    from automl.study.conclude import Results
    from automl.study.study import Study
    from automl.types import Say

    Begin = Callable[[Store, StudyConfig, Say], Study]
    After = Callable[[Study, Results], None]


def arguments(parser: argparse.ArgumentParser) -> None:
    """The study file, and how it runs."""
    add_storage(parser)
    parser.add_argument("file", metavar="FILE", help="study file (YAML)")
    add_running(parser)
    parser.add_argument("--seed", type=int, metavar="S", help="run this one seed")


def run(args: argparse.Namespace) -> int:
    """Run the study of a file and show its results."""
    from automl.config.study import StudyConfig
    from automl.store import open_store

    config = overridden(StudyConfig.from_file(args.file), args)
    if args.seed is not None:
        config = replace(config, seeds=(args.seed,))
    with open_store(args.storage) as store:
        return run_study(store, config, args.storage, args.progress)


def overridden(config: StudyConfig, args: argparse.Namespace) -> StudyConfig:
    """The configuration with the command line's choices in place of the file's."""
    given = {key: getattr(args, key, None) for key in ("workers", "address", "trials")}  # not every command has all
    runner: dict[str, Any] = {key: given[key] for key in ("workers", "address") if given[key] is not None}
    config = replace(config, runner=replace(config.runner, **runner), trials=given["trials"] or config.trials)
    if args.data_root is not None:
        config = replace(config, data=replace(config.data, root=str(Path(args.data_root).resolve())))
    folder = getattr(args, "artifacts", None)  # `inspect` keeps none
    return config if folder is None else replace(config, artifacts=str(Path(folder).resolve()))


def run_study(
    store: Store,
    config: StudyConfig,
    storage: str,
    form: Form = "auto",
    *,
    begin: Begin | None = None,
    after: After | None = None,
) -> int:
    """Run what is left of a study, then tell what it found. 130 if it was interrupted.

    `begin`: gives the study, if that is not just the one of `config`; `after`: is called with it and its results.
    """
    from automl.lanes.progress import Progress
    from automl.report.curves import draw_curves
    from automl.report.kept import draw
    from automl.report.table import summary, table
    from automl.study.conclude import conclude
    from automl.study.selection import Recorded
    from automl.study.study import Study
    from automl.util.columns import terminal_width

    farewell = (
        f"interrupted; every finished trial is recorded in {store.name}\n"
        f"resume with: {resume_command(store, config.name, storage)}"
    )
    with Progress(config.goal, form=form) as progress, ends_on_ctrl_c(farewell, tell=form != "json"):
        try:
            study = begin(store, config, progress.say) if begin else Study(store, config, say=progress.say)
            progress.goal = study.config.goal  # a design learns from the data what is sought
            with study.drive():
                study.run(progress)
                results = conclude(study, progress.say)
        except KeyboardInterrupt:
            progress.say(farewell)
            return 130
    found = Recorded.read(store, study.record)
    print(table(found, terminal_width()))
    print(summary(found))
    print(f"kept layer by layer: {draw(study, results)}")
    print(f"the course of the search: {draw_curves(store, study.record)}")
    if after is not None:
        after(study, results)
        return 0
    print(f"export the winner with: automl export {config.name} --out DIR{_option(store, storage)}")
    return 0


def resume_command(store: Store, name: str, storage: str) -> str:
    """What goes on with the study, from the same folder."""
    return f"automl resume {name}{_option(store, storage)}"


def _option(store: Store, storage: str) -> str:
    """`--storage` as it was given, a server's password apart."""
    if storage == DEFAULT_STORAGE:
        return ""
    return f" --storage {shlex.quote(storage if store.database.is_sqlite else store.name)}"

"""The command line, `automl COMMAND`: what it accepts, and how errors and Ctrl-C end."""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from collections.abc import Sequence
from typing import Any

DEFAULT_STORAGE = "sqlite:///automl.db"
TRIAL_FORMATS = ("table", "csv", "json", "parquet")
PROGRESS_FORMS = ("auto", "lines", "json")
EXPORT_FORMATS = "safetensors,pt2,onnx"


def parser() -> argparse.ArgumentParser:
    """Every command and option. Nothing heavy is imported, so that `--help` is quick."""
    top = argparse.ArgumentParser(
        prog="automl", description="Search how to compress a trained PyTorch network to a budget."
    )
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def command(
        name: str, module: str, help: str, *, storage: bool = True, of: Any = commands, function: str = "run"
    ) -> argparse.ArgumentParser:
        added: argparse.ArgumentParser = of.add_parser(name, help=help, description=help[0].upper() + help[1:] + ".")
        added.set_defaults(module=module, function=function)
        if storage:
            added.add_argument(
                "--storage",
                metavar="URL",
                default=os.environ.get("AUTOML_STORAGE", DEFAULT_STORAGE),
                help="database (default: $AUTOML_STORAGE or %(default)s)",
            )
        return added

    def overrides(added: argparse.ArgumentParser) -> None:
        added.add_argument("--workers", type=_positive, metavar="N", help="processes; above 1 a Ray Tune sweep")
        added.add_argument("--trials", type=_positive, metavar="N", help="trials of each agent and seed")
        added.add_argument("--data-root", metavar="DIR", help="folder with the data set's published files")

    def artifacts(added: argparse.ArgumentParser) -> None:
        added.add_argument(
            "--artifacts", metavar="DIR", help="folder for trained weights (default: beside the database)"
        )

    def runs(added: argparse.ArgumentParser) -> None:
        overrides(added)
        artifacts(added)
        added.add_argument("--address", metavar="ADDRESS", help="a Ray cluster that is there, `auto` or HOST:PORT")
        added.add_argument(
            "--progress",
            choices=PROGRESS_FORMS,
            default="auto",
            help="on standard error: a table on a terminal and lines elsewhere (auto), lines, JSON lines",
        )

    search = command("search", "search", "run a study, or go on with it, and show what it found")
    search.add_argument("file", metavar="FILE", help="study file (YAML)")
    runs(search)
    search.add_argument("--seed", type=int, metavar="S", help="run this one seed")

    resume = command("resume", "resume", "go on with a recorded study; its file is not needed")
    resume.add_argument("name", metavar="NAME", help="name of the study")
    runs(resume)

    inspect = command(
        "inspect",
        "inspect_file",
        "show what a study can change and reach, and how long it takes",
        storage=False,
    )
    inspect.add_argument("file", metavar="FILE", help="study file (YAML)")
    overrides(inspect)

    keys = command("keys", "keys", "list what a study file may hold, each key with default and meaning", storage=False)
    keys.add_argument("what", metavar="WHAT", nargs="?", help="a section or an agent (default: the whole file)")

    trials = command("trials", "trials", "show or write the trials of a study")
    trials.add_argument("name", metavar="NAME", help="name of the study")
    trials.add_argument("--format", choices=TRIAL_FORMATS, default="table", help="default: %(default)s")
    trials.add_argument("--out", metavar="FILE", help="write there instead of to standard output")

    curves = command("curves", "curves", "draw what the search of a study did")
    curves.add_argument("name", metavar="NAME", help="name of the study")
    curves.add_argument("--out", metavar="FILE", help="picture to write (default: beside the database)")

    command("studies", "studies", "list the studies in the database")

    export = command("export", "export", "write the winner as files that deploy")
    export.add_argument("name", metavar="NAME", help="name of the study")
    export.add_argument("--out", metavar="DIR", required=True, help="folder for the files")
    export.add_argument(
        "--format", default=EXPORT_FORMATS, metavar="LIST", help="comma-separated formats (default: %(default)s)"
    )
    export.add_argument("--trial", metavar="AGENT/SEED/NUMBER", help="a trial to export instead of the winner")
    export.add_argument("--data-root", metavar="DIR", help="folder with the data set's published files")
    artifacts(export)

    dashboard = command("dashboard", "dashboard", "serve Optuna Dashboard on the database")
    dashboard.add_argument("--host", default="127.0.0.1", help="default: %(default)s")
    dashboard.add_argument("--port", type=int, default=8080, help="default: %(default)s")

    database = commands.add_parser("db", help="move studies between databases, back up", description="The database.")
    of = database.add_subparsers(dest="action", required=True, metavar="ACTION")
    written = command("export", "db", "write studies to a file that any database takes in", of=of, function="export")
    written.add_argument("file", metavar="FILE", help="file to write, such as studies.jsonl.gz")
    written.add_argument("--study", metavar="NAME", action="append", default=[], help="a study (default: all)")
    read = command("import", "db", "record the studies of a file that `db export` wrote", of=of, function="import_")
    read.add_argument("file", metavar="FILE", help="file to read")
    read.add_argument("--rename", metavar="OLD=NEW", action="append", default=[], help="another name for a study")
    backup = command("backup", "db", "copy an SQLite database, also while it is in use", of=of, function="backup")
    backup.add_argument("file", metavar="FILE", help="file to write")
    return top


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command. Returns 0, 1 for an error of the user's or the machine's, or 130 after Ctrl-C."""
    args = parser().parse_args(argv)
    try:
        run = getattr(importlib.import_module(f"automl.commands.{args.module}"), args.function)
        return run(args)
    except KeyboardInterrupt:
        print("\ninterrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader of our output, such as `head`, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:
        if not _explained(error):
            raise
        print(f"automl: {error}", file=sys.stderr)
        return 1


def _explained(error: Exception) -> bool:
    """Whether the message says it all, so that a traceback would only hide it."""
    from agents import AgentError
    from automl.errors import AutomlError
    from search_spaces import InfeasibleBudgetError, SpaceError, TraceError

    return isinstance(error, AutomlError | AgentError | SpaceError | TraceError | InfeasibleBudgetError)


def _positive(text: str) -> int:
    try:
        number = int(text)
    except ValueError:
        number = 0
    if number < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number of at least 1, got {text!r}")
    return number


if __name__ == "__main__":
    sys.exit(main())

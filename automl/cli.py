"""The command line, `automl COMMAND`: which commands there are, and how errors and Ctrl-C end."""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from collections.abc import Sequence
from types import ModuleType
from typing import Any, NamedTuple

from automl.util.no_exit import no_exit


class Command(NamedTuple):
    """A command: a module of `automl.commands` with `arguments(parser)`, which is quick, and `run(args)`."""

    name: str
    module: str
    help: str

    def load(self) -> ModuleType:
        """The module; what is heavy it imports when it runs."""
        return importlib.import_module(f"automl.commands.{self.module}")


COMMANDS = (
    Command("search", "search", "run a study, or go on with it, and show what it found"),
    Command("design", "design", "make a network for images, within a budget and a time"),
    Command("encode", "encode", "store a picture, a sound or an array as a small network"),
    Command("learn-start", "learn_start", "learn from a folder of signals what encode begins with"),
    Command("decode", "decode", "write the signal that such a file holds, at any resolution"),
    Command("slim", "slim", "train a network to run at several widths with one set of weights"),
    Command("exits", "exits", "train a network at which easy samples leave early"),
    Command("resume", "resume", "go on with a recorded study; its file is not needed"),
    Command("finish", "finish_again", "finish the best trials of a study in another way; nothing is searched anew"),
    Command("inspect", "inspect_file", "show what a study can change and reach, and how long it takes"),
    Command("keys", "keys", "list what a study file may hold, each key with default and meaning"),
    Command("show", "show", "show again what a study found, or one of its trials"),
    Command("compare", "compare", "show what several studies found side by side"),
    Command("trials", "trials", "show or write the trials of a study"),
    Command("rerun", "rerun_trial", "evaluate a recorded trial again and say whether the same came of it"),
    Command("curves", "curves", "draw what the search of a study did"),
    Command("report", "report", "write a study as a page: the answer, charts, and where they come from"),
    Command("studies", "studies", "list the studies in the database"),
    Command("export", "export", "write the winner as files that deploy"),
    Command("measure", "measure", "measure exported files on this machine, or record what another measured"),
    Command("certify", "certify", "measure exported files again, and hold them against their limit on latency"),
    Command("dashboard", "dashboard", "serve Optuna Dashboard on the database"),
    Command("db", "db", "move studies between databases, remove them, back up"),
)


def parser(chosen: str | None = None) -> argparse.ArgumentParser:
    """Every command with its help; the arguments of the `chosen` one alone, so that only its module is loaded."""
    top = argparse.ArgumentParser(
        prog="automl", description="Search how to compress a trained PyTorch network to a budget."
    )
    top.add_argument("--version", action=_Version, nargs=0, help="show the version and exit")
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for command in COMMANDS:
        about = f"{command.help[0].upper()}{command.help[1:]}."
        added = commands.add_parser(command.name, help=command.help, description=about)
        if command.name == chosen:
            command.load().arguments(added)
    return top


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command. Returns 0, 1 for an error of the user's or the machine's, or 130 after Ctrl-C."""
    words = _joined(sys.argv[1:] if argv is None else argv)
    chosen = next((word for word in words if not word.startswith("-")), None)
    args = parser(chosen).parse_args(words)
    (command,) = (command for command in COMMANDS if command.name == args.command)
    try:
        with no_exit():
            return int(command.load().run(args))
    except KeyboardInterrupt:
        print("\ninterrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader of our output, such as `head`, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:
        if not _explained(error):
            raise
        from automl.util.columns import printable

        print("automl:", printable(str(error), keep="\n\t"), file=sys.stderr)
        return 1


def _joined(words: Sequence[str]) -> list[str]:
    """The words with `--sort` and what follows as one: argparse would take `-accuracy` for an option."""
    joined: list[str] = []
    for word in words:
        if joined and joined[-1] == "--sort":
            joined[-1] = f"--sort={word}"
        else:
            joined.append(word)
    return joined


def _explained(error: Exception) -> bool:
    """Whether the message says it all, so that a traceback would only hide it."""
    from agents import AgentError
    from automl.errors import AutomlError
    from search_spaces import InfeasibleBudgetError, SpaceError, TraceError

    return isinstance(error, AutomlError | AgentError | SpaceError | TraceError | InfeasibleBudgetError)


class _Version(argparse.Action):
    """Prints the version of the installed distribution, which is looked up only if it is asked for."""

    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> None:
        from importlib.metadata import version

        print(f"automl {version('automl-compress')}")
        parser.exit()


if __name__ == "__main__":
    sys.exit(main())

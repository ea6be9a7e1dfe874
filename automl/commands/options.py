"""Options that several commands have."""

from __future__ import annotations

import argparse
import os

DEFAULT_STORAGE = "sqlite:///automl.db"


def add_storage(parser: argparse.ArgumentParser) -> None:
    """The database."""
    parser.add_argument(
        "--storage",
        metavar="URL",
        default=os.environ.get("AUTOML_STORAGE", DEFAULT_STORAGE),
        # Without `%(default)s`: the URL of the environment may hold a password.
        help=f"database (default: $AUTOML_STORAGE or {DEFAULT_STORAGE}); its password in PGPASSWORD or ~/.pgpass",
    )


def add_overrides(parser: argparse.ArgumentParser) -> None:
    """What stands in place of keys of the study file."""
    parser.add_argument("--workers", type=positive, metavar="N", help="processes; above 1 a Ray Tune sweep")
    parser.add_argument("--trials", type=positive, metavar="N", help="trials of each agent and seed")
    add_data_root(parser)


def add_data_root(parser: argparse.ArgumentParser) -> None:
    """Where the data lie."""
    parser.add_argument("--data-root", metavar="DIR", help="folder with the data set's published files")


def add_code(parser: argparse.ArgumentParser) -> None:
    """What may be run of a study that comes from elsewhere."""
    parser.add_argument(
        "--code",
        metavar="NAME",
        action="append",
        default=[],
        help="what a study from elsewhere may run: a module:function, or a hub's model, that it names; one an option",
    )
    parser.add_argument("--code-root", metavar="DIR", help="folder of the modules (default: that of one's own study)")


def add_artifacts(parser: argparse.ArgumentParser) -> None:
    """Where trained weights lie."""
    parser.add_argument("--artifacts", metavar="DIR", help="folder for trained weights (default: beside the database)")


def add_running(parser: argparse.ArgumentParser) -> None:
    """How a study runs, and how it tells of itself."""
    add_overrides(parser)
    add_artifacts(parser)
    parser.add_argument("--address", metavar="ADDRESS", help="a Ray cluster that is there, `auto` or HOST:PORT")
    add_progress(parser)


def add_progress(parser: argparse.ArgumentParser) -> None:
    """How a study tells of itself."""
    parser.add_argument(
        "--progress",
        choices=("auto", "lines", "json"),
        default="auto",
        help="on standard error: a table on a terminal and lines elsewhere (auto), lines, JSON lines",
    )


def positive(text: str) -> int:
    """A whole number of at least 1. Errors: `argparse.ArgumentTypeError`."""
    try:
        number = int(text)
    except ValueError:
        number = 0
    if number < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number of at least 1, got {text!r}")
    return number

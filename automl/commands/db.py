"""`automl db export|import|backup FILE` and `automl db remove NAME`: studies from one database to another, a copy of an
SQLite file in use, and a study no longer wanted."""

from __future__ import annotations

import argparse

from automl.commands.options import add_storage
from automl.errors import ConfigError


def arguments(parser: argparse.ArgumentParser) -> None:
    """The actions, each with its own."""
    parser.description = "The database."
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")

    def action(name: str, help: str) -> argparse.ArgumentParser:
        added = actions.add_parser(name, help=help, description=f"{help[0].upper()}{help[1:]}.")
        add_storage(added)
        return added

    written = action("export", "write studies to a file that any database takes in")
    written.add_argument("file", metavar="FILE", help="file to write, such as studies.jsonl.gz")
    written.add_argument("--study", metavar="NAME", action="append", default=[], help="a study (default: all)")
    read = action("import", "record the studies of a file that `db export` wrote")
    read.add_argument("file", metavar="FILE", help="file to read")
    read.add_argument("--rename", metavar="OLD=NEW", action="append", default=[], help="another name for a study")
    read.add_argument(
        "--most-gb",
        metavar="N",
        type=float,
        default=1.0,
        help="how many gigabytes the file may come to when it is unpacked (default: %(default)g)",
    )
    removed = action("remove", "remove a study that nobody runs; its files stay")
    removed.add_argument("name", metavar="NAME", help="name of the study")
    backed_up = action("backup", "copy an SQLite database, also while it is in use")
    backed_up.add_argument("file", metavar="FILE", help="file to write")


def run(args: argparse.Namespace) -> int:
    """Do what the action says."""
    return {"export": export, "import": import_, "remove": remove, "backup": backup}[args.action](args)


def export(args: argparse.Namespace) -> int:
    """Write studies to a file."""
    from automl.store import export_studies, open_store

    with open_store(args.storage, create=False) as store:
        names = export_studies(store, args.file, args.study)
    print(f"{args.file}: {', '.join(names) or 'no studies'}")
    return 0


def import_(args: argparse.Namespace) -> int:
    """Record the studies of a file."""
    from automl.config.study import StudyConfig
    from automl.store import import_studies, open_store

    rename = {}
    for text in args.rename:
        old, equals, new = text.partition("=")
        if not equals:
            raise ConfigError(f"--rename expects OLD=NEW, got {text!r}")
        rename[old] = new
    with open_store(args.storage) as store:
        names = import_studies(store, args.file, rename, check=StudyConfig.from_record, most_gb=args.most_gb)
        print(f"{store.name}: {', '.join(names) or 'no studies'} imported")
    return 0


def remove(args: argparse.Namespace) -> int:
    """Remove a study from the database."""
    from automl.store import open_store, remove_study

    with open_store(args.storage, create=False) as store:
        remove_study(store, args.name)
        print(f"{store.name}: {args.name} removed; files that it wrote are still where they were")
    return 0


def backup(args: argparse.Namespace) -> int:
    """Copy an SQLite file."""
    from automl.store import backup_sqlite, open_store

    with open_store(args.storage, create=False) as store:
        backup_sqlite(store, args.file)
        print(f"{store.name} copied to {args.file}")
    return 0

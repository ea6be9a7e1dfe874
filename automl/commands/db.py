"""`automl db export|import|backup FILE`: studies from one database to another, and a copy of an SQLite file in use."""

from __future__ import annotations

import argparse

from automl.errors import ConfigError
from automl.store import backup_sqlite, export_studies, import_studies, open_store


def export(args: argparse.Namespace) -> int:
    """Write studies to a file."""
    with open_store(args.storage, create=False) as store:
        names = export_studies(store, args.file, args.study)
    print(f"{args.file}: {', '.join(names) or 'no studies'}")
    return 0


def import_(args: argparse.Namespace) -> int:
    """Record the studies of a file."""
    rename = {}
    for text in args.rename:
        old, equals, new = text.partition("=")
        if not equals:
            raise ConfigError(f"--rename expects OLD=NEW, got {text!r}")
        rename[old] = new
    with open_store(args.storage) as store:
        names = import_studies(store, args.file, rename)
        print(f"{store.name}: {', '.join(names) or 'no studies'} imported")
    return 0


def backup(args: argparse.Namespace) -> int:
    """Copy an SQLite file."""
    with open_store(args.storage, create=False) as store:
        backup_sqlite(store, args.file)
        print(f"{store.name} copied to {args.file}")
    return 0

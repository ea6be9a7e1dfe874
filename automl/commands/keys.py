"""`automl keys [WHAT]`: what a study file may hold, as YAML to copy from or as a schema for an editor."""

from __future__ import annotations

import argparse
import json

from automl.errors import ConfigError


def arguments(parser: argparse.ArgumentParser) -> None:
    """What is listed, and in which form."""
    parser.add_argument("what", metavar="WHAT", nargs="?", help="a section, an agent or a preset (default: the file)")
    parser.add_argument("--schema", action="store_true", help="print the JSON schema of the whole file, for editors")


def run(args: argparse.Namespace) -> int:
    """Print the keys of a study file or a section, an agent's options, a preset's limits; or the schema."""
    if not args.schema:
        from automl.config.listing import listing

        print(listing(args.what))
        return 0
    if args.what is not None:
        raise ConfigError(f"the schema is of the whole file: leave {args.what!r} out, or --schema")
    from automl.config.json_schema import study_schema

    print(json.dumps(study_schema(), indent=2, ensure_ascii=False))
    return 0

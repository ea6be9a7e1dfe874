"""`automl finish NAME`: the best trials of a search that is done, finished in another way. Nothing is searched anew."""

from __future__ import annotations

import argparse
from typing import Any

from automl.commands.options import add_artifacts, add_code, add_data_root, add_progress, add_storage, positive
from automl.commands.search import overridden, run_study
from automl.config.yaml_text import read_text
from automl.errors import ConfigError


def arguments(parser: argparse.ArgumentParser) -> None:
    """The study, what is to be different of its section `finish`, and the name of the second study."""
    add_storage(parser)
    parser.add_argument("name", metavar="NAME", help="name of the study")
    parser.add_argument("--as", dest="other", metavar="OTHER", help="name of the second study (default: NAME-finished)")
    parser.add_argument("--finalists", type=positive, metavar="N", help="how many networks are finished")
    parser.add_argument("--reconstruction", metavar="HOW", help="sequential, blockwise or as_searched")
    training = "such as '{epochs: 30, distillation: {}}', or none"
    parser.add_argument("--training", type=_yaml, metavar="YAML", help=training)
    parser.add_argument("--stages", type=_yaml, metavar="YAML", help="such as '{count: 3}', or none")
    add_code(parser)
    add_data_root(parser)
    add_artifacts(parser)
    add_progress(parser)


def run(args: argparse.Namespace) -> int:
    """Record the trials under the other name, unless that has been done, and finish the best of them."""
    from automl.store import open_store
    from automl.study.again import again

    given = {key: getattr(args, key) for key in ("finalists", "reconstruction", "training", "stages")}
    changes = {key: None if value == "none" else value for key, value in given.items() if value is not None}
    with open_store(args.storage, create=False) as store:
        config = again(store, args.name, changes, args.other or f"{args.name}-finished", args.code, args.code_root)
        return run_study(store, overridden(config, args), args.storage, args.progress)


def _yaml(text: str) -> Any:
    """A mapping, or `none`. Errors: `argparse.ArgumentTypeError`."""
    try:
        value, _ = read_text(text)
    except ConfigError:
        value = None
    if value != "none" and not isinstance(value, dict):
        raise argparse.ArgumentTypeError(f"expected a mapping such as '{{epochs: 30}}', or none, got {text!r}")
    return value

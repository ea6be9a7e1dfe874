"""`automl inspect FILE`: what a study can change, what it can reach, how long it takes. Nothing is recorded."""

from __future__ import annotations

import argparse
import sys

from automl.commands.options import add_overrides
from automl.commands.search import overridden


def arguments(parser: argparse.ArgumentParser) -> None:
    """The study file, and what stands in place of its keys."""
    parser.add_argument("file", metavar="FILE", help="study file (YAML)")
    add_overrides(parser)


def run(args: argparse.Namespace) -> int:
    """Print the groups, what is fixed, the reach of each cost, and the time an evaluation takes here."""
    from automl.config.study import StudyConfig
    from automl.report.inspection import inspection
    from automl.study.setup import Setup

    config = overridden(StudyConfig.from_file(args.file), args)
    for part in inspection(Setup(config, say=lambda text: print(text, file=sys.stderr))):
        print(part)
    return 0

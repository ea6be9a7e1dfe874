"""`automl rerun NAME TRIAL`: evaluates a recorded trial again and says whether the same came of it."""

from __future__ import annotations

import argparse
from dataclasses import replace

from automl.commands.options import add_artifacts, add_code, add_data_root, add_storage
from automl.commands.search import overridden


def arguments(parser: argparse.ArgumentParser) -> None:
    """The study, and which of its trials."""
    add_storage(parser)
    parser.add_argument("name", metavar="NAME", help="name of the study")
    parser.add_argument("trial", metavar="AGENT/SEED/NUMBER", help="a trial, or `winner`")
    add_code(parser)
    add_data_root(parser)
    add_artifacts(parser)


def run(args: argparse.Namespace) -> int:
    """Print what is on record beside what came out now. 1 if something is different by more than its error."""
    from automl.config.runner import RunnerConfig
    from automl.store import open_store
    from automl.store.lookup import trial_named
    from automl.study.rerun import rerun
    from automl.study.study import Study
    from automl.study.trust import trusted_config
    from automl.util.columns import fitted, terminal_width

    with open_store(args.storage, create=False) as store:
        config = trusted_config(store, args.name, args.code, args.code_root)
        trial = trial_named(store, store.study(args.name), args.trial)
        again = rerun(Study(store, replace(overridden(config, args), runner=RunnerConfig())), trial)
    lines = [["", "phase", "recorded", "now", "verdict"]]
    for one in again.compared:
        now = "-" if one.now is None else f"{one.now:.6g}"
        lines.append([one.metric, one.phase, f"{one.recorded:.6g}", now, one.verdict])
    print(fitted(lines, terminal_width(), left=(0, 1, 4)))
    ended = f"it ended {again.outcome.state}, on record is {trial.state}"
    why = f" ({again.outcome.reason})" if again.outcome.reason else ""
    print(f"trial {trial.agent}/{trial.seed}/{trial.number}: {ended}{why}; {again.verdict}")
    return 1 if again.verdict == "different" else 0

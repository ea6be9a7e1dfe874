"""`automl export NAME`: the winner, rebuilt as the trial evaluated it, as files that deploy."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

from agents import TrialState
from automl.commands.search import located
from automl.config.runner import RunnerConfig
from automl.config.study import StudyConfig
from automl.errors import StudyError
from automl.export import export
from automl.store import TrialRecord, open_store
from automl.study.conclude import certified_network, certified_winner, manifest
from automl.study.finishing import reported_plan
from automl.study.study import Study


def run(args: argparse.Namespace) -> int:
    """Export the winner or the trial named, and record the files as artifacts."""
    formats = [part.strip() for part in args.format.split(",") if part.strip()]
    with open_store(args.storage, create=False) as store:
        config = StudyConfig.from_record(store.study(args.name).config)
        if args.data_root is not None:
            config = replace(config, data=replace(config.data, root=str(Path(args.data_root).resolve())))
        study = Study(store, replace(located(config, args), runner=RunnerConfig()))
        if args.trial is None:
            record, network = certified_winner(study)
        else:
            record = _trial(study, args.trial)
            network = certified_network(study, record)
        inputs = study.setup.problem.example_inputs
        plan = reported_plan(study, record.point)
        artifacts = export(network, inputs, plan, Path(args.out), formats, manifest=manifest(study, record))
        for artifact in artifacts:
            store.add_artifact(study.record.id, record.id, artifact.kind, artifact.path.resolve(), artifact.sha256)
    within = f", within {config.parsed_budget.text}" if config.budget else ""
    print(f"trial {record.number} of {record.agent}, seed {record.seed}{within}:")
    for artifact in artifacts:
        print(f"  {artifact.path}  {artifact.bytes:,} bytes")
    return 0


def _trial(study: Study, text: str) -> TrialRecord:
    """The done trial that AGENT/SEED/NUMBER names."""
    for record in study.store.trials(study.record.id):
        if f"{record.agent}/{record.seed}/{record.number}" == text and record.state is TrialState.DONE:
            return record
    raise StudyError(
        f"study {study.record.name!r} has no done trial {text!r}: expected AGENT/SEED/NUMBER, such as amc/0/12. "
        f"`automl trials {study.record.name}` lists them"
    )

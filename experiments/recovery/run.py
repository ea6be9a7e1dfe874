"""What training gives back to compressed networks: `python experiments/recovery/run.py STUDY.yaml --storage DB ...`.

The winner of each seed of a finished study is trained in several ways, each for several numbers of epochs, always
along a whole schedule. Every row is appended to a JSON lines file as it ends; a run that was killed goes on in the
middle of the training it was in. Test images are looked at once a row, after its last epoch; nothing is chosen by them.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from automl.config.evaluation import EvaluationOptions
from automl.config.runner import RunnerConfig
from automl.config.study import StudyConfig
from automl.config.training import DistillationOptions, TrainingOptions
from automl.evaluation import Evaluator
from automl.store import TrialRecord, open_store
from automl.study.provenance import code_version
from automl.study.scratch import renewed
from automl.study.study import Study

DISTILLED = {
    "distil": DistillationOptions(),
    "regression": DistillationOptions(outputs="regression", weight=0.5),
    "attention": DistillationOptions(hints="attention"),
    "features": DistillationOptions(hints="features"),
}
"""Arm -> how it learns from the original. Further arms: `tune`, on the labels alone, and `scratch`, the same from new
weights (Liu et al. 2019, "Rethinking the value of network pruning", Scratch-E: as many epochs)."""

SCRATCH_RATE = 0.1
"""The highest learning rate of new weights, whatever that of the inherited ones: He et al. 2016, section 4.2."""

UNTRAINED = {
    "sliced": EvaluationOptions(reconstruction="none", recalibration="none"),
    "batch norms": EvaluationOptions(reconstruction="none"),
    "least squares": EvaluationOptions(),
}
"""Rungs of the ladder below training. Above them are sequential least squares, where every training starts, and the
same with its blocks tuned."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study", type=Path)
    parser.add_argument("--storage", required=True, help="where the study has run")
    parser.add_argument("--data-root", required=True)
    parser.add_argument("--agent", required=True, help="whose winners are trained, one a seed")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--arms", nargs="*", default=["tune", "distil", "scratch"])
    parser.add_argument("--epochs", type=int, nargs="*", default=[30])
    parser.add_argument("--rungs", action="store_true", help="the rungs of the ladder that train nothing, too")
    parser.add_argument("--options", type=json.loads, default={}, help="of the training, as JSON")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, required=True, help="JSON lines; trainings under way lie beside it")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    config = StudyConfig.from_file(args.study)
    config = replace(
        config,
        data=replace(config.data, root=str(Path(args.data_root).resolve())),
        runner=RunnerConfig(1, args.threads),
    )
    with open_store(args.storage, create=False) as store:
        study = Study(store, config)
        for seed in args.seeds:
            winner = study.best(args.agent, seed)
            if winner is None:
                raise SystemExit(
                    f"{config.name} has no finished trial of {args.agent} with seed {seed} in {args.storage}"
                )
            if args.rungs:
                climb(study, winner, args.out)
            for epochs in args.epochs:
                for arm in args.arms:
                    options = TrainingOptions(**{"epochs": epochs, "seed": seed, **args.options})
                    run(study, winner, arm, options, args.out)


def climb(study: Study, winner: TrialRecord, out: Path) -> None:
    """Each rung below training: what it is worth, and how long it takes once the study is prepared."""
    setup = study.setup
    ladder: dict[str, Callable[[], Evaluator]] = {
        name: lambda options=options: Evaluator(setup.problem, setup.space, options, threads=setup.threads)
        for name, options in UNTRAINED.items()
    }
    ladder["sequential"] = lambda: study.finisher
    ladder["blockwise"] = lambda: study.evaluator.untrained().finishing(blockwise=True)
    for name, make in ladder.items():
        row = {"arm": name, "seed": winner.seed, "epochs": 0}
        if not known(out, row):
            evaluator = make()
            evaluator.prepare()
            start = time.perf_counter()
            network = evaluator.network(winner.point)
            record(out, row, study, network, time.perf_counter() - start)


def run(study: Study, winner: TrialRecord, arm: str, options: TrainingOptions, out: Path) -> None:
    """One training, unless it is on record."""
    options = replace(options, distillation=DISTILLED.get(arm))
    if arm == "scratch":
        options = replace(options, learning_rate=SCRATCH_RATE)
    row = {"arm": arm, "seed": winner.seed, "epochs": options.epochs, "learning_rate": options.learning_rate}
    if known(out, row):
        return
    network = study.finisher.network(winner.point)
    if arm == "scratch":
        network = renewed(network, options.seed)
    checkpoint = out.with_name("-".join(str(part) for part in (out.stem, *row.values())) + ".pt")
    print(", ".join(f"{key} {value}" for key, value in row.items()), flush=True)
    history = study.finisher.train(
        network,
        winner.point,
        options,
        validated=True,
        checkpoint=checkpoint,
        say=lambda text: print(f"  {text}", flush=True),
    )
    curve = [epoch.validation["accuracy"] for epoch in history.epochs]
    more = {"validation_curve": curve, "samples": sum(epoch.samples for epoch in history.epochs)}
    record(out, row, study, network, history.wall_s, more)
    checkpoint.unlink()


def values(study: Study, network: nn.Module, batches: Any) -> dict[str, float]:
    return {m.metric: m.value for m in study.evaluator.measure(network, batches)}


def record(
    out: Path, row: dict[str, Any], study: Study, network: nn.Module, seconds: float, more: dict[str, Any] | None = None
) -> None:
    problem = study.setup.problem
    assert problem.test is not None
    row = {
        **row,
        "seconds": seconds,
        "validation": values(study, network, problem.validation),
        "test": values(study, network, problem.test()),
        "macs": next(m.value for m in study.evaluator.counts(network) if m.metric == "macs"),
        "code": code_version(),
        **(more or {}),
    }
    with out.open("a") as file:
        file.write(json.dumps(row) + "\n")
    print(json.dumps({key: row[key] for key in ("arm", "seed", "epochs", "seconds", "test")}), flush=True)


def known(out: Path, row: dict[str, Any]) -> bool:
    """Whether there is a row for the same training."""
    if not out.exists():
        return False
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    return any(all(found.get(key) == value for key, value in row.items()) for found in rows)


if __name__ == "__main__":
    main()

"""Tune the winner of each lane block by block, without the other finalists that `automl finish` tunes.

python -m experiments.joint.winners STUDY.yaml --data-root DATA --storage URL [--agent exact]
"""

from __future__ import annotations

import argparse
import time
from dataclasses import replace
from pathlib import Path

from automl.config.runner import RunnerConfig
from automl.config.study import StudyConfig
from automl.store import open_store
from automl.study.study import Study


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("study", type=Path)
    parser.add_argument("--data-root", required=True)
    parser.add_argument("--storage", required=True)
    parser.add_argument("--agent", default="exact")
    arguments = parser.parse_args()
    config = StudyConfig.from_file(arguments.study)
    config = replace(config, data=replace(config.data, root=arguments.data_root), runner=RunnerConfig(1, 1))
    with open_store(arguments.storage, create=False) as store:
        study = Study(store, config)
        finisher = study.evaluator.reporting("blockwise")
        for seed in config.seeds:
            winner = study.best(arguments.agent, seed)
            if winner is None:
                raise SystemExit(f"{config.name} has no finished trial of {arguments.agent} with seed {seed}")
            started = time.perf_counter()
            network = finisher.network(winner.point)
            seconds = time.perf_counter() - started
            finisher.certify(network)
            test = {m.metric: m.value for m in finisher.measure(network, study.setup.problem.test())}
            print(f"seed {seed}, trial {winner.number}: {test} in {seconds:.0f} s", flush=True)


if __name__ == "__main__":
    main()

"""Run the exported files of a study on all its test images: top-1, and how often they agree with the network as judged.

python -m experiments.joint.agreement STUDY.yaml FOLDER --data-root DATA --storage URL
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from automl.config.runner import RunnerConfig
from automl.config.study import StudyConfig
from automl.export import load
from automl.measures.backends.onnx_runtime import running, session
from automl.store import open_store
from automl.study.study import Study


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("study", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--data-root", required=True)
    parser.add_argument("--storage", required=True)
    arguments = parser.parse_args()
    config = StudyConfig.from_file(arguments.study)
    config = replace(config, data=replace(config.data, root=arguments.data_root), runner=RunnerConfig(1, 1))
    with open_store(arguments.storage, create=False) as store:
        study = Study(store, config)
        network = load(arguments.folder, study.setup.space.original)
        batches = study.setup.problem.test()
    targets = torch.cat([targets for _, targets in batches])
    with torch.no_grad():
        judged = torch.cat([network(*inputs).argmax(1) for inputs, _ in batches])
    print(f"judged: top-1 {100 * float((judged == targets).double().mean()):.2f}")
    for file in sorted(arguments.folder.glob("model*.onnx")):
        run = running(session(str(file), 1))
        found = np.concatenate([run([x.numpy() for x in inputs])[0].argmax(1) for inputs, _ in batches])
        right, same = ((torch.from_numpy(found) == other).double().mean() for other in (targets, judged))
        print(f"{file.name}: top-1 {100 * float(right):.2f}, agrees on {100 * float(same):.2f} %")


if __name__ == "__main__":
    main()

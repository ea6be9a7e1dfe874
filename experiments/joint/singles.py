"""Every operator together against each single one, at equal cost, over draws of the calibration samples.

    python -m experiments.joint.singles WEIGHTS --data-root DATA --rows ROWS.jsonl
        [--network resnet20 resnet56 vgg16_bn mobilenet_v2 minilm] [--cost macs bops size] [--share 2%] [--trials 6]
        [--draws 0 1 2] [--techniques joint integers] [--width 0.5] [--table]

WEIGHTS holds NAME.safetensors or NAME-cifar10.safetensors; for minilm see `experiments/sentences/encoder.py`. The agent
`exact` has as many trials for each technique, nothing is trained, no label is looked at. Each winner sees the test set
once: the accuracy on all 10,000 images, or the mean cosine to the original's embeddings of 2,048 quotations. A
technique that cannot keep the budget says so. The table compares the joint space with each single technique by a paired
t-test over draws.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any

import torch
from scipy.stats import ttest_rel

from automl.commands.search import run_study
from automl.config.study import StudyConfig
from automl.errors import AutomlError
from automl.store import open_store
from automl.study.conclude import Results
from automl.study.study import Study
from automl.types import Phase
from experiments.row_file import Row, add_row, mean_of, rows_of
from search_spaces import InfeasibleBudgetError
from search_spaces.codecs.packing import pack

Space = dict[str, dict[str, Any]]

CHANNELS: Space = {"channels": {"min_keep": 0.2}}
DEPTH: Space = {"depth": {}}
RANK: Space = {"rank": {"scheme": "cp"}}
COLUMN_ROW: Space = {"rank": {}}
"""Of linear layers singular vectors."""
INTEGERS: Space = {"code": {"formats": ["binary", "int2", "int3", "int4", "int8"], "inputs": "int8"}}
EIGHT: Space = {"code": {"formats": ["int8"], "inputs": "int8"}}
CODED: Space = {"code": {"formats": ["coded1.25", "coded1.5", "coded1.75", "coded2", "coded2.5", "coded4"]}}
SPARSE: Space = {"sparsity": {}}
TECHNIQUES: dict[str, dict[str, Space]] = {
    "macs": {"joint": {**DEPTH, **CHANNELS, **RANK}, "channels": CHANNELS, "depth": DEPTH, "rank": RANK},
    "bops": {
        "joint": {**DEPTH, **CHANNELS, **COLUMN_ROW, **INTEGERS},
        "integers": INTEGERS,
        "rank, 8 bits": {**COLUMN_ROW, **EIGHT},
        "channels, 8 bits": {**CHANNELS, **EIGHT},
    },
    "size": {"joint": {**DEPTH, **CHANNELS, **CODED}, "coded integers": CODED, "zeros": SPARSE, "channels": CHANNELS},
}
"""Cost -> technique -> its space."""
BUDGETS = {
    "macs": {"resnet20": "50%", "resnet56": "50%", "vgg16_bn": "25%", "mobilenet_v2": "50%", "minilm": "50%"},
    "bops": {"resnet20": "2%", "resnet56": "2%", "vgg16_bn": "1%", "mobilenet_v2": "2%", "minilm": "3%"},
    "size": {"resnet20": "8%", "resnet56": "7%", "vgg16_bn": "3%", "mobilenet_v2": "8%", "minilm": "56%"},
}
CELL = ("network", "cost", "share", "technique", "draw", "trials")
"""The keys of a row that say what was asked."""
GROUP = ("network", "cost", "share", "trials")
"""Those of rows that are compared."""
WIDENED = ("vgg16_bn", "mobilenet_v2")
"""Networks that are trained by `experiments.latency.train_networks`, at the `--width` that was trained."""


def main() -> None:
    """Fit what has no row yet, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("weights", type=Path)
    parser.add_argument("--data-root", required=True)
    parser.add_argument("--rows", type=Path, required=True)
    parser.add_argument("--network", nargs="+", choices=BUDGETS["macs"], default=list(BUDGETS["macs"]))
    parser.add_argument("--cost", nargs="+", choices=TECHNIQUES, default=list(TECHNIQUES))
    parser.add_argument("--trials", type=int, default=6)
    parser.add_argument("--share", help="of the original's cost, such as 2%%, in the place of the usual")
    parser.add_argument("--width", type=float, default=0.5, help=f"of {' and '.join(WIDENED)}")
    parser.add_argument("--draws", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--techniques", nargs="+", help="those to run (default: all)")
    parser.add_argument("--table", action="store_true", help="only print the table of what there is")
    args = parser.parse_args()
    torch.set_num_threads(1)
    rows = rows_of(args.rows)
    known = {tuple(row[key] for key in CELL) for row in rows}
    for draw, network, cost in [] if args.table else product(args.draws, args.network, args.cost):
        for technique, space in TECHNIQUES[cost].items():
            share = args.share or BUDGETS[cost][network]
            cell = dict(zip(CELL, (network, cost, share, technique, draw, args.trials), strict=True))
            if tuple(cell.values()) not in known and technique in (args.techniques or [technique]):
                row = cell | outcome(described(network, f"{cost} <= {share}", space, draw, args))
                rows.append(row)
                add_row(args.rows, row)
                print({key: value for key, value in row.items() if key != "point"}, flush=True)
    print("\n".join(table(rows)))


def described(network: str, budget: str, space: dict[str, Any], draw: int, args: argparse.Namespace) -> StudyConfig:
    """The study of a cell, whose allocation is fitted."""
    return StudyConfig.from_dict(
        {
            **(sentence_encoder(draw) if network == "minilm" else image_classifier(network, draw, args)),
            "name": network,
            "space": space,
            "budget": budget,
            "agent": "exact",
            "baselines": [],
            "trials": args.trials,
            "finish": {"finalists": 1},
            "runner": {"threads": 1},
        }
    )


def image_classifier(network: str, draw: int, args: argparse.Namespace) -> dict[str, Any]:
    """The model, its data and what is searched for."""
    files = (args.weights / f"{network}{end}.safetensors" for end in ("", "-cifar10"))
    weights = str(next(path.resolve() for path in files if path.exists()))
    return {
        "model": {"name": network, "options": {"width": args.width} if network in WIDENED else {}, "weights": weights},
        "data": {
            **{"name": "cifar10", "root": args.data_root, "split_seed": draw},
            **{"validation_size": 1000, "calibration_size": 512},
        },
        "objective": "divergence",
    }


def sentence_encoder(draw: int) -> dict[str, Any]:
    """The same of all-MiniLM-L6-v2; what is searched for is the cosine to the original's embeddings."""
    return {
        "model": {"name": "experiments.sentences.encoder:encoder"},
        "data": {"name": "experiments.sentences.encoder:sentences", "options": {"draw": draw}},
        "task": "embedding",
    }


def outcome(config: StudyConfig) -> Row:
    """What the winner of a study is worth, or why there is none."""
    row: Row = {}

    def note(study: Study, results: Results) -> None:
        network = results.network
        row["test"] = results.winner.values_of(Phase.TEST)[study.setup.problem.kind.headline]
        row["packed_bytes"] = len(pack({key: tensor.clone() for key, tensor in network.state_dict().items()}))
        row["trial"] = results.winner.number
        row["costs"] = {
            m.metric: m.value for m in results.winner.measurements if m.metric in ("macs", "params", "bops")
        }
        row["point"] = dict(results.winner.point)

    start = time.process_time()
    with tempfile.TemporaryDirectory() as folder:
        storage = f"sqlite:///{folder}/study.db"
        try:
            with open_store(storage) as store:
                run_study(store, config, storage, "lines", after=note)
        except (AutomlError, InfeasibleBudgetError) as error:
            return {"cannot": str(error)}
    return {**row, "seconds": round(time.process_time() - start, 1)}


def table(rows: list[Row]) -> Iterator[str]:
    """Markdown: a row a network, cost and technique, and how the joint space differs from the best single one."""
    yield "| network | budget | technique | draws | test | joint ahead by | p |"
    yield "|" + " --- |" * 7
    for wanted in dict.fromkeys(tuple(row[key] for key in GROUP) for row in rows):
        network, cost, share, _ = wanted
        cell = [row for row in rows if tuple(row[key] for key in GROUP) == wanted]
        by = {
            technique: {row["draw"]: 100 * row["test"] for row in cell if row["technique"] == technique}
            for technique in TECHNIQUES[cost]
            if not any("cannot" in row for row in cell if row["technique"] == technique)
        }
        budget = f"{cost} <= {share}"
        for technique in TECHNIQUES[cost]:
            outcomes = by.get(technique)
            if outcomes is None:
                yield f"| {network} | {budget} | {technique} | | cannot | | |"
            if not outcomes:  # or it was not run
                continue
            joint = by["joint"]
            shared = sorted(joint.keys() & outcomes.keys())
            ahead = [joint[draw] - outcomes[draw] for draw in shared]
            values = list(outcomes.values())
            against = ["", ""]
            if technique != "joint" and ahead:
                against[0] = f"{statistics.mean(ahead):+.2f}"
            if technique != "joint" and len(ahead) > 1:
                test = ttest_rel([joint[draw] for draw in shared], [outcomes[draw] for draw in shared])
                against[1] = f"{test.pvalue:.2g}"
            yield f"| {network} | {budget} | {technique} | {len(values)} | {mean_of(values)} | {' | '.join(against)} |"


if __name__ == "__main__":
    main()

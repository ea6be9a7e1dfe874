"""Agents at equal evaluations, before and after their winners are trained fully: a table and a picture.

    python experiments/depth/rivals.py STUDY --storage A.db B.db ... --out experiments/depth/STUDY

STUDY is the name of a study; each database has some of its seeds. What they say goes to OUT.jsonl, one row a lane, and
is completed by what the search does not measure: the test accuracy of the winner's network as its trial left it, which
nothing is chosen by. A lane whose winner has not been trained yet is told as far as it has come. Without `--storage`
the rows are read as they are. Writes OUT.md and OUT.png.
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from collections.abc import Callable, Sequence
from itertools import accumulate
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import torch
from matplotlib.figure import Figure
from scipy.stats import mannwhitneyu
from torch import nn

from automl.config.study import StudyConfig
from automl.store import TrialRecord, open_store
from automl.study.finishing import reported_network
from automl.study.study import Study
from automl.tasks.objectives import COMPRESSION_REWARD, with_objective
from automl.types import BASE, Measurement, Phase

Row = dict[str, Any]
QUALITY = ("accuracy", COMPRESSION_REWARD)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study")
    parser.add_argument("--storage", nargs="*", default=[])
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    torch.set_num_threads(1)
    path = args.out.with_suffix(".jsonl")
    rows = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    for storage in args.storage:
        rows += gathered(args.study, storage, {(row["agent"], row["seed"]) for row in rows})
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    lanes: dict[str, list[Row]] = defaultdict(list)
    for row in sorted(rows, key=lambda row: row["seed"]):
        lanes[row["agent"]].append(row)
    text = table(lanes)
    args.out.with_suffix(".md").write_text(text + "\n")
    print(text)
    draw(lanes, rows[0]["objective"], args.out.with_suffix(".png"))


def gathered(name: str, storage: str, known: set[tuple[str, int]]) -> list[Row]:
    """The rows of the lanes of a database that are not known yet."""
    with open_store(storage, create=False) as store:
        config = StudyConfig.from_record(store.study(name).config)
        study = Study(store, config)
        lanes = [(BASE, 0), *((agent.name, seed) for agent, seed in config.lanes)]
        return [row_of(study, agent, seed) for agent, seed in lanes if (agent, seed) not in known]


def row_of(study: Study, agent: str, seed: int) -> Row:
    """What a lane's winner is worth as its trial left it, refitted, and trained if it was; and the lane's course."""
    winner, base = study.best(agent, seed), study.base()
    assert winner is not None
    trials = study.store.trials(study.record.id, agent=agent, seed=seed)
    objective = study.config.objective
    problem = study.setup.problem
    assert problem.test is not None
    searched = study.evaluator.network(winner.point)
    tested = winner.values_of(Phase.TEST)
    trained = "accuracy" in tested
    reported = reported_network(study, winner.point) if trained else searched
    return {
        "agent": agent,
        "seed": seed,
        "trial": winner.number,
        "point": dict(winner.point),
        "objective": objective,
        "course": [trial.values.get(objective) for trial in sorted(trials, key=lambda t: t.finish_order or 0)],
        "searched": rewarded(winner, base, Phase.SEARCH),
        "searched_test": study.evaluator.measure(searched, problem.test())[0].value,
        "refitted": winner.values_of(Phase.REFITTED).get("accuracy"),
        "trained": rewarded(winner, base, Phase.FINAL) if trained else None,
        "trained_test": tested.get("accuracy"),
        "macs": winner.values["macs"] / base.values["macs"],
        "params": winner.values["params"] / base.values["params"],
        "latency": winner.values_of(Phase.LATENCY).get("latency_ratio"),
        "layers": sum(isinstance(module, nn.Conv2d | nn.Linear) for module in reported.modules()),
        "lane_s": sum(trial.wall_s or 0.0 for trial in trials),
        "code": study.record.code_version,
    }


def rewarded(record: TrialRecord, base: TrialRecord, phase: Phase) -> dict[str, float]:
    """Accuracy on validation images, and C (2 - C) accuracy / accuracy of the original, as searched or as finished."""
    measured = [Measurement(name, record.values_of(phase)[name]) for name in ("accuracy", "params")]
    original = {name: base.values_of(phase)[name] for name in ("accuracy", "params")}
    values = {m.metric: m.value for m in with_objective(measured, COMPRESSION_REWARD, "accuracy", original)}
    return {name: values[name] for name in QUALITY}


def table(lanes: dict[str, list[Row]]) -> str:
    """One line an agent, mean and standard deviation over seeds; by what its winners are worth when trained (test
    accuracy, or f if that was sought), or as searched if some are not trained."""
    every = [row for rows in lanes.values() for row in rows]
    trained = all(row["trained"] for row in every)

    def worth(row: Row) -> float:
        if trained and row["objective"] != COMPRESSION_REWARD:
            return float(row["trained_test"])
        return float(row["trained" if trained else "searched"][row["objective"]])

    columns: dict[str, Callable[[list[Row]], str]] = {
        "agent": lambda rows: rows[0]["agent"],
        "seeds": lambda rows: str(len(rows)),
        "validation, searched": lambda rows: percent([row["searched"]["accuracy"] for row in rows]),
        "test, searched": lambda rows: percent([row["searched_test"] for row in rows]),
        "f, searched": lambda rows: spread([row["searched"][COMPRESSION_REWARD] for row in rows], 4),
        "p": lambda rows: p_value(rows, lanes.get("random", [])),
        "validation, trained": lambda rows: percent([row["trained"]["accuracy"] for row in rows if row["trained"]]),
        "test, trained": lambda rows: percent([row["trained_test"] for row in rows if row["trained"]]),
        "f, trained": lambda rows: spread([row["trained"][COMPRESSION_REWARD] for row in rows if row["trained"]], 4),
        "MACs": lambda rows: percent([row["macs"] for row in rows], 1),
        "parameters": lambda rows: percent([row["params"] for row in rows], 1),
        "latency": lambda rows: percent([row["latency"] for row in rows if row["latency"]], 0),
        "layers": lambda rows: ", ".join(str(row["layers"]) for row in rows),
        "a lane": lambda rows: f"{mean(row['lane_s'] for row in rows) / 60:.1f} min",
    }
    lines = [f"| {' | '.join(columns)} |", "|" + " --- |" * len(columns)]
    for rows in sorted(lanes.values(), key=lambda rows: -mean(map(worth, rows))):
        lines.append(f"| {' | '.join(cell(rows) for cell in columns.values())} |")
    return "\n".join(lines)


def p_value(rows: list[Row], random: list[Row]) -> str:
    """Of the objective as searched against random's, two-sided Mann-Whitney."""
    if rows[0]["agent"] in ("random", BASE) or not random:
        return ""
    found = [[row["searched"][row["objective"]] for row in lane] for lane in (rows, random)]
    return f"{mannwhitneyu(*found, alternative='two-sided').pvalue:.2f}"


def percent(values: Sequence[float], digits: int = 2) -> str:
    return spread([100 * value for value in values], digits)


def spread(values: Sequence[float], digits: int) -> str:
    if not values:
        return ""
    text = f"{mean(values):.{digits}f}"
    return f"{text} ± {stdev(values):.{digits}f}" if len(values) > 1 else text


def draw(lanes: dict[str, list[Row]], objective: str, path: Path) -> None:
    """The best so far after each evaluation, the mean of an agent's seeds."""
    figure = Figure(figsize=(7, 4.2), layout="constrained")
    axes = figure.subplots()
    for agent, rows in lanes.items():
        if agent == BASE:
            continue
        courses = [list(accumulate((value or 0.0 for value in row["course"]), max)) for row in rows]
        means = [mean(values) for values in zip(*courses, strict=False)]
        if len(means) == 1:  # a rule
            axes.axhline(means[0], label=agent, linestyle=":", color="black")
        else:
            axes.plot(range(1, len(means) + 1), means, label=agent, linestyle="--" if agent == "random" else "-")
    axes.set(xlabel="evaluations", ylabel=f"best {objective} so far")
    axes.legend()
    axes.grid(alpha=0.3)
    figure.savefig(path, dpi=150)


if __name__ == "__main__":
    main()

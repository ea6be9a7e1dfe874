"""Agents at equal evaluations: a markdown table from the databases of studies.

    python experiments/agents/compare.py resnet20-50-100=study.db ...

One row an agent: trials and seeds, the objective as searched and as finished, test accuracy of the network each seed
ranked first (mean and standard deviation over seeds), a two-sided Mann-Whitney test of it against random's seeds, wall
time of a lane, and the part of the budget used.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from statistics import fmean, stdev

from scipy.stats import mannwhitneyu

from automl.store import Store, StudyRecord, TrialRecord, open_store
from automl.study.selection import final
from automl.types import BASE, Phase


def main() -> None:
    """One table for each NAME=DATABASE given."""
    for argument in sys.argv[1:]:
        name, _, database = argument.partition("=")
        with open_store(database, create=False) as store:
            print(f"\n{table(store, store.study(name))}")


def table(store: Store, study: StudyRecord) -> str:
    """The agents of a study, best test accuracy first."""
    lanes: dict[str, dict[int, list[TrialRecord]]] = {}
    for trial in store.trials(study.id):
        lanes.setdefault(trial.agent, {}).setdefault(trial.seed, []).append(trial)
    objective, limits = study.config["objective"], study.config["limits"]
    picked = {agent: picks(seeds, objective) for agent, seeds in lanes.items()}
    random = [record.values_of(Phase.TEST)["accuracy"] for record in picked.get("random", [])]
    rows = []
    for agent, records in picked.items():
        if not records:
            continue
        tests = [record.values_of(Phase.TEST)["accuracy"] for record in records]
        seeds = lanes[agent]
        trials = max(len(trials) for trials in seeds.values())
        differs = "-" if agent in ("random", BASE) or trials == 1 or not random else p_value(tests, random)
        used = [max(final(record, metric) / limit for metric, limit in limits.items()) for record in records]
        wall = fmean(sum(trial.wall_s or 0.0 for trial in lane) for lane in seeds.values())
        rows.append(
            (
                fmean(tests),
                f"| {agent} | {trials} | {len(records)} | {spread([r.values[objective] for r in records], 4)} | "
                f"{spread([final(r, objective) for r in records], 4)} | "
                f"{spread([100 * test for test in tests], 2)} | {differs} | {wall:.0f} s | "
                f"{'-' if agent == BASE else f'{min(used):.2%}'} |",
            )
        )
    columns = (
        "agent",
        "trials",
        "seeds",
        f"{objective} as searched",
        "as finished",
        "test accuracy",
        "p against random",
    )
    columns += ("time a lane", "least budget used")
    head = [
        f"{study.name} ({study.code_version}, {', '.join(study.config['budget'])})\n",
        f"| {' | '.join(columns)} |",
        f"|{' --- |' * len(columns)}",
    ]
    return "\n".join([*head, *(row for _, row in sorted(rows, reverse=True))])


def picks(seeds: dict[int, list[TrialRecord]], objective: str) -> list[TrialRecord]:
    """Of each seed the trial that was reported: of those that were finished and tested, the best as finished."""
    out = []
    for trials in seeds.values():
        tested = [trial for trial in trials if "accuracy" in trial.values_of(Phase.TEST)]
        if tested:
            out.append(min(tested, key=lambda trial: final(trial, objective)))
    return out


def p_value(ours: Sequence[float], theirs: Sequence[float]) -> str:
    return f"{mannwhitneyu(ours, theirs, alternative='two-sided', method='auto').pvalue:.3f}"


def spread(values: Sequence[float], digits: int) -> str:
    text = f"{fmean(values):.{digits}f}"
    return f"{text} ± {stdev(values):.{digits}f}" if len(values) > 1 else text


if __name__ == "__main__":
    main()

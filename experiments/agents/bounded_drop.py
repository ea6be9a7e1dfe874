"""A bound on the drop and no budget: `python -m experiments.agents.bounded_drop --data-root DATA [--table]`.

The reward of Huang et al. 2018 (`bounded_drop`) on the network and data of `experiments.training.three_budgets`, which
nothing trains again: 40 trials of each agent, for bounds of 0.5, 2 and 5 points of the 2,000 validation images. Of each
search the best trial that keeps the bound, beside the uniform network of as many parameters, on the test images. A row
a search in `bounded_drop.jsonl`; what is there is not made again.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from statistics import mean

import agents
from agents import Goal, Trial
from automl.evaluation import Evaluator
from automl.types import TrialState
from experiments.row_file import Row, mean_of, run_grid
from experiments.training.run import accuracy
from experiments.training.three_budgets import Bench, fashion

ROWS = Path(__file__).with_name("bounded_drop.jsonl")
BOUNDS = (0.005, 0.02, 0.05)
NAMES = ("layer_by_layer", "tpe", "random")
TRIALS = 40
GOAL = Goal("bounded_drop", "maximize")


def searched(bench: Bench, seed: int, bound: float, name: str) -> Row:
    """What one agent finds, and what the uniform network of as many parameters is worth."""
    problem, space = bench.space(seed)
    evaluator = Evaluator(problem, space, threads=1, goal=GOAL, most_lost=bound)
    whole = evaluator(space.original_point)
    base = {m.metric: m.value for m in whole.measurements}
    agent = agents.create(name, space=space, goal=GOAL, limits={}, seed=seed, trials=TRIALS)
    trials: list[Trial] = []
    for number in range(TRIALS):
        (point,) = agent.ask(1, [])
        outcome = evaluator(point)
        trials.append(Trial(number, point, outcome.state, {m.metric: m.value for m in outcome.measurements}))
        agent.tell(trials[-1:])
    kept = [t for t in trials if t.state is TrialState.DONE and base["accuracy"] - t.values["accuracy"] <= bound]
    row: Row = {"seed": seed, "bound": bound, "agent": name, "kept": len(kept)}
    if not kept:
        return row
    best = max(kept, key=lambda trial: trial.utility(GOAL))
    limits = {"params": best.values["params"]}
    uniform = agents.create("uniform", space=space, goal=GOAL, limits=limits, seed=0, trials=1).ask(1, [])[0]
    original = accuracy(problem.model, bench.test)
    return row | {
        "reward": best.utility(GOAL),
        "times": base["params"] / best.values["params"],
        "drop": base["accuracy"] - best.values["accuracy"],
        "test_drop": original - accuracy(evaluator.network(best.point), bench.test),
        "test_drop_uniform": original - accuracy(evaluator.network(uniform), bench.test),
    }


def main() -> None:
    """Make what is not there yet, and print the table."""
    run_grid(
        __doc__,
        ROWS,
        ("seed", "bound", "agent"),
        lambda seeds: [(seed, bound, name) for seed in seeds for bound in BOUNDS for name in NAMES],
        lambda data_root: partial(searched, fashion(data_root)),
        table,
    )


def table(rows: Sequence[Row]) -> str:
    """How many times fewer parameters, and points lost, a row a bound and agent."""
    lines = ["| bound | agent | trials that keep it | reward | times fewer parameters | points lost in the search |"]
    lines[0] += " on test | uniform, as many parameters |"
    lines.append("|" + " --- |" * 8)
    for bound in BOUNDS:
        for name in NAMES:
            own = [row for row in rows if (row["bound"], row["agent"]) == (bound, name)]
            found = [row for row in own if row["kept"]]
            cells = [f"{100 * bound:g}", name, f"{mean(row['kept'] for row in own):.0f}" if own else "-"]
            if found:
                cells += [mean_of([row[key] for row in found]) for key in ("reward", "times")]
                cells += [mean_of([100 * row[k] for row in found]) for k in ("drop", "test_drop", "test_drop_uniform")]
            lines.append("| " + " | ".join(cells + ["-"] * (8 - len(cells))) + " |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()

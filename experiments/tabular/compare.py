"""Judge agents on a table: regret over trials and seeds, and whether each differs from random.

    python experiments/tabular/compare.py experiments/tabular/resnet20.npz --seeds 10 --out experiments/tabular/resnet20

Writes OUT.md and OUT.png, and prints the former.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.stats import mannwhitneyu

import agents
from automl.benchmark import Table, judge, regret_after
from automl.config.budget import parse_budget

AFTER = (25, 50, 100, 200, 400)
TESTED = (100, 400)
"""Trials at which agents are compared with random."""


def arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("table", type=Path)
    parser.add_argument("--agents", nargs="+", default=agents.names())
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--trials", type=int, nargs="+", default=AFTER, help="planned numbers of trials")
    parser.add_argument("--budget", help="a tighter one, such as `macs <= 40%%`")
    parser.add_argument("--metric", choices=("accuracy", "loss", "divergence"), help="instead of the table's goal")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--out", type=Path)
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> None:
    args = arguments(argv)
    table = open_table(args.table, args.budget, args.metric)
    judged = judge_all(args)
    text = "\n".join([*heading(table, args), *rows(judged, args.trials)])
    print(text)
    if args.out:
        args.out.with_suffix(".md").write_text(text + "\n")
        draw(judged, table, args.out.with_suffix(".png"))


def open_table(path: Path, budget: str | None, metric: str | None) -> Table:
    table = Table.load(path)
    if metric:
        table = table.aiming(agents.Goal(metric, "maximize" if metric == "accuracy" else "minimize"))
    if budget:
        space = table.space
        whole = {metric: space.cost_of_levels(space.highest, metric) for metric in space.metrics}
        table = table.limited(parse_budget(budget).limits(whole))
    return table


def judge_all(args: argparse.Namespace) -> pd.DataFrame:
    """Every agent, seed and planned number of trials: schedules span the trials, so each number is a run of its own."""
    jobs = [
        (args.table, args.budget, args.metric, name, seed, trials)
        for name, seed, trials in product(args.agents, range(args.seeds), args.trials)
    ]
    if args.workers == 1:
        return pd.concat([_one(*job) for job in jobs])
    with ProcessPoolExecutor(args.workers) as pool:
        return pd.concat(pool.map(_one, *zip(*jobs, strict=True)))


def _one(path: Path, budget: str | None, metric: str | None, name: str, seed: int, trials: int) -> pd.DataFrame:
    judged = judge(name, open_table(path, budget, metric), seeds=[seed], trials=trials)
    return judged.assign(planned=trials)


def heading(table: Table, args: argparse.Namespace) -> Iterator[str]:
    limits = ", ".join(f"{metric} <= {limit:,.0f}" for metric, limit in table.limits.items())
    yield f"{args.table.name}: {len(table):,} Points with {table.coverage}; limits {limits}."
    yield f"{args.seeds} seeds. Regret in {table.goal.metric}: the best Point of the table has {table.optimum:.4f}."
    yield ""


def rows(judged: pd.DataFrame, planned: Sequence[int]) -> Iterator[str]:
    """Markdown: mean ± standard deviation of the regret after all trials planned, p against random, repeats."""
    tested = [trials for trials in planned if trials in TESTED] or list(planned)[-1:]
    titles = [f"regret, {trials} trials" for trials in planned] + [f"p, {trials} trials" for trials in tested]
    yield f"| agent | {' | '.join(titles)} | not done |"
    yield "|" + " --- |" * (len(titles) + 2)
    means = judged.groupby("agent").apply(lambda of: regrets(of, max(planned)).mean(), include_groups=False)
    for name in means.sort_values().index:
        of = judged[judged["agent"] == name]
        cells = [f"{regrets(of, t).mean():.5f} ± {regrets(of, t).std():.5f}" for t in planned]
        cells += [p_value(judged, name, trials) for trials in tested]
        yield f"| {name} | {' | '.join(cells)} | {(of['state'] != 'done').mean():.1%} |"


def regrets(of: pd.DataFrame, planned: int) -> pd.Series:
    return regret_after(of[of["planned"] == planned], planned)


def p_value(judged: pd.DataFrame, name: str, trials: int) -> str:
    """Two-sided Mann-Whitney test of the regrets over seeds against random's."""
    ours, random = (regrets(judged[judged["agent"] == agent], trials).dropna() for agent in (name, "random"))
    if name == "random" or not len(ours) or not len(random):
        return "-"
    return f"{mannwhitneyu(ours, random).pvalue:.4f}"


def draw(judged: pd.DataFrame, table: Table, path: Path) -> None:
    """Mean regret over seeds against trials, of the longest runs."""
    from matplotlib import colormaps
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    planned = judged["planned"].max()
    least = judged["regret"][judged["regret"] > 0].min() / 2  # stands for 0 on a logarithmic axis
    figure = Figure(figsize=(8, 5), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.set_prop_cycle(color=colormaps["tab20"].colors[::2] + colormaps["tab20"].colors[1::2])
    for name, of in judged[judged["planned"] == planned].groupby("agent", sort=False):
        regret = (
            of.pivot(index="trial", columns="seed", values="regret").reindex(range(planned)).ffill().clip(lower=least)
        )
        x = np.arange(1, planned + 1)
        style = {"color": "black", "linestyle": "--"} if name == "random" else {}
        axes.step(x, regret.mean(axis=1), where="post", label=name, linewidth=1.8, **style)
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlabel("trials")
    axes.set_ylabel(f"regret in {table.goal.metric}, mean of the seeds")
    axes.grid(alpha=0.3, which="both")
    figure.legend(loc="outside right upper", frameon=False)
    figure.savefig(path, dpi=120)


if __name__ == "__main__":
    main()

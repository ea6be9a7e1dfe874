"""How many evaluations agents need to find a Point among the best 1 % of a table, beside random search.

    python experiments/tabular/top.py experiments/tabular/resnet20-depth.npz --out experiments/tabular/resnet20-depth

Writes OUT.md and OUT.png, and prints the former. A lane ends once it has found such a Point; one that has not after all
trials counts as having needed one more, which flatters those that miss it most.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from itertools import product
from pathlib import Path

import numpy as np
from scipy.stats import mannwhitneyu

from agents.uniform import uniform_point
from automl.benchmark import Table, evaluations_until

AGENTS = ("bo", "esnac", "n2n", "random", "evolution", "tpe")


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("table", type=Path)
    parser.add_argument("--agents", nargs="+", default=AGENTS)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--trials", type=int, default=100, help="planned, and the most")
    parser.add_argument("--part", type=float, default=0.01)
    parser.add_argument("--uniform-first", action="store_true", help="every agent begins with the uniform Point")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args(argv)
    lanes = product(args.agents, range(args.seeds))
    jobs = [(args.table, name, seed, args.trials, args.part, args.uniform_first) for name, seed in lanes]
    with ProcessPoolExecutor(args.workers) as pool:
        found = list(pool.map(needed, *zip(*jobs, strict=True)))
    each = dict(zip(args.agents, np.array(found).reshape(len(args.agents), args.seeds), strict=True))
    table = Table.load(args.table)
    text = "\n".join([*heading(table, args), *rows(each, args.trials)])
    print(text)
    if args.out:
        args.out.with_suffix(".md").write_text(text + "\n")
        draw(each, args.trials, args.out.with_suffix(".png"))


def needed(path: Path, name: str, seed: int, trials: int, part: float, uniform_first: bool) -> int:
    """Evaluations of one lane; `trials` + 1 if it has found none."""
    table = Table.load(path)
    start = [uniform_point(table.space, table.limits)] if uniform_first else []
    found = evaluations_until(name, table, table.top(part), seed=seed, trials=trials, start=start)
    return trials + 1 if found is None else found


def heading(table: Table, args: argparse.Namespace) -> Iterator[str]:
    yield f"{args.table.name}: {len(table):,} Points with {table.coverage}."
    yield (
        f"Evaluations until the best {args.part:.0%} in {table.goal.metric}, {table.top(args.part):.4f} or better; "
        f"the best Point has {table.optimum:.4f}. {args.seeds} seeds, {args.trials} trials planned"
        f"{', the first the uniform Point' if args.uniform_first else ''}."
    )
    yield ""


def rows(each: Mapping[str, np.ndarray], trials: int) -> Iterator[str]:
    """Markdown; p of one-sided Mann-Whitney tests: fewer evaluations than random, and than half of random's."""
    yield "| agent | median | quartiles | seeds without | p, fewer than random | p, fewer than half of random's |"
    yield "|" + " --- |" * 6
    for name in sorted(each, key=lambda name: np.median(each[name])):
        of, random = each[name], each.get("random")
        low, middle, high = np.percentile(of, [25, 50, 75])
        tests = ["-", "-"]
        if random is not None and name != "random":
            tests = [f"{mannwhitneyu(k * of, random, alternative='less').pvalue:.2g}" for k in (1, 2)]
        cells = [f"{middle:.1f}", f"{low:.0f} to {high:.0f}", str((of > trials).sum()), *tests]
        yield f"| {name} | {' | '.join(cells)} |"


def draw(each: Mapping[str, np.ndarray], trials: int, path: Path) -> None:
    """The part of the seeds that have found one, against evaluations."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 4.5), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    x = np.arange(1, trials + 1)
    for name, of in each.items():
        style = {"color": "black", "linestyle": "--"} if name == "random" else {}
        axes.step(x, (of[:, None] <= x).mean(axis=0), where="post", label=name, linewidth=1.8, **style)
    axes.set_xlabel("evaluations")
    axes.set_ylabel("part of the seeds that have found one")
    axes.grid(alpha=0.3)
    axes.legend(loc="lower right", frameon=False)
    figure.savefig(path, dpi=120)


if __name__ == "__main__":
    main()

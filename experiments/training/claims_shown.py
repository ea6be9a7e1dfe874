"""The claims as tables, and each as a panel of a picture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from statistics import mean, stdev
from typing import Any

Rows = Sequence[dict[str, Any]]
TITLES = {
    "1": "Rounds of pruning",
    "2": "Thresholds, retrained",
    "3": "Tickets",
    "4": "Masks alone",
    "5": "Structure from nothing",
    "6": "Rates after a cut",
    "13": "Learnt units",
    "16": "Learnt connections",
    "20": "One training, many cuts",
    "41": "A class never seen",
    "42": "Ensembles teach",
}
AXES = {"2": "times fewer weights", "5": "channels left", "6": "epochs after the cut", "13": "times as wide at first"}
DENSITY = "weights left"
"""What is on the axis of the others."""
OTHERS_TOO = ("13", "16")
"""Claims whose arms tell other percents beside test accuracy."""


def tables(rows: Rows) -> str:
    """Markdown: for each claim a row an arm, a column a value of the axis; mean and standard deviation of percents."""
    lines = []
    for claim in (c for c in TITLES if any(row["claim"] == c for row in rows)):
        ours = [row for row in rows if row["claim"] == claim]
        places = _places(ours)
        heads = [f"{at:.3g}" for at in places] if len(places) > 1 else [_told(claim)]
        axis = f" ({AXES.get(claim, DENSITY)})" if len(places) > 1 else ""
        lines += ["", f"**{claim}, {TITLES[claim].lower()}**{axis}", ""]
        lines += ["| | " + " | ".join(heads) + " |", "|" + " --- |" * (len(heads) + 1)]
        for arm in dict.fromkeys(row["arm"] for row in ours):
            cells = [_spread(_values(ours, arm, place, places)) for place in range(len(places))]
            lines.append(f"| {arm} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def drawn(rows: Rows, path: Path) -> None:
    """Draw a panel a claim."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(4, 3, figsize=(13, 13), constrained_layout=True)
    for axis in axes.flat[len(TITLES) :]:
        axis.set_axis_off()
    for (claim, title), axis in zip(TITLES.items(), axes.flat, strict=False):
        ours = [row for row in rows if row["claim"] == claim]
        places = _places(ours)
        axis.set_title(f"{claim}. {title}", fontsize=10)
        arms = list(dict.fromkeys(row["arm"] for row in ours))
        for i, arm in enumerate(arms):
            found = [_values(ours, arm, place, places) for place in range(len(places))]
            heights, errors = [mean(values) for values in found], [stdev(v) if len(v) > 1 else 0 for v in found]
            if len(places) > 1:
                axis.errorbar(places, heights, errors, marker="o", markersize=3, linewidth=1, capsize=2, label=arm)
            else:
                axis.errorbar(heights, [-i], xerr=errors, marker="o", markersize=4, capsize=2)
        if len(places) > 1:
            axis.set_xlabel(AXES.get(claim, DENSITY), fontsize=8)
            axis.set_ylabel(_told(claim) + ", %", fontsize=8)
            axis.set_xscale("log")
            axis.minorticks_off()
            axis.set_xticks(places, [f"{at:.2g}" for at in places])
            axis.legend(fontsize=7)
        else:
            axis.set_yticks([-i for i in range(len(arms))], arms)
            axis.set_xlabel(_told(claim) + ", %", fontsize=8)
        if AXES.get(claim, DENSITY) == DENSITY and len(places) > 1:
            axis.invert_xaxis()
        axis.tick_params(labelsize=7)
    figure.savefig(path, dpi=110)


def _told(claim: str) -> str:
    return "as the arm says" if claim in OTHERS_TOO else "test accuracy"


def _places(rows: Rows) -> list[float]:
    """The values of the axis in their order, each the mean over seeds, as what is left is not always the same."""
    first = rows[0]["arm"] if rows else None
    seeds = dict.fromkeys(row["seed"] for row in rows)
    columns = [[row["at"] for row in rows if row["arm"] == first and row["seed"] == seed] for seed in seeds]
    return [mean(column) for column in zip(*columns, strict=True)]


def _values(rows: Rows, arm: str, place: int, places: Sequence[float]) -> list[float]:
    """What an arm came to at a place of the axis, percent, a value a seed."""
    ours = [row for row in rows if row["arm"] == arm]
    each = [[100 * row["value"] for row in ours if row["seed"] == s] for s in dict.fromkeys(r["seed"] for r in ours)]
    assert all(len(values) == len(places) for values in each)
    return [values[place] for values in each]


def _spread(values: Sequence[float]) -> str:
    return f"{mean(values):.2f} ± {stdev(values):.2f}" if len(values) > 1 else f"{values[0]:.2f}"

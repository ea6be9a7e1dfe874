"""What a search did, drawn: best so far by agent, what the agent told of itself, and what it tried."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from agents import Goal, TrialState
from automl.errors import StudyError
from automl.report.pictures import fraction_kept, knob_title, picture_path, record_picture
from automl.store import Store, StudyRecord, TrialRecord, conclusion
from automl.study.selection import compared_with, configured
from automl.types import BASE, Phase
from search_spaces import Knob

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.gridspec import GridSpec
    from matplotlib.lines import Line2D

MAIN = "#c1272d"
"""The colour of the study's agent; the others take those of `RIVALS` in turn."""
RIVALS = ("#4c78a8", "#72a86b", "#e0a030", "#8f6bb1", "#3aa6a0", "#a87152", "#d67fb0", "#7f7f7f", "#a3b13a")
BANDS = 4
"""With more agents than these only the study's has a band from its lowest to its highest seed."""
SETTLED = 0.05
"""The part of the trials whose best values may lie below the axis of the first panel: early ones are far off."""


@dataclass(frozen=True)
class Search:
    """The finished trials of a study, by agent and seed, in the order in which they were told."""

    name: str
    goal: Goal
    knobs: Sequence[Knob]
    lanes: Mapping[str, Mapping[int, Sequence[TrialRecord]]]
    """Agent -> seed -> trials."""
    agent: str
    """The one that the study is about; the others run beside it."""
    original: float | None
    """What the goal's metric is for the network as it was."""
    compared: str
    """What that network is called."""
    winner: TrialRecord | None = None
    """The trial that was reported; a search is drawn as it was told, and what was finished is worth something else."""

    @classmethod
    def read(cls, store: Store, study: StudyRecord) -> Search:
        """What the database has of `study`. `StudyError` if no trial of an agent has finished, or it has no goal."""
        with configured(study, "nothing can be drawn of it"):
            goal = Goal(**study.config["goal"])
            knobs = tuple(Knob.from_record(knob) for knob in study.config["knobs"])
        lanes: dict[str, dict[int, list[TrialRecord]]] = {}
        finished = [trial for trial in store.trials(study.id) if trial.finish_order is not None]
        for trial in sorted(finished, key=lambda trial: trial.finish_order or 0):
            lanes.setdefault(trial.agent, {}).setdefault(trial.seed, []).append(trial)
        base = lanes.pop(BASE, {}).get(0, [])
        if not lanes:
            raise StudyError(f"study {study.name!r} has no finished trial yet: `automl resume {study.name}`")
        wanted = study.config.get("agent", {}).get("name")
        agent = wanted if wanted in lanes else max(lanes, key=lambda name: sum(map(len, lanes[name].values())))
        original = base[0].values.get(goal.metric) if base else None
        concluded = conclusion(store, study.id)
        winner = None if concluded is None else store.trial(concluded.trial_id)
        return cls(study.name, goal, knobs, lanes, agent, original, compared_with(study.config), winner)

    @property
    def trials(self) -> int:
        """Of the longest lane."""
        return max(len(trials) for seeds in self.lanes.values() for trials in seeds.values())

    @property
    def shown(self) -> int:
        """The seed of the agent's lane that has the winner, else of its best lane, the first of several."""
        seeds = self.lanes[self.agent]
        if self.winner is not None and self.winner.agent == self.agent and self.winner.seed in seeds:
            return self.winner.seed
        last = {seed: self.goal.utility(best_so_far(trials, self.goal)[-1]) for seed, trials in seeds.items()}
        return max(seeds, key=lambda seed: -np.inf if np.isnan(last[seed]) else last[seed])


def best_so_far(trials: Sequence[TrialRecord], goal: Goal) -> np.ndarray:
    """The goal's metric of the best done trial after each trial, NaN before there is one: [n_trials]."""
    sign = goal.utility(1.0)
    done = [trial.state is TrialState.DONE and goal.metric in trial.values for trial in trials]
    values = [sign * trial.values[goal.metric] if ok else -np.inf for trial, ok in zip(trials, done, strict=True)]
    best = np.maximum.accumulate(np.array(values, dtype=float))
    return np.where(np.isfinite(best), sign * best, np.nan)


def over_seeds(curves: Sequence[np.ndarray]) -> np.ndarray:
    """Mean, lowest and highest of curves [n_trials] over those that have got that far: [3, longest]."""
    table = np.full((len(curves), max(map(len, curves))), np.nan)
    for row, curve in zip(table, curves, strict=True):
        row[: len(curve)] = curve
    columns = [column[~np.isnan(column)] for column in table.T]
    return np.array([[c.mean(), c.min(), c.max()] if len(c) else [np.nan] * 3 for c in columns]).T


def draw_curves(store: Store, study: StudyRecord, path: Path | None = None) -> Path:
    """Draw the search, and record the file: `path`, or one beside the database. Errors: `ExportError`, `StudyError`."""
    path = path or picture_path(store, study, "curves")
    record_picture(store, study, None, path, picture(Search.read(store, study)))
    return path


def picture(search: Search) -> Figure:
    """Best so far by agent; below it, for the agent's best seed, what it told of itself and the fractions it kept."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    trials = search.lanes[search.agent][search.shown]
    told = list(dict.fromkeys(name for trial in trials for name in trial.diagnostics))
    heights = [3.6, *[0.85] * len(told), 0.6 + 0.21 * len(search.knobs)]
    figure = Figure(figsize=(11, sum(heights) + 1.0), layout="constrained")
    FigureCanvasAgg(figure)
    grid = figure.add_gridspec(len(heights), 2, height_ratios=heights, width_ratios=[1, 0.23])
    top = figure.add_subplot(grid[0, 0])
    _best(search, top, _beside(figure, grid, 0))
    for row, name in enumerate(told, start=1):
        axes = figure.add_subplot(grid[row, 0], sharex=top)
        _diagnostic(search, name, axes, _beside(figure, grid, row))
        axes.tick_params(labelbottom=False)
    bottom = figure.add_subplot(grid[len(heights) - 1, 0], sharex=top)
    _kept(search, bottom, _beside(figure, grid, len(heights) - 1))
    top.tick_params(labelbottom=False)
    top.set_xlim(0.5, search.trials + 0.5)
    bottom.set_xlabel("trials finished")
    figure.suptitle(search.name, fontsize=12, fontweight="bold")
    return figure


def _beside(figure: Figure, grid: GridSpec, row: int) -> Axes:
    """Room to the right of a panel, for its legend."""
    axes = figure.add_subplot(grid[row, 1])
    axes.set_axis_off()
    return axes


def _best(search: Search, axes: Axes, legend: Axes) -> None:
    goal, n = search.goal, search.trials
    names = [name for name in search.lanes if name != search.agent] + [search.agent]  # the agent on top
    colours = dict(zip(names[:-1], RIVALS * len(names), strict=False)) | {search.agent: MAIN}
    ends: dict[str, tuple[Line2D, float]] = {}
    floors: list[float] = []
    for name in names:
        curves = [best_so_far(trials, goal) for trials in search.lanes[name].values()]
        mean, low, high = over_seeds(curves)
        known = mean[~np.isnan(mean)]
        if not len(known):
            continue
        main = name == search.agent
        x = np.arange(1, len(mean) + 1)
        style: dict[str, Any] = {"color": colours[name], "zorder": 3 + main}
        (line,) = axes.step(x, mean, where="post", linewidth=2.4 if main else 1.4, **style)
        if len(mean) < n:  # it has ended, as a rule of one trial has at once: what it found still stands
            axes.plot([len(mean), n], [known[-1]] * 2, linewidth=1, linestyle=":", **style)
            axes.plot(len(mean), known[-1], "o", markersize=4, **style)
        if len(curves) > 1 and (main or len(names) <= BANDS):
            alpha = 0.18 if main else 0.08
            axes.fill_between(x, low, high, step="post", color=colours[name], alpha=alpha, linewidth=0)
        ends[name] = (line, known[-1])
        floors.append(known[min(len(known) - 1, int(SETTLED * n))])
    if search.original is not None:
        axes.axhline(search.original, color="black", linestyle="--", linewidth=1, zorder=2)
    if ends:
        _limit(axes, search, floors, [end for _, end in ends.values()])
    ranked = sorted(ends, key=lambda name: -goal.utility(ends[name][1]))
    handles = [ends[name][0] for name in ranked]
    labels = [f"{ends[name][1]:.4f}  {name}" for name in ranked]
    if search.original is not None:
        handles, labels = [axes.lines[-1], *handles], [f"{search.original:.4f}  the {search.compared}", *labels]
    seeds = max(len(lanes) for lanes in search.lanes.values())
    if search.winner is not None and search.winner.agent in ends:
        handles.append(_reported(search, search.winner, axes, colours[search.winner.agent]))
        labels.append(f"{search.winner.values_of(Phase.FINAL).get(goal.metric, np.nan):.4f}  the winner, finished")
    title = f"best {goal.metric} so far, as searched" + (f"\nmean of {seeds} seeds, min to max" if seeds > 1 else "")
    legend.legend(handles, labels, loc="upper left", frameon=False, fontsize=9, title=title, title_fontsize=9)
    axes.set_ylabel(f"best {goal.metric}")
    axes.grid(alpha=0.25)


def _reported(search: Search, winner: TrialRecord, axes: Axes, colour: str) -> Line2D:
    """Mark the trial that was reported where the search found it."""
    y = winner.values[search.goal.metric]
    style: dict[str, Any] = {"markersize": 13, "markeredgecolor": "black", "zorder": 6, "clip_on": False}
    (star,) = axes.plot([winner.finish_order or 0], [y], "*", color=colour, **style)
    return star


def _limit(axes: Axes, search: Search, floors: Sequence[float], ends: Sequence[float]) -> None:
    """The part of the axis where agents differ; the first values, far worse, may leave it."""
    seen = [*floors, *ends, *([] if search.original is None else [search.original])]
    if search.winner is not None:
        seen.append(search.winner.values[search.goal.metric])
    margin = 0.06 * (max(seen) - min(seen)) or 0.01
    axes.set_ylim(min(seen) - margin, max(seen) + margin)


def _diagnostic(search: Search, name: str, axes: Axes, legend: Axes) -> None:
    """One number the agent told after each trial: the seed shown below in colour, the others faint."""
    everything: list[float] = []
    for seed, trials in search.lanes[search.agent].items():
        values = [trial.diagnostics.get(name, np.nan) for trial in trials]
        shown = seed == search.shown
        style: dict[str, Any] = {"color": MAIN, "linewidth": 1.5} if shown else {"color": "0.75", "linewidth": 0.9}
        axes.plot(range(1, len(values) + 1), values, zorder=3 if shown else 2, **style)
        everything += [value for value in values if not np.isnan(value)]
    if min(everything) > 0 and max(everything) > 30 * min(everything):
        axes.set_yscale("log")
    axes.grid(alpha=0.25)
    axes.tick_params(axis="y", labelsize=8)
    others = "\n(gray: other seeds)" if len(search.lanes[search.agent]) > 1 else ""
    text = f"{name.replace('_', ' ')} of {search.agent}{others}"
    legend.text(0, 0.5, text, fontsize=9, va="center", transform=legend.transAxes)


def _marked(search: Search, trials: Sequence[TrialRecord]) -> tuple[int | None, str]:
    """Which of a lane's trials is marked, from 1, and what it is: the winner if it is one of them, else the best."""
    for place, trial in enumerate(trials, start=1):
        if search.winner is not None and trial.id == search.winner.id:
            return place, "the winner"
    best = best_so_far(trials, search.goal)
    return (None if np.isnan(best[-1]) else int(np.argmax(best == best[-1])) + 1), "its best trial"


def _kept(search: Search, axes: Axes, legend: Axes) -> None:
    """Trial by knob, the fraction kept as colour: columns grow alike where the policy settles."""
    trials, knobs = search.lanes[search.agent][search.shown], search.knobs
    keep = np.array([[knob.keep(trial.point[knob.name]) for trial in trials] for knob in knobs])
    image = axes.imshow(
        keep,
        aspect="auto",
        interpolation="nearest",
        cmap="viridis",
        vmin=0,
        vmax=1,
        extent=(0.5, len(trials) + 0.5, len(knobs) - 0.5, -0.5),
    )
    axes.set_yticks(range(len(knobs)), [knob_title(knob) for knob in knobs], fontsize=8)
    place, called = _marked(search, trials)
    if place is not None:
        axes.plot(place, -0.5, "v", color=MAIN, markersize=7, clip_on=False, zorder=5)
    bar = legend.inset_axes((0.0, 0.0, 0.09, 0.62))
    legend.figure.colorbar(image, cax=bar)
    bar.tick_params(labelsize=8)
    seeds = f", seed {search.shown}" if len(search.lanes[search.agent]) > 1 else ""
    text = f"{fraction_kept(knobs, search.compared)}\nby {search.agent}{seeds}\n\u25bc {called}"
    legend.text(0, 1, text, fontsize=9, va="top", transform=legend.transAxes)

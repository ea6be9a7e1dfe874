"""What a study can change, what it can reach, how long it takes: the text of `automl inspect`."""

from __future__ import annotations

import time
from collections.abc import Iterator

import numpy as np

from automl.measures.counts import shown
from automl.runners import run_trial
from automl.study.setup import Setup
from automl.util.columns import align
from automl.util.duration import duration
from search_spaces.operators.base import Listing


def inspection(setup: Setup) -> Iterator[str]:
    """The groups, what is fixed, the reach of each cost, and the time an evaluation takes here, one after the other."""
    yield _listed(setup)
    yield _reach(setup)
    yield _time(setup)


def _listed(setup: Setup) -> str:
    """What each operator can change, and what has to stay and why."""
    listings = [listing for operator in setup.space.operators for listing in operator.inventory()]
    return "\n".join(_table(listing) for listing in listings)


def _table(listing: Listing) -> str:
    title = f"{listing.title}\n" if listing.title else ""
    return f"{title}{align([listing.columns, *listing.rows], left=listing.left)}\n" if listing.rows else title


def _reach(setup: Setup) -> str:
    space = setup.space
    lines = [["cost", "smallest", "original", "budget"]]
    for metric in space.metrics:
        low, high = (space.cost_of_levels(levels, metric) for levels in (space.lowest, space.original_levels))
        limit = shown(setup.limits[metric]) if metric in setup.limits else "-"
        lines.append([metric, f"{shown(low)} ({low / high:.1%})", shown(high), limit])
    return align(lines) + "\n"


def _time(setup: Setup) -> str:
    config = setup.config
    started = time.perf_counter()
    setup.evaluator.prepare()
    prepared = time.perf_counter() - started
    point = setup.space.project(np.ones(len(setup.space.knobs)), setup.limits)
    outcome = run_trial(setup.evaluator, point)
    if outcome.reason:
        return f"a trial at the uniform choice is {outcome.state}: {outcome.reason}"
    trials = sum(1 if agent.name == "uniform" else config.trials for agent, _ in config.lanes)
    whole = prepared + trials * outcome.wall_s / min(config.runner.workers, trials)
    return (
        f"preparation {duration(prepared)}, an evaluation {duration(outcome.wall_s)} on {setup.threads} threads; "
        f"{trials} trials with {config.runner.workers} workers take about {duration(whole)}, the agents' own time apart"
    )

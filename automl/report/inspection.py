"""What a study can change, what it can reach, how long it takes: the text of `automl inspect`."""

from __future__ import annotations

import math
from collections.abc import Iterator

from automl.report.foretelling import TrialFailedError, foretell, peak_bytes
from automl.study.setup import Setup
from automl.util.columns import align
from automl.util.duration import duration
from automl.util.quantities import shown
from search_spaces.operators.base import Listing


def inspection(setup: Setup) -> Iterator[str]:
    """The groups, what is fixed, the reach of each cost, and the time that each phase takes, one after the other."""
    yield _listed(setup)
    yield _reach(setup)
    yield _time(setup)


def _listed(setup: Setup) -> str:
    """What each operator can change, and what has to stay and why."""
    if setup.network_space is None:
        return _table(_choices(setup))
    listings = [listing for operator in setup.network_space.operators for listing in operator.inventory()]
    return "\n".join(_table(listing) for listing in listings)


def _choices(setup: Setup) -> Listing:
    """The decisions that make a network from nothing."""
    rows = tuple((knob.name, ", ".join(map(knob.shown, knob.levels))) for knob in setup.space.knobs)
    return Listing("whole networks, made from nothing", ("choice", "of"), rows, left=(0, 1))


def _table(listing: Listing) -> str:
    title = f"{listing.title}\n" if listing.title else ""
    return f"{title}{align([listing.columns, *listing.rows], left=listing.left)}\n" if listing.rows else title


def _reach(setup: Setup) -> str:
    space = setup.space
    lines = [["cost", "smallest", "original", "budget"]]
    for metric in space.metrics:
        low = space.least_costs({metric: math.inf})[metric]
        high = space.cost_of_levels(space.original_levels, metric)
        limit = shown(setup.limits[metric]) if metric in setup.limits else "-"
        lines.append([metric, f"{shown(low)} ({low / high:.1%})", shown(high), limit])
    return align(lines) + "\n"


def _time(setup: Setup) -> str:
    lines = [["phase", "", "each", "in all"]]
    whole = 0.0
    try:
        for phase in foretell(setup):
            each = duration(phase.each_s) if phase.what else ""
            lines.append([phase.name, phase.what, each, duration(phase.all_s)])
            whole += phase.all_s
    except TrialFailedError as error:
        return str(error)
    total = f"about {duration(whole)} on {setup.threads} threads, the agents' own time apart"
    return f"{align(lines, left=(0, 1))}\n{total}; up to {peak_bytes() / 1e9:.1f} GB in this process"

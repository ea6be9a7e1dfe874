"""What a study can change, what it can reach, how long it takes: the text of `automl inspect`."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence

import numpy as np

from automl.measures.counts import shown
from automl.runners import run_trial
from automl.study.setup import Setup
from automl.util.columns import align
from automl.util.duration import duration
from search_spaces import DepthSpace, WeightSpace


def inspection(setup: Setup) -> Iterator[str]:
    """The groups, what is fixed, the reach of each cost, and the time an evaluation takes here, one after the other."""
    yield _groups(setup)
    yield _fixed(setup)
    yield _reach(setup)
    yield _time(setup)


def _groups(setup: Setup) -> str:
    space = setup.space
    if isinstance(space, WeightSpace):
        return _tensors(space)
    lines = [["group", "channels", "fewest", "MACs", "layers"]]
    widths = [knob for knob in space.knobs if knob.unit == "channels"]
    for group, knob in zip(space.groups, widths, strict=True):
        share = f"{space.macs_share(group.name):.1%}"
        lines.append([group.name, str(group.size), str(knob.levels[0]), share, _first(group.layers)])
    text = f"{len(space.groups)} groups of channels that stay or go together (MACs: share in which they take part)\n"
    text += f"{align(lines, left=(0, 4))}\n"
    return text + _blocks(space) if isinstance(space, DepthSpace) else text


def _blocks(space: DepthSpace) -> str:
    """The blocks that can be removed, and the skips that can be added."""
    lines = [["block", "kind", "MACs", "parameters", "layers"]]
    whole = {metric: space.cost_of_levels(space.original_levels, metric) for metric in ("macs", "params")}
    for t, block in enumerate(space.blocks):
        levels = space.original_levels
        levels[t] = 0
        shares = [f"{1 - space.cost_of_levels(levels, metric) / cost:.1%}" for metric, cost in whole.items()]
        lines.append([block.name, block.kind, *shares, _first(block.layers)])
    text = f"\n{len(space.blocks)} blocks that can be removed (MACs, parameters: share that goes with it)\n"
    text += f"{align(lines, left=(0, 1, 4))}\n"
    skips = ", ".join(f"{source.name} to {target.name}" for source, target in space.skips)
    return text + (f"{len(space.skips)} skips can be added: {skips}\n" if skips else "")


def _tensors(space: WeightSpace) -> str:
    lines = [["tensor", "weights", "fewest", "shape", "layers"]]
    for tensor, knob in zip(space.tensors, space.knobs, strict=True):
        shape = "x".join(map(str, tensor.shape))
        lines.append([tensor.name, f"{tensor.size:,}", f"{knob.levels[0]:,}", shape, _first(tensor.layers)])
    return f"{len(space.tensors)} tensors of which single weights can go\n{align(lines, left=(0, 4))}\n"


def _first(layers: Sequence[str], n: int = 3) -> str:
    more = f" and {len(layers) - n} more" if len(layers) > n else ""
    return ", ".join(layers[:n]) + more


def _fixed(setup: Setup) -> str:
    space = setup.space
    if isinstance(space, WeightSpace):
        lines = [["stays whole", "weights", "reason"]]
        lines += [[whole.name, f"{whole.weights:,}", whole.reason] for whole in space.whole]
        return f"{align(lines, left=(0, 2))}\n" if space.whole else "no tensor has to stay whole\n"
    if not space.fixed:
        return "nothing is fixed\n"
    lines = [["cannot change", "channels", "reason"]]
    lines += [[fixed.name, str(fixed.channels), fixed.reason] for fixed in space.fixed]
    strange = [f"{name} ({function})" for name, function in space.not_understood.items()]
    told = f"\nnot understood, so left as it is: {', '.join(strange)}" if strange else ""
    return f"{align(lines, left=(0, 2))}{told}\n"


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

"""The operators of a study, held to what is fast on the backend that a budget limits the latency on."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from torch import Tensor, nn

from automl.config.latency import LatencyOptions
from automl.config.study import StudyConfig
from automl.errors import ConfigError
from automl.export.chains import chain_runner
from automl.export.timing import place
from automl.measures.fast_ranks import EVERY, fast_shares
from automl.measures.fast_widths import FastStep, fast_step
from automl.measures.piece_times import measured_grids
from automl.measures.pieces import Grid, Shape, shapes_of
from automl.study.known_pieces import Tables, known_grids
from automl.tasks.problem import Problem
from automl.types import Say
from search_spaces import NetworkSpace, Rank
from search_spaces.operators.options import ChannelsOptions, Options, RankOptions

STEP, SHARES = "fast_step", "fast_shares"
"""Under what a study records the step of widths and the shares of rank that were measured."""


@dataclass(frozen=True)
class FastShapes:
    """What was measured to be fast."""

    step: FastStep | None = None
    """Of widths, if `latency.fast_widths` asks for it."""
    shares: Mapping[str, float] | None = None
    """Layer -> the largest share of its break-even rank at which its factors are faster, or 0; None: unknown."""
    grids: Mapping[Shape, Grid] = field(default_factory=dict)
    """What was timed to find out, for the model of latency."""

    def to_record(self) -> dict[str, Any]:
        """Plain data, but for the grids, which go with the model."""
        step = {} if self.step is None else {STEP: {"step": self.step.step, "ratio": self.step.ratio}}
        return {**step, **({} if self.shares is None else {SHARES: dict(self.shares)})}

    @classmethod
    def from_record(cls, told: Mapping[str, Any]) -> FastShapes:
        """The inverse of `to_record`."""
        return cls(FastStep(**told[STEP]) if STEP in told else None, told.get(SHARES))


def fast_operators(
    config: StudyConfig, problem: Problem, recorded: Mapping[str, Any] | None, tables: Tables, say: Say
) -> tuple[dict[str, Options], FastShapes]:
    """Hold the operators that a study searches to what was measured to be fast, and say what that is.

    What is on record is used again: other widths and ranks would be another space. Ranks that save no time are left out
    where latency is the only limit; with others they may be worth having.
    """
    operators, term = dict(config.space.operators), config.parsed_budget.latency
    if term is None:
        return operators, FastShapes()
    options, known = config.latency or LatencyOptions(), FastShapes.from_record(recorded or {})
    step, channels = known.step, operators.get("channels")
    if options.fast_widths and isinstance(channels, ChannelsOptions):
        step = step or measured_step(problem.model, problem.example_inputs, options, term.backend, say)
        operators["channels"] = replace(channels, round_to=math.lcm(step.step, channels.round_to))
    found, rank = replace(known, step=step), operators.get("rank")
    if isinstance(rank, RankOptions) and len(config.parsed_budget.terms) == 1:
        if recorded is None:
            space = NetworkSpace(problem.model, problem.example_inputs, operators)
            found = replace(found, **_measured_shares(space, options, term.backend, tables, say))
        operators = _held(operators, rank, found.shares or {}, term.backend)
    return operators, found


def measured_step(
    network: nn.Module, inputs: tuple[Tensor, ...], options: LatencyOptions, backend: str, say: Say
) -> FastStep:
    """Measure the step of widths on the network's dearest layer that has no groups."""
    space = NetworkSpace(network, inputs, {"channels": None})
    sizes = [(tensor.macs, shape) for tensor, shape in zip(space.basis.terms.tensors, shapes_of(space), strict=True)]
    _, shape = max(((macs, shape) for macs, shape in sizes if shape.groups == 1), default=max(sizes))
    make = chain_runner(backend, options.batch, options.threads)
    step = fast_step(make, shape, max(group.size for group in space.groups), options.threads)
    told = f"saves {1 - step.ratio:.0%} of the time of layers" if step.step > 1 else "saves nothing"
    say(f"widths are multiples of {step.step}: rounding up to them {told} on {backend}")
    return step


def _measured_shares(
    space: NetworkSpace, options: LatencyOptions, backend: str, tables: Tables, say: Say
) -> dict[str, Any]:
    """The fields `shares` and `grids` of `FastShapes`."""
    make = chain_runner(backend, options.batch, options.threads)
    known = known_grids(tables(), place(backend, options.threads), options.batch)
    grids = measured_grids(space, options, make, say, known)
    shares = fast_shares(space, grids)
    if EVERY in shares:
        say(f"no layer is faster on {backend} as factors than whole: rank is left out")
    elif shares:
        whole, layers = sum(share == 0 for share in shares.values()), len(space.operator(Rank).knobs)
        say(
            f"{whole} of {layers} layers stay whole and {len(shares) - whole} are offered only small ranks: at others "
            f"factors are no faster on {backend}"
        )
    return {"shares": shares, "grids": grids}


def _held(
    operators: Mapping[str, Options], rank: RankOptions, shares: Mapping[str, float], backend: str
) -> dict[str, Options]:
    """The operators with ranks of at most `shares`. Raises `ConfigError` where that leaves nothing to search."""
    if EVERY not in shares:
        least = {name: min(share, rank.at_most.get(name, 1.0)) for name, share in shares.items()}
        return {**operators, "rank": replace(rank, at_most={**rank.at_most, **least})}
    rest = {name: options for name, options in operators.items() if name != "rank"}
    if not rest:
        raise ConfigError(
            f"no layer of this network is faster on {backend} as factors than whole, so that rank alone cannot keep a "
            "limit on latency: search `space: [depth, channels]`, or limit another cost"
        )
    return rest

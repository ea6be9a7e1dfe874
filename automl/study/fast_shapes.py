"""The operators of a study, held to what is fast on the backend that a budget limits the latency on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from torch import Tensor, nn

from automl.config.latency import EAGER, LatencyOptions
from automl.config.study import StudyConfig
from automl.errors import ConfigError
from automl.export.chains import chain_runner
from automl.export.timing import place
from automl.measures.fast_ranks import fast_shares
from automl.measures.fast_widths import EVERY, fast_widths
from automl.measures.piece_times import measured_grids
from automl.measures.pieces import Grid, Shape
from automl.study.known_pieces import Tables, known_grids
from automl.tasks.problem import Problem
from automl.types import Say
from search_spaces import NetworkSpace, Rank
from search_spaces.operators.options import ChannelsOptions, Options, RankOptions

WIDTHS, SHARES = "fast_widths", "fast_shares"
"""Under what a study records the widths and the shares of rank that were measured."""


@dataclass(frozen=True)
class FastShapes:
    """What was measured to be fast."""

    widths: Mapping[str, tuple[int, ...]] | None = None
    """Group -> its widths that are faster than any greater one; None: not measured."""
    shares: Mapping[str, float] | None = None
    """Layer -> the largest share of its break-even rank at which its factors are faster, or 0; None: not measured."""
    grids: Mapping[Shape, Grid] = field(default_factory=dict)
    """What was timed to find out, for the model of latency."""

    def to_record(self) -> dict[str, Any]:
        """Plain data, but for the grids, which go with the model."""
        widths = {} if self.widths is None else {WIDTHS: {name: list(found) for name, found in self.widths.items()}}
        return {**widths, **({} if self.shares is None else {SHARES: dict(self.shares)})}

    @classmethod
    def from_record(cls, told: Mapping[str, Any]) -> FastShapes:
        """The inverse of `to_record`."""
        widths = {name: tuple(found) for name, found in told[WIDTHS].items()} if WIDTHS in told else None
        return cls(widths, told.get(SHARES))


def fast_operators(
    config: StudyConfig, problem: Problem, recorded: Mapping[str, Any] | None, tables: Tables, say: Say
) -> tuple[dict[str, Options], FastShapes]:
    """Hold the operators that a study searches to what was measured to be fast, and say what that is.

    What is on record is used again: other widths and ranks would be another space. Where latency is the only limit,
    widths and ranks that save no time are left out; with others they may be worth having.
    """
    operators, term = dict(config.space.operators), config.parsed_budget.latency
    if term is None:
        return operators, FastShapes()
    options, found = config.latency or LatencyOptions(), FastShapes.from_record(recorded or {})
    alone = len(config.parsed_budget.terms) == 1
    wanted = options.fast_widths
    if wanted is None:
        wanted = alone and not (term.backend == EAGER and set(operators) == {"channels"})
    if wanted and "channels" in operators:
        if recorded is None:
            widths = measured_widths(problem.model, problem.example_inputs, operators, options, term.backend, say)
            found = replace(found, widths=widths)
        operators = held_to_widths(operators, found.widths or {}, term.backend)
    if alone and "rank" in operators:
        if recorded is None:
            space = NetworkSpace(problem.model, problem.example_inputs, operators)
            found = replace(found, **_measured_shares(space, options, term.backend, tables, say))
        operators = held_to_shares(operators, found.shares or {}, term.backend)
    return operators, found


def measured_widths(
    network: nn.Module,
    inputs: tuple[Tensor, ...],
    operators: Mapping[str, Options],
    options: LatencyOptions,
    backend: str,
    say: Say,
) -> dict[str, tuple[int, ...]]:
    """Measure the widths of each group of channels that are faster than any greater one."""
    space = NetworkSpace(network, inputs, {"channels": operators["channels"]})
    say("measuring at which widths layers are faster")
    found = fast_widths(space, chain_runner(backend, options.batch, options.threads), options.threads)
    if EVERY in found:
        say(f"no group of channels is faster on {backend} at any narrower width: channels is left out")
    else:
        whole, counts = sum(not widths for widths in found.values()), sorted(len(w) + 1 for w in found.values() if w)
        say(
            f"{len(counts)} groups of channels are offered the {counts[0]} to {counts[-1]} widths that are faster on "
            f"{backend} than greater ones; {whole} stay whole, as none is"
        )
    return found


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


def held_to_widths(
    operators: Mapping[str, Options], widths: Mapping[str, tuple[int, ...]], backend: str
) -> dict[str, Options]:
    """The operators with `widths` alone. Raises `ConfigError` where that leaves nothing to search."""
    channels = operators["channels"]
    assert isinstance(channels, ChannelsOptions)
    if EVERY in widths:
        return _without("channels", operators, f"no group of channels is faster on {backend} when it is narrower")
    both = {n: tuple(w for w in ours if w in channels.widths.get(n, ours)) for n, ours in widths.items()}
    return {**operators, "channels": replace(channels, widths={**channels.widths, **both})}


def held_to_shares(operators: Mapping[str, Options], shares: Mapping[str, float], backend: str) -> dict[str, Options]:
    """The operators with ranks of at most `shares`. Raises `ConfigError` where that leaves nothing to search."""
    rank = operators["rank"]
    assert isinstance(rank, RankOptions)
    if EVERY in shares:
        return _without("rank", operators, f"no layer is faster on {backend} as factors than whole")
    least = {name: min(share, rank.at_most.get(name, 1.0)) for name, share in shares.items()}
    return {**operators, "rank": replace(rank, at_most={**rank.at_most, **least})}


def _without(name: str, operators: Mapping[str, Options], why: str) -> dict[str, Options]:
    """The other operators; `ConfigError` if there are none."""
    if rest := {other: options for other, options in operators.items() if other != name}:
        return rest
    raise ConfigError(
        f"{why}, so that {name} alone cannot keep a limit on latency: search more, such as `space: [depth, channels]`, "
        "or limit another cost"
    )

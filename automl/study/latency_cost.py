"""The cost by which a search keeps a limit on latency: a table of widths, or a model of pieces."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

from torch import nn

from automl.config.budget import Term
from automl.config.latency import EAGER, LatencyOptions
from automl.config.study import StudyConfig
from automl.export.chains import chain_runner
from automl.export.timing import ComparerOnBackend, place
from automl.measures.backends.side_by_side import Effort
from automl.measures.fast_ranks import fast_shares
from automl.measures.fast_widths import EVERY
from automl.measures.latency import LatencyComparison, batch_of, compare_latency
from automl.measures.latency_model import LatencyTable, measure_latency_table
from automl.measures.piece_times import measure_pieces
from automl.measures.pieces import Grid, PieceCost, PieceModel, Shape, shapes_of
from automl.study.known_pieces import Tables, known_grids
from automl.study.latency_at_limit import scaled_at_limit
from automl.tasks.problem import Problem
from automl.types import Say
from search_spaces import InfeasibleBudgetError, NetworkSpace, OfSheet, Plan

Predictor = LatencyTable | PieceModel
Comparer = Callable[[Mapping[str, nn.Module]], LatencyComparison]
"""Times networks in turn, the first as it is in float32."""
EFFORT = Effort(rounds=60, seconds=10.0, half_width=0.02)
"""For the whole networks of a model of pieces."""


def latency_cost(
    problem: Problem,
    space: NetworkSpace,
    config: StudyConfig,
    recorded: Mapping[str, Any] | None,
    tables: Tables,
    timed: Mapping[Shape, Grid],
    say: Say,
) -> tuple[Predictor, LatencyTable | OfSheet]:
    """What predicts the latency of the networks of `space`, and what it makes of levels, [n_knobs].

    Widths alone in eager PyTorch have a table, in which the network itself is timed with each group narrowed. All else,
    other operators and other backends, has a model of pieces. What is on record is used again: agents that are told of
    their trials anew must meet the same wall. Of shapes that have just been `timed`, or that the models of other
    studies, `tables`, know on this device, nothing is measured again.
    """
    term, options = config.parsed_budget.latency, config.latency or LatencyOptions()
    assert term is not None
    told = (recorded or {}).get("latency_table")
    predictor: Predictor
    if _has_table(term, config):
        table = LatencyTable.from_record(told, space) if told else None
        predictor = table or measure_latency_table(space, problem.example_inputs, options, say)
    elif told:
        predictor = PieceModel.from_record(told)
    else:
        make = chain_runner(term.backend, options.batch, options.threads)
        compare = comparer(problem, config, EFFORT)
        # What has just been timed has in it what others know of a space that this one lies within.
        known = timed or known_grids(tables(), place(term.backend, options.threads), options.batch)
        original = space.build(Plan()).eval()  # one for all comparisons, which then export it once
        model = measure_pieces(space, original, options, make, compare, say, known)
        predictor = replace(model, grids={**timed, **model.grids})  # others may want what this one does not
        say(f"predicted latencies of networks that were held out are off by {predictor.held_out:.1%} on average")
        predictor = scaled_at_limit(predictor, space, original, term.limit(predictor.original_ms), compare, say)
        if len(config.parsed_budget.terms) > 1:
            _name_slower(space, predictor.grids, term.backend, say)
    if told is None and predictor.unsteady:
        say(predictor.unsteady)
    return predictor, cost_of(predictor, space)


def cost_of(predictor: Predictor, space: NetworkSpace) -> LatencyTable | OfSheet:
    """The cost by which budgets on latency are kept in `space`."""
    if isinstance(predictor, LatencyTable):
        return predictor
    return OfSheet(PieceCost(shapes_of(space), predictor), many=True)


def comparer(problem: Problem, config: StudyConfig, effort: Effort) -> Comparer:
    """What times whole networks as the study's limit on latency has it."""
    term, options = config.parsed_budget.latency, config.latency or LatencyOptions()
    assert term is not None
    inputs = batch_of(problem.example_inputs, options.batch)
    if _has_table(term, config):
        return partial(compare_latency, inputs=inputs, threads=options.threads, effort=effort)
    return ComparerOnBackend(term.backend, inputs, options.threads, effort)


def _has_table(term: Term, config: StudyConfig) -> bool:
    """Whether latency is foretold by a table of widths."""
    return term.backend == EAGER and set(config.space.operators) == {"channels"}


def _name_slower(space: NetworkSpace, grids: Mapping[Shape, Grid], backend: str, say: Say) -> None:
    """Name the layers of which factors save no time, where other limits may want them all the same."""
    slower = [name for name, share in fast_shares(space, grids).items() if not share]
    if EVERY in slower:
        say(f"no layer is faster on {backend} as factors than whole: leave out rank, if the other limits allow it")
    elif slower:
        say(
            f"{len(slower)} layers are slower on {backend} as factors of any rank than whole: leave them whole by "
            f"`rank: {{exclude: [{', '.join(slower)}]}}`, if the other limits allow it"
        )


def require_reachable(space: NetworkSpace, term: Term, original_ms: float) -> None:
    """Raise `InfeasibleBudgetError` unless some network is predicted to keep the limit on latency.

    `original_ms`: of the original in float32, of which shares are: the whole space may be faster than that.
    """
    fastest, limit = space.least_costs({term.metric: 0.0})[term.metric], term.limit(original_ms)
    if fastest <= limit:
        return
    others = [name for name in ("depth", "channels") if name not in {operator.name for operator in space.operators}]
    raise InfeasibleBudgetError(
        f"no network in the space is predicted to take at most {limit:.3g} ms on {term.backend}, "
        f"{limit / original_ms:.1%} of the original's time in float32: the fastest takes {fastest:.3g} ms, "
        f"{fastest / original_ms:.1%}. Raise the budget, lower `min_keep` or `round_to`"
        f"{''.join(f', search `{name}` too' for name in others)}, or limit the latency on a faster backend"
    )

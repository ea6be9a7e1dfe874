"""How good an agent is, by a table: its regret trial by trial, without a database, in one process."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

import agents
from agents import Agent, Trial, TrialState, trials_of_use
from automl.benchmark.tabular import Table
from search_spaces import Point

if TYPE_CHECKING:
    import pandas as pd

COLUMNS = ("agent", "seed", "trial", "state", "value", "best", "regret")


def judge(
    name: str, table: Table, *, seeds: Iterable[int], trials: int, options: Mapping[str, Any] | None = None
) -> pd.DataFrame:
    """Let agent `name` search `table` within its limits, once a seed, one trial after the other.

    One row a trial: agent, seed, trial (from 0), state, value (of the goal's metric; NaN unless the trial is done),
    best (so far), regret (by how much the best Point of the table within the limits is better; 0 is perfect). `best`
    and `regret` are NaN until a trial is done. An agent that has nothing more to try has fewer rows. A Point proposed
    again counts as a trial, as in a study. Errors: `AgentError`, `InfeasibleBudgetError`, `TableError`.
    """
    import pandas as pd

    rows = [row for seed in seeds for row in _lane(name, table, seed, trials, options or {})]
    return pd.DataFrame(rows, columns=list(COLUMNS))


def play(
    name: str,
    table: Table,
    seed: int,
    trials: int,
    options: Mapping[str, Any] | None = None,
    start: Sequence[Point] = (),
) -> Iterator[Trial]:
    """The trials of agent `name` on `table`, one after the other, each once the agent has been told of it.

    Those at `start` come first, and the agent is told of them as if it had proposed them.
    """
    agent = agent_for(table, name, seed, trials, **(options or {}))
    for number in range(trials_of_use(agent, trials)):
        points = start[number : number + 1] or agent.ask(1, [])
        if not points:
            break
        outcome = table.evaluate(points[0])
        trial = Trial(number, points[0], outcome.state, outcome.values, outcome.reason)
        agent.tell([trial])
        yield trial


def evaluations_until(
    name: str,
    table: Table,
    value: float,
    *,
    seed: int,
    trials: int,
    options: Mapping[str, Any] | None = None,
    start: Sequence[Point] = (),
) -> int | None:
    """How many different Points agent `name` has evaluated when one is at least as good as `value`; None if none is.

    What has been evaluated is in the record, so that a Point proposed again costs a trial and no evaluation. Points at
    `start` are evaluated first and count.
    """
    wanted, goal, seen = table.goal.utility(value), table.goal, set()
    for trial in play(name, table, seed, trials, options, start):
        seen.add(trial.point)
        if trial.state is TrialState.DONE and trial.utility(goal) >= wanted:
            return len(seen)
    return None


def _lane(name: str, table: Table, seed: int, trials: int, options: Mapping[str, Any]) -> list[tuple[Any, ...]]:
    goal, optimum = table.goal, table.goal.utility(table.optimum)
    rows: list[tuple[Any, ...]] = []
    best = -np.inf
    for trial in play(name, table, seed, trials, options):
        value = np.nan
        if trial.state is TrialState.DONE:
            value = trial.values[goal.metric]
            best = max(best, goal.utility(value))
        so_far = (goal.utility(best), optimum - best) if np.isfinite(best) else (np.nan, np.nan)
        rows.append((name, seed, trial.number, trial.state.value, value, *so_far))
    return rows


def agent_for(table: Table, name: str, seed: int, trials: int, **options: Any) -> Agent:
    """Agent `name`, new, to search `table` within its limits."""
    return agents.create(
        name,
        space=table.space,
        goal=table.goal,
        limits=table.limits,
        seed=seed,
        trials=trials,
        sensitivity=table.sensitivity if agents.uses_sensitivity(name) else None,
        **options,
    )


def regret_after(judged: pd.DataFrame, trials: int) -> pd.Series:
    """The regret of each seed after `trials` trials, or after the last one it had: indexed by seed."""
    early = judged[judged["trial"] < trials]
    return early.sort_values("trial").groupby("seed")["regret"].last()

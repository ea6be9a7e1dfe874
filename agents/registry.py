"""Agents by name: ours, those of installed packages, and `module:Class` of the user's own.

An agent's file, and what it imports, is loaded when the agent is first asked for. A package offers agents by entry
points of the group `automl.agents`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from difflib import get_close_matches
from importlib import import_module
from typing import TYPE_CHECKING, cast

from agents.errors import AgentError
from agents.types import Agent, Goal, Sensitivity, Task, trials_of_use
from search_spaces import Offered, Space

if TYPE_CHECKING:
    from agents.base import NumberedAgent

_AGENTS = {
    "uniform": ("agents.uniform", "Uniform"),
    "random": ("agents.random_search", "RandomSearch"),
    "amc": ("agents.amc", "Amc"),
    "amc_warm": ("agents.amc", "AmcWarm"),
    "allocation": ("agents.allocation", "Allocation"),
    "exact": ("agents.exact", "Exact"),
    "thompson": ("agents.thompson", "Thompson"),
    "evolution": ("agents.evolution", "Evolution"),
    "netadapt": ("agents.netadapt", "NetAdapt"),
    "tpe": ("agents.optuna_samplers", "Tpe"),
    "cmaes": ("agents.optuna_samplers", "CmaEs"),
    "nsga2": ("agents.optuna_samplers", "Nsga2"),
    "bo": ("agents.bo", "Bo"),
    "esnac": ("agents.esnac", "Esnac"),
    "n2n": ("agents.n2n", "N2n"),
    "local_search": ("agents.local_search", "LocalSearch"),
    "controller": ("agents.controller", "Controller"),
    "predictor": ("agents.predictor", "Predictor"),
    "gates": ("agents.gates", "Gates"),
    "layer_by_layer": ("agents.layer_by_layer", "LayerByLayer"),
}


def _is_agent(name: str, found: object) -> bool:
    from agents.base import NumberedAgent

    return isinstance(found, type) and issubclass(found, NumberedAgent)


EXPECTED = "a subclass of agents.NumberedAgent"
_OFFERED: Offered[type[NumberedAgent]] = Offered("automl.agents", EXPECTED, _is_agent, lambda: [*_AGENTS], AgentError)


def names() -> list[str]:
    """The names `create` knows, beside `module:Class`."""
    return [*_AGENTS, *_OFFERED.names()]


def sound_names() -> list[str]:
    """Those of them that can be loaded: of a package that brings a broken agent a line is logged."""
    return [*_AGENTS, *_OFFERED.sound()]


def is_own(name: str) -> bool:
    """Whether a name is `module:Class`, code of the user's own."""
    return ":" in name


def check_options(name: str, options: Mapping[str, object]) -> None:
    """Raise `AgentError` unless agent `name` exists and takes these options; needs no space."""
    _options(_load(name), name, options)


def options(name: str) -> type:
    """The dataclass whose fields are the options of agent `name`."""
    return _load(name).Options


def uses_sensitivity(name: str) -> bool:
    """Whether agent `name` can make use of a `Sensitivity`."""
    return _load(name).uses_sensitivity


def learns_widths(name: str) -> bool:
    """Whether agent `name` proposes what gates have learnt, and so needs them trained before it is created."""
    return _load(name).learns_widths


def takes_choices(name: str) -> bool:
    """Whether agent `name` takes knobs whose levels have no order of cost."""
    return _load(name).takes_choices


def planned(name: str, trials: int) -> int:
    """How many of `trials` agent `name` makes use of."""
    return trials_of_use(_load(name), trials)


def create(
    name: str,
    *,
    space: Space,
    goal: Goal,
    limits: Mapping[str, float],
    seed: int,
    trials: int,
    sensitivity: Sensitivity | None = None,
    learnt: Mapping[str, float] | None = None,
    **options: object,
) -> Agent:
    """The agent `name`, new: it knows only what it is told.

    `limits` maps cost metrics of `space` to upper limits in absolute units; every Point proposed keeps them, if the
    agent `stays_within`.
    `trials` is how many trials are planned; schedules such as AMC's noise span them. Unknown names, unknown or
    senseless options and arguments raise `AgentError`, a budget nothing can meet `InfeasibleBudgetError`.
    """
    agent = _load(name)
    _require_order(name, agent, space)
    space.require_feasible(limits)
    return agent(Task(space, goal, limits, seed, trials, sensitivity, learnt), _options(agent, name, options))


def _require_order(name: str, agent: type[NumberedAgent], space: Space) -> None:
    choice = next((knob for knob in space.knobs if knob.kind == "choice"), None)
    if choice is not None and not agent.takes_choices:
        able = ", ".join(filter(takes_choices, sound_names()))
        labels = ", ".join(choice.shown(level) for level in choice.levels)
        raise AgentError(
            f"agent {name!r} needs knobs whose levels have an order of cost, and {choice.name!r} is a choice of "
            f"{labels}: search this space with one of {able}"
        )


def _load(name: str) -> type[NumberedAgent]:
    if name in _AGENTS:
        module, attribute = _AGENTS[name]
        agent: type[NumberedAgent] = getattr(import_module(module), attribute)
        return agent
    if is_own(name):
        return _own(name)
    if name in _OFFERED.names():
        return _OFFERED.load(name)
    there_are = f"there are {', '.join(names())}, and your own as 'module:Class'"
    raise AgentError(f"unknown agent {name!r}{_nearest(name, names())}: {there_are}")


def _own(name: str) -> type[NumberedAgent]:
    """The class `module:Class` of the user's own."""
    module, _, attribute = name.partition(":")
    try:
        agent = getattr(import_module(module), attribute, None)
    except Exception as error:  # a user's module raises whatever it likes
        raise AgentError(
            f"cannot import {module!r} for agent {name!r}: {type(error).__name__}: {error}. The module must lie beside "
            f"the study file or be installed"
        ) from error
    if not _is_agent(name, agent):
        raise AgentError(f"agent {name!r}: expected {EXPECTED}, got {agent!r:.80}")
    return cast("type[NumberedAgent]", agent)


def _options(agent: type[NumberedAgent], name: str, options: Mapping[str, object]) -> object:
    known = [field.name for field in fields(agent.Options)]
    for option in options:
        if option not in known:
            there_are = f"its options are {', '.join(known)}" if known else "it has no options"
            raise AgentError(f"agent {name!r} has no option {option!r}{_nearest(option, known)}: {there_are}")
    return agent.Options(**options)


def _nearest(word: str, known: list[str]) -> str:
    found = get_close_matches(word, known, 1, 0.5)
    return f" (did you mean {found[0]!r}?)" if found else ""

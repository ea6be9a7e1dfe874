"""What was kept, layer by layer: each choice of the network that was reported, beside that of another."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from automl.report.html import words
from automl.report.html.as_recorded import AsRecorded
from automl.store import TrialRecord
from search_spaces import Knob

BESIDE = "uniform"
"""Whose choices are shown beside those of the winner."""


@dataclass(frozen=True)
class Choice:
    """A level as people call it, and the fraction kept, in [0, 1]; None where levels are no amounts."""

    text: str
    keep: float | None


@dataclass(frozen=True)
class Kept:
    """One knob: what it decides about, what of the cost hangs on it, and what was chosen."""

    name: str
    unit: str
    """"" where all have one."""
    shares: Sequence[float]
    """The part of each cost of the original that goes when this knob alone goes to its lowest level."""
    choices: Sequence[Choice]


@dataclass(frozen=True)
class KeptRows:
    """All knobs, with the networks that are compared and the costs whose shares are known."""

    heading: str
    """What the knobs are, with their unit if they have one."""
    networks: Sequence[str]
    costs: Sequence[str]
    rows: Sequence[Kept]
    caption: str


def kept_rows(study: AsRecorded) -> KeptRows | None:
    """What the winner kept beside uniform, or the study's agent if uniform won; None without a winner."""
    if study.winner is None:
        return None
    agent = BESIDE if study.winner.agent != BESIDE else study.main_agent
    beside = [best for (name, _), lane in study.lanes.items() if name == agent and (best := study.best(lane))]
    networks: list[TrialRecord] = [study.winner, *beside[:1]]
    shares = study.config.get("shares") or {}
    units = list(dict.fromkeys(knob.unit for knob in study.knobs))
    wanted = list(study.limits) or ["macs"]
    costs = [cost for cost in wanted if len(shares.get(cost, ())) == len(study.knobs)]
    rows = [
        Kept(
            knob.name,
            knob.unit if len(units) > 1 else "",
            [float(shares[cost][i]) for cost in costs],
            [_choice(knob, trial.point[knob.name]) for trial in networks if knob.name in trial.point],
        )
        for i, knob in enumerate(study.knobs)
    ]
    titles = [f"{t.agent}{' (winner)' if t is study.winner else ''}" for t in networks]
    heading = f"choice ({units[0]})" if len(units) == 1 else "choice"
    return KeptRows(heading, titles, costs, rows, _caption(study, costs))


def _choice(knob: Knob, level: int) -> Choice:
    if knob.kind == "choice":
        return Choice(knob.shown(level), None)
    if knob.kind == "free":
        return Choice("added" if level else "none", None)
    if knob.kind == "gate":
        text = "kept" if level else "removed"
    else:
        text = knob.shown(level) if knob.labels else f"{level:,} of {knob.size:,}"
    return Choice(text, min(1.0, max(0.0, knob.keep(level))))


def _caption(study: AsRecorded, costs: Sequence[str]) -> str:
    if costs:
        names = words.listed([words.cost_name(cost) for cost in costs])
        text = (
            f"Share of {names}: what of the {study.compared_with}'s goes when this choice alone goes to its lowest. "
            f"Layers that are coupled share costs, so that shares may add up to more than all."
        )
    else:
        text = "The record was begun before each choice's share of the cost was written down, so it is left out."
    if (((study.config.get("finish") or {}).get("stages")) or {}).get("cut") == "greedy":
        text += " The widths of a network cut greedily in stages were found on the way: its export's manifest has them."
    return text

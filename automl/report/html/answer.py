"""The question of a study, and its answer in three sentences: what was found, beside what, at what cost."""

from __future__ import annotations

import math
from collections.abc import Mapping

from automl.config.model import FROM_NOTHING
from automl.report.html import words
from automl.report.html.as_recorded import AsRecorded
from automl.store import TrialRecord
from automl.study.selection import final
from automl.types import Phase


def question(study: AsRecorded) -> str:
    """What the study was to find."""
    model, goal = study.config.get("model"), study.goal
    name = model.get("name", "the network") if isinstance(model, Mapping) else str(model or "the network")
    budget = study.config.get("budget") or []
    terms = [_pretty(term) for term in ([budget] if isinstance(budget, str) else budget)]
    within = f" within {words.listed(terms)}" if terms else ""
    sought = "highest" if goal.direction == "maximize" else "lowest"
    guarantee = study.config.get("guarantee")
    kept = f", with {_pretty(guarantee)} guaranteed" if guarantee else ""
    which = "network" if name == FROM_NOTHING else f"form of {name}"
    return f"Which {which} has the {sought} {goal.metric.replace('_', ' ')}{within}{kept}?"


def _pretty(term: object) -> str:
    return str(term).replace("<=", "\N{LESS-THAN OR EQUAL TO}").replace(">=", "\N{GREATER-THAN OR EQUAL TO}")


def answer(study: AsRecorded) -> list[str]:
    """Three sentences of a study that has a winner; else how far it has come."""
    if study.winner is None:
        return _under_way(study)
    return [_found(study, study.winner), _beside(study, study.winner), _costs(study, study.winner)]


def _under_way(study: AsRecorded) -> list[str]:
    ended = sum(t.state.finished for t in study.trials)
    planned = _planned(study)
    of = f" of {planned:,}" if planned and planned >= ended else ""
    sentences = [f"No network has been reported yet: {ended:,}{of} trials have ended."]
    bests = [best for lane in study.lanes.values() if (best := study.best(lane)) is not None]
    if bests:
        metric = study.goal.metric
        best = max(bests, key=lambda t: study.goal.utility(t.values[metric]))
        sentences.append(
            f"The best so far is trial {best.number} of {best.agent}, seed {best.seed}, with {metric} "
            f"{words.quality(best.values[metric], metric in study.rates)} as the search saw it."
        )
    sentences.append("Figures of a search flatter what it chose: final ones come when the study ends.")
    return sentences


def _planned(study: AsRecorded) -> int | None:
    """How many trials the study is to have; None where its record does not say."""
    trials, seeds = study.config.get("trials"), study.config.get("seeds")
    if not isinstance(trials, int) or not isinstance(seeds, list):
        return None
    from agents import planned

    names = [*study.config.get("baselines", ()), study.main_agent]
    return len(seeds) * sum(planned(name, trials) for name in names if name)


def _value(study: AsRecorded, trial: TrialRecord, phase: Phase) -> str | None:
    """The sought metric in words, with half its interval; None where it was not measured."""
    metric = study.goal.metric
    m = trial.measured(metric, phase)
    if m is None:
        return None
    rate, half = metric in study.rates, words.half_width(m.spread)
    text = words.quality(m.value, rate)
    if half is None:
        return text
    return f"{100 * m.value:.2f} ± {100 * half:.2f} %" if rate else f"{text} ± {half:.2g}"


def _found(study: AsRecorded, winner: TrialRecord) -> str:
    metric = study.goal.metric.replace("_", " ")
    final = _value(study, winner, Phase.FINAL) or _value(study, winner, Phase.SEARCH)
    text = f"The winner, trial {winner.number} of {winner.agent}, has {metric} {final} on the validation data"
    test = _value(study, winner, Phase.TEST)
    if test is not None:
        text += f" and {test} on the test data"
    if study.base is None:
        return f"{text}."
    was = _value(study, study.base, Phase.FINAL) or _value(study, study.base, Phase.SEARCH)
    before = _value(study, study.base, Phase.TEST)
    return f"{text}; the {study.compared_with} has {was}{f' and {before}' if test and before else ''}."


_WHERE = {
    Phase.TEST: "On the test data",
    Phase.FINAL: "On the validation data",
    Phase.SEARCH: "As the search saw it",
}
"""Where networks are compared: the first phase in which all of them were measured."""


def _best_of(study: AsRecorded, agent: str) -> TrialRecord | None:
    """The best trial of all seeds of an agent."""
    bests = [best for (name, _), lane in study.lanes.items() if name == agent and (best := study.best(lane))]
    return max(bests, key=lambda t: study.goal.utility(final(t, study.goal.metric)), default=None)


def _beside(study: AsRecorded, winner: TrialRecord) -> str:
    """The winner beside the best of every other agent, and whether the samples can tell them apart."""
    metric, rate = study.goal.metric, study.goal.metric in study.rates
    rivals = [best for agent in study.agents if agent != winner.agent and (best := _best_of(study, agent)) is not None]
    if not rivals:
        return "No other agent ran beside it."
    phase = next(p for p in _WHERE if all(trial.measured(metric, p) for trial in (winner, *rivals)))
    parts, unsure = [], False
    for best in rivals:
        mine, other = winner.measured(metric, phase), best.measured(metric, phase)
        assert mine is not None and other is not None
        ahead = study.goal.utility(mine.value) - study.goal.utility(other.value)
        spread = math.hypot(mine.spread or 0.0, other.spread or 0.0)
        unsure |= abs(ahead) < words.Z95 * spread
        side = "ahead of" if ahead > 0 else "behind" if ahead < 0 else "from"
        parts.append(f"{words.difference(ahead, rate)} {side} the best of {best.agent}")
    sure = ", a difference that so few samples cannot tell from chance" if unsure else ""
    if unsure and len(parts) > 1:
        sure = "; not all of these differences are more than chance over so few samples"
    return f"{_WHERE[phase]} that is {words.listed(parts)}{sure}."


def _costs(study: AsRecorded, winner: TrialRecord) -> str:
    """What the winner keeps of the budget, and what it costs besides."""
    parts = [
        f"{words.cost_in_words(cost)} {words.cost(cost, final(winner, cost))} of {words.cost(cost, limit)}"
        for cost, limit in study.limits.items()
        if cost in winner.values
    ]
    for rule in study.rules:
        if rule.phase == Phase.CERTIFICATE:
            shown = (f"{v:.1%}" if rule.metric.endswith("ratio") else f"{v:.3g} ms" for v in (rule.value, rule.bound))
            parts.append(f"{' of '.join(shown)} as timed")
    kept = f"It keeps the budget ({words.listed(parts)} allowed)" if parts else "No cost was limited"
    base = study.base
    others = [
        f"{words.share(final(winner, cost), final(base, cost))} of the {words.cost_in_words(cost)}"
        for cost in ("macs", "params", "size_bytes")
        if base is not None and cost in winner.values and cost in base.values
    ]
    text = f"{kept}, and has {words.listed(others)}" if others else kept
    ratio = winner.measured("latency_ratio", Phase.LATENCY)
    return f"{text}; one sample takes {ratio.value:.2f} times as long." if ratio is not None else f"{text}."

"""What the network that is reported keeps to, as it goes on record: each limit of the budget, and the guarantee."""

from __future__ import annotations

from automl.evaluation.certify import HIGH, certified
from automl.store import Rule, Sense, TrialRecord
from automl.study.selection import final
from automl.study.study import Study
from automl.types import Phase


def rules_kept(study: Study, winner: TrialRecord) -> tuple[Rule, ...]:
    """The rules of a study, with what its winner was found to have: counted, timed, or measured on validation data."""
    budget = study.config.parsed_budget
    written = [part.strip() for part in budget.text.split(",")]
    rules = []
    for text, term in zip(written, budget.terms, strict=False):  # a study without a budget has no terms
        if term is budget.latency:
            timed = winner.values_of(Phase.CERTIFICATE)
            metric = certified(term) + HIGH
            if metric not in timed:  # certified by the median alone, as before
                metric = certified(term)
            rules.append(Rule(text, metric, Phase.CERTIFICATE, "at most", term.value, timed[metric]))
        else:
            value = final(winner, term.metric)
            rules.append(Rule(text, term.metric, Phase.FINAL, "at most", study.setup.limits[term.metric], value))
    guarantee = study.config.parsed_guarantee
    if guarantee is not None:
        sense: Sense = "at most" if guarantee.upper else "at least"
        value = final(winner, guarantee.metric)
        rules.append(Rule(guarantee.text, guarantee.metric, Phase.FINAL, sense, study.guaranteed_bound(), value))
    return tuple(rules)

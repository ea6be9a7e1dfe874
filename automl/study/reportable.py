"""The trials of a study that may be reported, best first, or why there is none."""

from __future__ import annotations

from collections.abc import Sequence

from agents import TrialState
from automl.errors import StudyError
from automl.store import TrialRecord
from automl.study.selection import best_first, final
from automl.study.study import Study
from automl.util.quantities import in_unit


def ranking(study: Study) -> list[TrialRecord]:
    """The trials of all lanes that keep the guarantee, best first, of several as good that of the first lane.

    `StudyError` if there is none.
    """
    lanes = [study.store.trials(study.record.id, agent=agent, seed=seed) for agent, seed in study.lanes]
    records = [record for lane in lanes for record in lane]
    kept = study.guaranteed(records)
    if not kept:
        raise StudyError(_why_none(study, records))
    return best_first(kept, study.config.goal)


def _why_none(study: Study, records: Sequence[TrialRecord]) -> str:
    name, guarantee = study.record.name, study.config.parsed_guarantee
    done = [record for record in records if record.state is TrialState.DONE]
    if done and guarantee is not None:
        unit, values = study.setup.problem.unit(guarantee.metric), [final(r, guarantee.metric) for r in done]
        best, base = (min if guarantee.upper else max)(values), study.worth_of_base(guarantee.metric)
        return (
            f"no trial of study {name!r} keeps {study.config.guarantee!r}: the best has {in_unit(best, unit)}, the "
            f"original {in_unit(base, unit)}. Guarantee less, raise the budget, or add trials with `automl resume "
            f"{name} --trials N`"
        )
    reasons = list(dict.fromkeys(record.reason for record in records if record.reason))
    return f"no trial of study {name!r} is done: {'; '.join(reasons[:3]) or f'go on with `automl resume {name}`'}"

"""What a reader of a study's figures should know beside them; it goes on record with what the study concluded."""

from __future__ import annotations

from automl.store import TrialRecord
from automl.study.finishing import reported_point
from automl.study.selection import final
from automl.study.study import Study
from automl.tasks.flattery import batch_means, flattery
from automl.types import Phase


def cautions(study: Study, winner: TrialRecord, original: TrialRecord) -> tuple[str, ...]:
    """What the figures of a study do not say themselves, a line each."""
    problem, lines = study.setup.problem, []
    if reported_point(study, winner.point) != winner.point:
        lines.append("widths found in greedy stages; untrained: the network that the trial made, with its own widths")
    if study.shared is not None:
        lines.append(study.shared.told)
    if study.setup.space.packed:
        lines.append(
            "size: of the packed file. Zeros and integers save nothing else: the network computes as if it were dense"
        )
    if means := batch_means(problem):
        lines.append(
            f"{', '.join(means)}: a mean over batches, weighted by their size; it depends on how large they are"
        )
    lines += [line for line in (study.corrections.told, *_without_a_row(study)) if line]
    if flattering := flattery(problem, final(original, problem.kind.headline)):
        lines.append(flattering)
    return tuple(lines)


def _without_a_row(study: Study) -> list[str]:
    """Which agents have no network to show, since all that were finished take too long."""
    refused, lines = study.refused(), []
    if not refused:
        return []
    for agent in dict.fromkeys(agent for agent, _ in study.lanes):
        trials = study.store.trials(study.record.id, agent=agent)
        finished = [t for t in trials if study.config.objective in t.values_of(Phase.FINAL)]
        if finished and all(trial.point.key in refused for trial in finished):
            lines.append(f"{agent}: has no row, as all of its networks that were finished take too long")
    return lines

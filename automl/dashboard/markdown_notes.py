"""What a study says of itself in the dashboard: its question, how far it is or what it found, how to read Optuna."""

from __future__ import annotations

import re
from collections.abc import Mapping

from automl.report.html.answer import answer, question
from automl.report.html.as_recorded import AsRecorded
from automl.report.html.endings import endings
from automl.report.html.lineage import lineage

_SPECIAL = re.compile(r"([\\`*_\[\]<>#|~$&])")

HOW_TO_READ = """\
Trials that the search stopped early, and infeasible ones without a value, are *Pruned* in Optuna's words; infeasible
ones with a value are shown as such. The attribute `state` of a trial says which it is, `reason` why. An agent's trials
are as the search saw them; the study that bears the name alone has what was finished. One named after two quantities
has both, and of a long study a part of the trials. The winner has the attribute `reported`.
"""


def study_note(study: AsRecorded, storage: str, places: Mapping[str, int]) -> str:
    """The note of a study as Markdown. `places`: Optuna's studies that belong to it, by name, with their ids."""
    lines = [f"## {escaped(study.study.name)}", f"**{escaped(question(study))}**", *map(escaped, answer(study))]
    if study.concluded is not None:
        lines += [f"Note: {escaped(note)}" for note in study.concluded.notes]
    lines.append(f"Trials: {', '.join(f'{n:,} {state}' for state, n in endings(study).states) or 'none yet'}.")
    links = [f"[{escaped(name)}](/dashboard/studies/{key})" for name, key in places.items()]
    lines += ["### Where to look", "\n".join(f"- {link}" for link in links)] if links else []
    commands = [f"# {what}\n{command}" for what, command in lineage(study, storage).commands]
    lines += ["### Commands", "```\n" + "\n".join(commands).replace("`", "'") + "\n```", HOW_TO_READ]
    return "\n\n".join(lines)


def winner_note(study: AsRecorded) -> str:
    """What stands beside the trial that was reported."""
    return f"**The winner of {escaped(study.study.name)}.**\n\n" + "\n\n".join(map(escaped, answer(study)))


def escaped(text: str) -> str:
    """Text that Markdown shows as it is: names may be anybody's."""
    return _SPECIAL.sub(r"\\\1", " ".join(text.split()))

"""Where the figures of a study come from, and the commands that make them again."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import yaml

from automl.config.model import IN_MEMORY
from automl.report.html import words
from automl.report.html.as_recorded import AsRecorded

DERIVED = frozenset("folder artifacts network early start knobs goal limits shares latency_table searched_as".split())
"""Keys of a recorded configuration that no study file has."""


@dataclass(frozen=True)
class Lineage:
    """Facts by name, the study's file again, and the commands."""

    facts: Sequence[tuple[str, str]]
    file: str
    """The study file, without what was left at nothing."""
    commands: Sequence[tuple[str, str]]
    """What a command does, and the command."""


def lineage(study: AsRecorded, storage: str) -> Lineage:
    """`storage`: how the database is named on the command line."""
    return Lineage(_facts(study), _file(study), _commands(study, storage))


def _facts(study: AsRecorded) -> list[tuple[str, str]]:
    environment = dict(study.study.environment)
    ended = [t.finished for t in study.trials if t.finished is not None]
    source = environment.pop("searched_as", None)
    seeds = sorted({seed for _, seed in study.lanes})
    facts = [
        ("database", study.database),
        ("code version", study.study.code_version),
        ("begun", words.moment(study.study.created)),
        ("last trial ended", words.moment(max(ended)) if ended else ""),
        ("winner reported", words.moment(study.concluded.concluded) if study.concluded else ""),
        ("seeds", ", ".join(map(str, seeds))),
        ("network", str(study.config.get("network", ""))),
        ("searched as", str(source) if source else ""),
        ("finished again as", ", ".join(study.relatives)),
        *((key.replace("_", " "), str(value)) for key, value in environment.items()),
    ]
    return [(name, text) for name, text in facts if text]


def _file(study: AsRecorded) -> str:
    written = {key: value for key, value in study.config.items() if key not in DERIVED}
    return yaml.safe_dump(_filled(written), sort_keys=False, allow_unicode=True, width=100)


def _filled(value: Any) -> Any:
    """Without what is nothing: it is the default, or has none."""
    if isinstance(value, Mapping):
        return {key: _filled(inner) for key, inner in value.items() if inner not in (None, {}, [])}
    return value


def _commands(study: AsRecorded, storage: str) -> list[tuple[str, str]]:
    name, where = shlex.quote(study.study.name), f"--storage {shlex.quote(storage)}"
    model = study.config.get("model")
    told = model.get("name") if isinstance(model, Mapping) else model
    again = [("run it again from the file below, under a new name", f"automl search study.yaml {where}")]
    if told == IN_MEMORY:
        again = []
    return [
        *again,
        ("write the network that was reported", f"automl export {name} --out winner/ {where}"),
        ("write this page again", f"automl report {name} --out report.html {where}"),
        ("take the trials elsewhere", f"automl trials {name} --format csv --out trials.csv {where}"),
    ]

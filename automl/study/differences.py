"""In what a study that is recorded differs from the one that is asked for now."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from automl.config.latency import LatencyOptions
from automl.config.study import StudyConfig
from automl.store import StudyRecord
from search_spaces import Knob

_WORKERS = tuple(f"{section}.training.workers" for section in ("evaluation", "finish", "sparsify"))
FREE = (
    *("trials", "runner", "folder", "artifacts", "data.root", "model.weights", "finish.stages.rewind_to"),
    *("evaluation.supernet.file", *_WORKERS),
)
"""What may differ when a study is resumed. Weights and folder are where files lie; what the networks hold is bound. So
many workers are for another machine to say."""
TOLD = ("shares",)
"""What follows from the rest and is recorded for readers alone; earlier versions did not."""


def first_differences(recorded: Mapping[str, Any], wanted: Mapping[str, Any], *, limit: int = 3) -> list[str]:
    """The first keys, with both values, in which two recorded configurations differ, `FREE` ones apart."""
    old, new = dict(_flat(recorded)), dict(_flat(wanted))
    keys = [key for key in dict.fromkeys((*old, *new)) if old.get(key) != new.get(key)]
    bound = [key for key in keys if not any(key == free or key.startswith(free + ".") for free in (*FREE, *TOLD))]
    return [f"{key} (recorded {old.get(key)!r}, now {new.get(key)!r})" for key in bound[:limit]]


def _flat(tree: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    pairs: list[tuple[str, Any]] = []
    for key, value in tree.items():
        pairs += _flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) else [(f"{prefix}{key}", value)]
    return pairs


def completed(found: StudyRecord) -> dict[str, Any]:
    """What is recorded of a study, with the defaults of the keys that did not exist when it was begun."""
    knobs = [Knob.from_record(knob).to_record() for knob in found.config.get("knobs", ())]
    table = found.config.get("latency_table")
    if table is not None:
        table = {**table, "options": asdict(LatencyOptions(**table["options"]))}
    return {
        **found.config,
        **({"knobs": knobs} if knobs else {}),
        **({"latency_table": table} if table is not None else {}),
        **StudyConfig.from_record(found.config).to_record(),
    }

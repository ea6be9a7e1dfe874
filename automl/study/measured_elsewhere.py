"""Results of `measure.pyz` from another machine, read as somebody else's and recorded with the trials they are of."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from automl.config.latency import known_backends
from automl.errors import StudyError
from automl.evaluation.certify import measurements_of
from automl.measures.backends.intervals import Estimate
from automl.measures.backends.measuring import NETWORK, VERSION, in_words
from automl.store import Store, TrialRecord
from automl.types import Phase

LONGEST = 2**24
"""How many bytes results may have."""


def record_results(store: Store, study: str, path: Path) -> list[str]:
    """Record each result in `path` in the phase of latencies, as `latency_ms:BACKEND`, with its device; a line each.

    What is on record already, of the same device and with the same value, is not recorded again. Errors: `StudyError`
    if the file holds no results, or results of another study or of a trial that is not there; nothing is recorded then.
    """
    results = _read(path)
    record = store.study(study)
    trials = {(t.agent, t.seed, t.number): t for t in store.trials(record.id)}
    found = [(_trial(result, record.name, trials, path), result) for result in results]
    lines = []
    for trial, result in found:
        known = {(one.metric, one.device, one.value) for one in trial.measurements if one.phase == Phase.LATENCY}
        measured = measurements_of(result, Phase.LATENCY, f":{result['backend']}")
        new = [one for one in measured if (one.metric, one.device, one.value) not in known]
        store.add_measurements(trial.id, new)
        lines.append(f"trial {trial.number} of {trial.agent}, seed {trial.seed}: {in_words(result)}")
    return lines


def _read(path: Path) -> list[dict[str, Any]]:
    try:
        if path.stat().st_size > LONGEST:
            raise ValueError(f"it has more than {LONGEST:,} bytes")
        results = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(results, list) or not results:
            raise ValueError("it is no list of results")
        for result in results:
            _check(result)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise StudyError(
            f"{path} holds no results of `measure.pyz`: {error}. Run `python measure.pyz FOLDER --out {path.name}`"
        ) from error
    return results


def _check(result: Mapping[str, Any]) -> None:
    """Raise unless a result has what is read of it, each of its type."""
    if result["version"] != VERSION:
        raise ValueError(f"it has version {result['version']!r:.20}, this program reads {VERSION}")
    if result["backend"] not in known_backends():
        raise ValueError(f"its backend is {result['backend']!r:.80}")
    for key in ("batch", "threads"):
        if not isinstance(result[key], int):
            raise ValueError(f"its {key} is {result[key]!r:.80}")
    if not isinstance(result["device"]["processor"], str) or len(json.dumps(result["versions"])) > 1000:
        raise ValueError("its device cannot be read")
    for told in (result["latency_ms"][NETWORK], result["ratio"]):
        if told is not None:
            one = Estimate(**told)
            if not all(math.isfinite(x) and x >= 0 for x in (one.value, one.low, one.high, one.n, one.spread)):
                raise ValueError("a time is not a number of at least 0")
    peak = result["peak_memory_bytes"][NETWORK]
    if peak is not None and not (isinstance(peak, int) and peak >= 0):
        raise ValueError(f"its peak memory is {peak!r:.80}")


def _trial(
    result: Mapping[str, Any], study: str, trials: Mapping[tuple[str, int, int], TrialRecord], path: Path
) -> TrialRecord:
    named = (result.get("agent"), result.get("seed"), result.get("trial"))
    trial = trials.get(named) if result.get("study") == study else None  # type: ignore[arg-type]  # as it was read
    if trial is None:
        raise StudyError(
            f"{path} has a measurement of trial {'/'.join(map(str, named))} of study {result.get('study')!r:.80}, and "
            f"{study!r} has no such trial. Name the study that was exported"
        )
    return trial

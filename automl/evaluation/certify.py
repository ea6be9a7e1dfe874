"""The last word on a limit on latency: the finished network exported, loaded in fresh processes, and timed."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from automl.config.budget import Term
from automl.config.latency import LatencyOptions
from automl.errors import ExportError
from automl.export.timing import device_of, measure_folder
from automl.measures.backends.exported import Exported
from automl.measures.backends.intervals import Estimate
from automl.measures.backends.measuring import NETWORK, Conditions
from automl.measures.latency import as_measurement
from automl.types import Measurement, Phase, in_phase

CERTIFICATE = "certificate.json"
LIMIT = "latency_limit"
"""The key of a manifest that says what its network was certified to keep."""
HIGH = "_high"
"""The end of the name of a metric that is the upper end of another's 95 % interval."""


def limit_record(term: Term, options: LatencyOptions) -> dict[str, Any]:
    """A limit on latency, and how it is measured, as a manifest holds it."""
    return {
        "metric": _metric(term.relative),
        "value": term.value,
        "backend": term.backend,
        "batch": options.batch,
        "threads": options.threads,
        "processes": options.processes,
    }


def certify(folder: Path) -> dict[str, Any]:
    """Measure the exported network in `folder` beside the original, and hold it against the limit in its manifest.

    The certificate: the record of the measurement, the `limit`, and whether the upper end of the 95 % interval is
    `within` it. Errors: `BackendError`, and `ExportError` if the export was not made to keep a limit.
    """
    told: Any = Exported(folder).manifest.get(LIMIT)
    try:
        conditions = Conditions(told["backend"], int(told["batch"]), int(told["threads"]), int(told["processes"]))
        metric, value = str(told["metric"]), float(told["value"])
        if metric not in (_metric(True), _metric(False)):
            raise ValueError(f"{metric!r:.80} is no metric of a latency")
    except (TypeError, KeyError, ValueError) as error:
        raise ExportError(
            f"the export in {folder} says of no limit on latency that it keeps ({error}): export a study with one, "
            f"such as `latency <= 40% on onnxruntime`, or use `automl measure`"
        ) from error
    record = measure_folder(folder, conditions)
    estimate = _judged(record, metric)
    return {**record, "limit": {"metric": metric, "value": value}, "within": estimate["high"] <= value}


def measurements_of(record: Mapping[str, Any], phase: Phase, suffix: str = "") -> list[Measurement]:
    """What the database holds of a measured folder: medians, upper ends, and peak memory where it is known.

    `suffix`: the end of the metrics' names."""
    device, found = device_of(record), []
    estimates = {_metric(False): (record["latency_ms"][NETWORK], "ms"), _metric(True): (record["ratio"], "")}
    for metric, (told, unit) in estimates.items():
        if told is not None:
            one = Estimate(**told)
            found.append(as_measurement(metric + suffix, one, unit, device))
            found.append(Measurement(metric + HIGH + suffix, one.high, unit, one.n, None, device))
    peak = record["peak_memory_bytes"][NETWORK]
    if peak is not None:
        found.append(Measurement(f"peak_memory_bytes{suffix}", float(peak), "B", device=device))
    return in_phase(phase, found)


def used(term: Term, values: Mapping[str, float]) -> float | None:
    """The part of the latency allowed that a network takes by its certificate, `values`; None if it has none.

    By the upper end of the interval; certificates of earlier versions have the median alone.
    """
    metric = _metric(term.relative)
    taken = values.get(metric + HIGH, values.get(metric))
    return None if taken is None else taken / term.value


def certified(term: Term) -> str:
    """The metric of the certificate for a limit on latency."""
    return _metric(term.relative)


def _judged(record: Mapping[str, Any], metric: str) -> Mapping[str, float]:
    estimate: Mapping[str, float] | None = record["ratio"] if metric == _metric(True) else record["latency_ms"][NETWORK]
    if estimate is None:
        raise ExportError("the export has no original to measure beside: export the study again")
    return estimate


def _metric(relative: bool) -> str:
    return "latency_ratio" if relative else "latency_ms"

"""The trials of a study as a table, and the formats in which it is written."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from automl.errors import ConfigError, ExportError
from automl.store.store import Store
from automl.util.columns import printable
from automl.util.names import nearest

if TYPE_CHECKING:
    import pandas as pd

_FIXED = ("agent", "seed", "number", "state", "reason", "started", "finished", "wall_s", "finish_order", "repeated")


def frame(store: Store, name: str) -> pd.DataFrame:
    """The trials of the study `name`, one row a trial, by (agent, seed, number).

    Columns: what every trial has (`started` and `finished` in UTC), then each metric (its last step, NaN where it
    was not measured; of other phases than the search under such names as `final_accuracy`, see `TrialRecord.labelled`),
    then each knob: "keep:<knob>" is the fraction of its channels or weights kept, "level:<knob>" the level of a knob of
    another unit. `StudyNotFoundError` if there is no such study.
    """
    import pandas as pd

    study = store.study(name)
    trials = store.trials(study.id)
    own = {metric for trial in trials for metric in trial.values}
    measured = [{name: m.value for name, m in trial.labelled(own).items()} for trial in trials]
    metrics = list(dict.fromkeys(name for values in measured for name in values))
    recorded = {knob["name"]: knob for knob in study.config.get("knobs", ())}
    knobs = list(recorded or dict.fromkeys(knob for trial in trials for knob in trial.point))
    labels = {knob: _label(recorded.get(knob), knob) for knob in knobs}
    rows = [
        {
            "agent": trial.agent,
            "seed": trial.seed,
            "number": trial.number,
            "state": trial.state.value,
            "reason": trial.reason,
            "started": trial.started,
            "finished": trial.finished,
            "wall_s": trial.wall_s,
            "finish_order": trial.finish_order,
            "repeated": trial.repeat_of is not None,
            **values,
            **{labels[knob][0]: level / labels[knob][1] for knob, level in trial.point.items() if knob in labels},
        }
        for trial, values in zip(trials, measured, strict=True)
    ]
    table = pd.DataFrame(rows, columns=[*_FIXED, *metrics, *(label for label, _ in labels.values())])
    floats = dict.fromkeys(["wall_s", *metrics, *(label for label, _ in labels.values())], "float64")
    integers = {"seed": "int64", "number": "int64", "finish_order": "Int64"}
    times = dict.fromkeys(["started", "finished"], "datetime64[us, UTC]")
    return table.astype({**floats, **integers, **times, "repeated": "bool"})


def _label(knob: Mapping[str, Any] | None, name: str) -> tuple[str, int]:
    """The column of a knob and what its level is divided by."""
    if knob is None or knob.get("unit", "channels") not in ("channels", "weights"):
        return f"level:{name}", 1
    return f"keep:{name}", knob.get("size") or knob["levels"][-1]


def write_trials(table: pd.DataFrame, format: str, out: str | Path | None = None) -> None:
    """Write a `frame` to the file `out`, or to standard output.

    "table" is for reading and leaves the knobs out; "csv", "json" (a list of objects) and "parquet" are complete.
    `ConfigError` for another format, `ExportError` if the file cannot be written.
    """
    writers: dict[str, Callable[[pd.DataFrame], bytes]] = {
        "table": lambda t: printable(_readable(t), keep="\n").encode(),
        "csv": lambda t: t.to_csv(index=False).encode(),
        "json": lambda t: (
            t.to_json(orient="records", date_format="iso", indent=1, double_precision=15) + "\n"
        ).encode(),
        "parquet": lambda t: t.to_parquet(index=False),
    }
    if format not in writers:
        raise ConfigError(f"no format {format!r} for trials{nearest(format, writers)}")
    content = writers[format](table)
    if out is not None:
        try:
            Path(out).write_bytes(content)
        except OSError as error:
            raise ExportError(f"cannot write {out}: {error.strerror}. Name a writable file with --out") from error
        return
    if format == "parquet" and sys.stdout.isatty():
        raise ConfigError("a parquet file is not for a terminal. Name a file with --out")
    sys.stdout.flush()
    stream: BinaryIO = sys.stdout.buffer
    stream.write(content)
    stream.flush()


def _readable(table: pd.DataFrame) -> str:
    """Aligned columns, numbers rounded, what is missing left blank; without the knobs."""
    hidden = [c for c in table.columns if c.startswith(("keep:", "level:"))] + [
        "finished",
        "finish_order",
        "repeated",
    ]
    if table["reason"].isna().all():
        hidden.append("reason")
    shown = table.drop(columns=hidden)
    shown["started"] = shown["started"].dt.strftime("%Y-%m-%d %H:%M:%S")
    if "reason" in shown:
        shown["reason"] = [text if isinstance(text, str) else "" for text in shown["reason"].str.slice(0, 60)]
    for column in shown.select_dtypes("float64"):
        shown[column] = [_number(value) for value in shown[column]]
    text: str = shown.to_string(index=False)
    return text + "\n"


def _number(value: float) -> str:
    """Counts whole and in groups of three, anything else to four digits."""
    if math.isnan(value):
        return ""
    return f"{value:,.0f}" if value.is_integer() and abs(value) >= 1000 else f"{value:.4g}"

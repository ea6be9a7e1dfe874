"""What each table, view and column means: comments in a PostgreSQL database, and the lists of `docs/database.md`."""

from __future__ import annotations

from collections.abc import Mapping

ITSELF = ""
"""The key of what a table or view is a row of."""

QUALITIES = {"accuracy": "0 to 1", "miou": "0 to 1", "rmse": "in the targets' unit", "cosine": "-1 to 1"}
"""The headline metrics of the built-in tasks, with their range or unit: a column each for the search, the finished
network and the test data."""
COSTS = ("macs", "params", "size_bytes", "bops", "predicted_latency_ms")
"""What networks take: as counted of the finished one, else as predicted in the search."""

Meanings = Mapping[str, str]
"""Column -> what it means, and `ITSELF`."""

TABLES: Mapping[str, Meanings] = {
    "study": {
        ITSELF: "a study as it was created",
        "id": "its number in this database",
        "name": "what it is called; no two studies share a name",
        "config": "JSON: the study file with every default, the knobs, the goal, and the limits in absolute units",
        "code_version": "the version of this program that started it, with the commit if it ran from a checkout",
        "environment": "JSON: versions of Python and torch, processors, threads",
        "created": "when it was started (UTC)",
        "seal": "proof that the user who started it did; NULL of one that comes from elsewhere",
        "objective": "the metric that is improved",
        "direction": "maximize or minimize",
    },
    "trial": {
        ITSELF: "one evaluation of one choice",
        "id": "its number in this database",
        "study_id": "the study it belongs to",
        "agent": "who chose it; base is the original network",
        "seed": "of the agent; agent and seed together are a lane",
        "number": "0, 1, ... within the lane, in the order in which trials were handed out",
        "point": "JSON: the level of each knob; the view decision has a row each",
        "point_key": "equal for equal choices",
        "state": "running, done, stopped (ended early on purpose), infeasible (over the budget) or failed",
        "reason": "why it did not end as done",
        "started": "when it was last handed out (UTC)",
        "attempts": "how often it was handed out; above 1 if an attempt ended without an outcome",
        "finished": "when it was closed (UTC)",
        "wall_s": "seconds that the worker spent on it",
        "finish_order": "1, 2, ... within the lane, in the order in which trials were closed; NULL while it runs",
        "repeat_of": "the trial whose measurements answered this one, if it was not evaluated itself",
        "projected": "when it was last copied to Optuna's tables",
    },
    "measurement": {
        ITSELF: "one measured number of a trial",
        "id": "its number in this database; the later of two was added later",
        "trial_id": "the trial",
        "metric": "what was measured: accuracy, macs, latency_ms, ...",
        "step": "training step or epoch; 0 outside training. The last step of a metric in a phase counts",
        "value": "in the unit; rates are fractions from 0 to 1",
        "unit": "ms, B, MAC, ...; empty of a plain number",
        "n": "sample size: samples for a metric, rounds for a latency, 1 for a count",
        "spread": "of a mean its standard error, of a median the interquartile range (latencies); NULL of a count",
        "device": "the processor it was measured on",
        "phase": "search, refitted, training, final, certificate, scratch (of the winner's structure trained from new "
        "weights: e_ for as many epochs as the original, b_ for as many MACs), test, latency, agent (told by an "
        "agent of itself), sensitivity (an error curve: the metric is the knob, the step its level), gates (the "
        "part of each knob that gates have kept in a training, and `seconds of` its agent: the step is the seed),"
        " correction (what the best networks so far took when they were timed, latency_ratio; of the trial base "
        "what the model of latency is multiplied by from then on, latency_scale: the step is how many trials "
        "lanes had by then), or supernet (with the weights that all networks share; of the trial base how long "
        "they were trained, and their rank_correlation)",
    },
    "artifact": {
        ITSELF: "a file that came of a study or of one of its trials",
        "id": "its number in this database",
        "study_id": "the study",
        "trial_id": "the trial whose network it holds; NULL of a file of the whole study",
        "kind": "trained weights, picture, manifest, or a format of export",
        "path": "where it was written",
        "sha256": "checksum of its content",
        "created": "when (UTC)",
    },
    "conclusion": {
        ITSELF: "a trial that was reported as its study's winner; the last of a study counts",
        "id": "its number in this database",
        "study_id": "the study",
        "trial_id": "the trial",
        "concluded": "when (UTC)",
        "notes": "what a reader of the figures should know, a line each",
    },
    "rule": {
        ITSELF: "what a reported network was held against: a limit of the budget, or the guarantee",
        "id": "its number in this database",
        "conclusion_id": "the conclusion",
        "text": "as the user wrote it",
        "metric": "of the trial's measurements",
        "phase": "final if it was counted or measured, certificate if it was timed",
        "sense": "at most or at least",
        "bound": "in the metric's unit",
        "value": "what the network was found to have",
    },
    "attempt": {
        ITSELF: "an attempt at a trial that ended without an outcome",
        "id": "its number in this database",
        "trial_id": "the trial",
        "number": "1, 2, ... within the trial",
        "reason": "why it ended",
        "counted": "whether the trial is to blame, so that it is set aside when this happens too often",
        "ended": "when (UTC)",
    },
    "lease": {
        ITSELF: "which process drives a study at the moment",
        "study_id": "the study",
        "token": "what the process proves itself by",
        "host": "its machine",
        "machine": "a boot of that machine and a namespace of process ids on it",
        "pid": "the process",
        "born": "when it was started, in a form of the machine's own",
        "acquired": "since when it drives the study (UTC)",
        "expires": "until when, unless it is heard of again (UTC)",
        "length_s": "for how many seconds it may be silent",
    },
    "automl_schema": {
        ITSELF: "a version that this database has had; the highest is the one it has",
        "version": "the version",
        "created": "since when (UTC)",
    },
    "automl_alembic_version": {ITSELF: "the same for Alembic, which migrates", "version_num": "the version"},
}

_TRIAL = {
    "study_id": "the study's number in this database",
    "study": "the study's name",
    "trial_id": "the trial's number in this database",
    "agent": "who chose it; base is the original network",
    "seed": "of the agent",
    "number": "within agent and seed, from 0",
}
"""The columns that name a trial."""


def _of(table: str, *columns: str) -> dict[str, str]:
    """What columns mean that a view has from a table."""
    return {column: TABLES[table][column] for column in columns}


_SUMMARY = {
    **_TRIAL,
    **_of("trial", "state", "reason", "started", "finished", "wall_s", "finish_order", "attempts", "repeat_of"),
    "reported": "whether it is the winner of its study",
    "objective": "the metric that the study improves",
    "direction": "maximize or minimize",
    "searched": "the objective as the search measured it: on a part of the validation data if the trial lost a race",
    "searched_spread": "its standard error",
    "final": "the objective of the network as it is reported, on all validation data; of finalists",
    "final_spread": "its standard error",
    "test": "the objective on the test data; of the networks that are reported",
    "test_spread": "its standard error",
    "refitted": "the objective of a finalist before it was trained; NULL where nothing is trained",
    **{
        f"{prefix}{metric}": f"{metric} ({unit}) {where}"
        for metric, unit in QUALITIES.items()
        for prefix, where in (("", "in the search"), ("final_", "of a finalist"), ("test_", "on the test data"))
    },
    "macs": "multiply-accumulates of one sample; this and the next four as counted of a finalist, else as predicted",
    "params": "parameters; in a space of weights those that are not zero",
    "size_bytes": "bytes of the safetensors file",
    "bops": "bit operations of one sample, in spaces of number formats",
    "predicted_latency_ms": "ms by the latency table, if the budget limits latency",
    "certified_latency_ms": "ms as timed for an absolute limit on latency",
    "certified_latency_ratio": "time by that of the original, as timed for a relative limit on latency",
    "latency_ms": "ms of one sample on one thread, the median; of the networks that are reported",
    "latency_ratio": "that by the original's in the same run",
    "peak_activation_bytes": "the most bytes that activations took in that run",
}

VIEWS: Mapping[str, Meanings] = {
    "trial_summary": {ITSELF: "a trial, with what was measured of it in columns", **_SUMMARY},
    "measured": {
        ITSELF: "a measured number, any metric in any phase: the last step",
        **_TRIAL,
        **_of("measurement", "phase", "metric", "value", "unit", "n", "spread", "device", "step"),
    },
    "winner": {
        ITSELF: "a study's winner: the trial that it reported, as in trial_summary",
        "conclusion_id": "by which its rules are found",
        "concluded": "when it was reported (UTC)",
        "notes": TABLES["conclusion"]["notes"],
        **_SUMMARY,
    },
    "knob": {
        ITSELF: "a decision that each trial of a study takes",
        "study_id": _TRIAL["study_id"],
        "study": _TRIAL["study"],
        "position": "0, 1, ... in the order in which agents decide",
        "knob": "its name",
        "operator": "channels, depth, rank, sparsity or code",
        "site": "what it decides about: a group of channels, a block, a layer, a tensor; of a skip both its ends",
        "kind": "amount, gate (levels 0 and 1: whether a block stays) or free (a skip, which costs nothing)",
        "unit": "of its levels: channels, block, skip, of break-even (a rank, in parts of size), weights, bits",
        "original": "the level of the original network",
        "size": "what a level is a fraction of",
    },
    "decision": {
        ITSELF: "a decision of a trial",
        **_TRIAL,
        "operator": "channels, depth, rank, sparsity or code",
        "site": "what it decides about",
        "knob": "its name, as in the trial's point",
        "position": "0, 1, ... in the order in which agents decide",
        "kind": "amount, gate or free",
        "unit": "of the level",
        "level": "what was chosen: channels kept, 1 for a block that stays, parts of a rank, weights kept, bits",
        "original": "the level of the original network",
        "size": "what a level is a fraction of",
        "keep": "the fraction of the original that remains, from 0 to 1",
    },
    "pareto": {
        ITSELF: "a trial on the front of its study between the objective and one cost: none is better and as cheap",
        "study_id": _TRIAL["study_id"],
        "study": _TRIAL["study"],
        "phase": "search: among all done trials as searched; final: among the finished ones, with latencies as timed",
        "cost": "macs, params, size_bytes, bops, predicted_latency_ms or latency_ms",
        "taken": "the cost",
        "unit": "of the cost",
        "objective": _SUMMARY["objective"],
        "value": "the objective",
        **{name: _TRIAL[name] for name in ("trial_id", "agent", "seed", "number")},
    },
    "best_so_far": {
        ITSELF: "a finished trial, with the best of its agent and seed until then",
        **_TRIAL,
        **_of("trial", "finish_order", "finished", "wall_s", "state"),
        "objective": _SUMMARY["objective"],
        "value": "the objective as searched; NULL unless the trial is done",
        "best": "the best value so far; NULL before there is one",
    },
    "failure": {
        ITSELF: "a trial that did not end as done, or an attempt at one that ended without an outcome",
        **_TRIAL,
        "outcome": "failed, infeasible, stopped; or attempt",
        "attempt": "which attempt it was",
        "reason": "why",
        "ended": "when (UTC)",
    },
    "latency": {
        ITSELF: "a network that was timed",
        **_TRIAL,
        "phase": "latency: beside all that are reported; certificate: beside the original, for a limit on latency",
        "device": "the processor and how many threads",
        "n": "rounds",
        "latency_ms": "ms, the median over the rounds",
        "latency_ms_spread": "ms, the interquartile range over the rounds",
        "latency_ratio": "time by that of the original in the same round, the median",
        "latency_ratio_spread": "its interquartile range",
        "predicted_latency_ms": _SUMMARY["predicted_latency_ms"],
    },
}

"""`compress`: the whole program in one call, on a network and data that are already in Python."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from torch import Tensor, nn

from automl.config.model import IN_MEMORY
from automl.config.parse import Source, convert
from automl.config.study import StudyConfig
from automl.config.task import TaskConfig
from automl.errors import ConfigError
from automl.export import Artifact, export
from automl.lanes.progress import Progress
from automl.report.table import summary, table
from automl.store import Store, open_store
from automl.study.certificates import calibration_inputs, original_beside
from automl.study.conclude import Results, conclude, manifest
from automl.study.finishing import reported_point
from automl.study.selection import Recorded
from automl.study.study import Study
from automl.tasks.metric import directed, direction_of
from automl.tasks.problem import Problem
from automl.types import Measurement, Say
from automl.util.no_exit import no_exit
from search_spaces import Plan, Point


@dataclass(frozen=True)
class CompressionResult:
    """The winner of a study, in memory."""

    network: nn.Module
    """Smaller for real, or with zeros in a space of weights; within the budget as counted, in eval mode; the network
    given is untouched."""
    point: Point
    """How many channels of each group, or weights of each tensor, were kept."""
    plan: Plan
    """Which ones."""
    measurements: Mapping[str, Measurement]
    """Metric -> measurement of the winner: those of its task, such as `accuracy`, on the validation data, `macs`,
    `params`, ..."""
    base: Mapping[str, Measurement]
    """The same of the network given."""
    study: str
    """The name under which the trials are recorded, if a storage was given."""
    example_inputs: tuple[Tensor, ...]
    report: str
    manifest: Mapping[str, Any]
    """What an export says about where the network came from."""
    calibration: Sequence[tuple[Tensor, ...]]
    """Inputs of training on which the ranges of 8-bit activations are found: [n, ...] each."""
    original: nn.Module | None
    """The network given, beside which an export is measured, if the budget limits latency."""

    def table(self) -> str:
        """The table of results: the original network, the baselines, the agent."""
        return self.report

    def export(self, out: str | Path, formats: Sequence[str] = ("safetensors", "pt2", "onnx")) -> list[Artifact]:
        """Write the network to the folder `out` in each format, each reloaded and compared. Errors: `ExportError`."""
        return export(
            *(self.network, self.example_inputs, self.plan, Path(out), formats),
            manifest=dict(self.manifest),
            calibration=self.calibration,
            original=self.original,
        )

    def save(self, out: str | Path) -> list[Artifact]:
        """Write the weights and the manifest only; `automl.export.load` rebuilds the network from them."""
        return self.export(out, ("safetensors",))


@no_exit()
def compress(
    model: nn.Module,
    train_data: Iterable[Any],
    validation_data: Iterable[Any],
    budget: str | Sequence[str] | None = "macs <= 50%",
    *,
    test_data: Iterable[Any] | None = None,
    agent: str | Mapping[str, Any] | None = None,
    baselines: Sequence[str] = ("uniform", "random"),
    objective: str | None = None,
    direction: Literal["maximize", "minimize"] | None = None,
    guarantee: str | None = None,
    trials: int = 100,
    seed: int = 0,
    workers: int = 1,
    space: str | Sequence[str] | Mapping[str, Any] | None = None,
    evaluation: Mapping[str, Any] | None = None,
    sparsify: Mapping[str, Any] | None = None,
    finish: Mapping[str, Any] | None = None,
    latency: Mapping[str, Any] | None = None,
    calibration_size: int = 512,
    loss: Callable[[Any, Tensor], Tensor] | None = None,
    metrics: Mapping[str, Any] | None = None,
    task: str | Mapping[str, Any] | None = None,
    storage: str | Path | None = None,
    name: str | None = None,
    progress: bool = True,
) -> CompressionResult:
    """Search how to compress `model` to `budget`, and return the best network found.

    Args:
        model: any network that can be traced; it is not changed.
        train_data: batches `(x, y)`, x a tensor, a tuple of tensors [n, ...], or a mapping or dataclass whose keys are
            arguments of the forward; the last may hold the targets too, as `labels`. Or x alone: without targets
            networks are compared with `model`. `calibration_size` samples are used, and all of them if something is
            trained.
        validation_data: batches by which candidates are judged; not the test data.
        budget: for example `"macs <= 50%"`, `["params <= 120k", "size <= 200 KB"]`, `"latency <= 3.5 ms"` or
            `"preset: cubesat"`; None for no limit, with an objective that weighs the error with the cost.
        test_data: batches on which the original and the winners are measured once, at the end.
        agent: the search agent's name, or a mapping with `name` and its options; None: `amc_warm`, or `bo` in a space
            of depth.
        baselines: agents that run beside it with as many trials.
        objective: what is improved on the validation data: a metric of the task, of `metrics`, or `divergence` from
            what `model` puts out; None: the metric by which such networks are judged (accuracy, miou, rmse, cosine;
            loss of a task of your own). `error_log_macs` and `error_log_params` are the error times the logarithm of
            the cost; `compression_reward` is C (2 - C) accuracy / accuracy of `model`, C the part of its parameters
            that is gone; `bounded_drop` is (b - drop) / b ln(times fewer parameters), b the drop that is guaranteed.
        direction: which is better, if the objective is a function of `metrics`.
        guarantee: what the winner must be worth: `"accuracy >= 90%"`, `"miou drop <= 1%"` (points of a rate),
            `"rmse <= 0.2"` or `"rmse rise <= 5%"` (a part of that of `model`).
        trials: evaluations of each agent.
        workers: above 1 the trials are a Ray Tune sweep.
        space, evaluation, sparsify, finish, latency: the sections of a study file, for example `{"min_keep": 0.2}` for
            a space or `{"finalists": 2, "training": {"epochs": 30}}` for the end.
        loss: (outputs, targets) -> mean loss, if it is not the usual one: cross-entropy, or of numbers the squares.
        metrics: further metrics by name: functions of (outputs, targets) with a value a sample, [n, ...], or the mean
            over the batch; `automl.tasks.metric.Metric`s; objects with `update`, `compute` and `reset`.
        task: what the outputs mean: `"classification"`, `"segmentation"`, `"regression"`, `"signal"`, `"embedding"`,
            `"custom"`, or a mapping such as `{"name": "segmentation", "ignore_index": 255}`; None: as outputs and
            targets look.
        storage: a database URL or file that keeps the trials; by default they are forgotten. With it, calling again
            with the same arguments goes on where the last call was stopped.
        name: the study's name in it.
        progress: whether to tell on standard error how far it is.

    Raises:
        AutomlError, TraceError, InfeasibleBudgetError, AgentError: with what was expected, what came, the remedy.
    """
    kind = _task(task)
    direction = direction or direction_of(objective, metrics)
    problem = Problem.from_iterables(
        model,
        train_data,
        validation_data,
        test_data,
        calibration_size=calibration_size,
        loss=loss,
        metrics=directed(metrics or {}, objective, direction),
        task=kind.name,
        void=kind.ignore_index,
    )
    config = StudyConfig.from_dict(
        {
            "name": name or f"{type(model).__name__.lower()}-{seed}",
            "model": IN_MEMORY,
            "data": {"name": IN_MEMORY, "calibration_size": calibration_size},
            "budget": () if budget is None else budget,
            "agent": agent or {},
            "baselines": baselines,
            "objective": objective or problem.kind.headline,
            "direction": direction,
            "task": task,
            "guarantee": guarantee,
            "trials": trials,
            "seeds": [seed],
            "space": space or "channels",
            "evaluation": evaluation or {},
            "sparsify": sparsify,
            "finish": finish or {},
            "latency": latency,
            "runner": {"workers": workers},
        }
    )
    return searched(
        lambda store, say: Study(store, config, problem, say=say),
        storage,
        Progress(config.goal, quiet=not progress),
    )


def _task(task: str | Mapping[str, Any] | None) -> TaskConfig:
    """What `task` says, by name or as the section of a study file. Errors: `ConfigError`."""
    kind: TaskConfig = convert(TaskConfig, task or {}, Source("compress"), ("task",))
    if kind.metrics is not None:
        raise ConfigError("task.metrics is for study files: in Python give the functions, `metrics={name: function}`")
    return kind


def searched(begin: Callable[[Store, Say], Study], storage: str | Path | None, progress: Progress) -> CompressionResult:
    """The result of the study that `begin` gives, run and recorded in `storage`; None: recorded until the end, then
    forgotten."""
    with (
        tempfile.TemporaryDirectory(prefix="automl-") as forgotten,
        open_store(storage or Path(forgotten) / "study.db") as store,
    ):
        with progress as told:
            study = begin(store, told.say)
            told.goal = study.config.goal  # a design learns from the data what is sought
            with study.drive():
                study.run(told)
                results = conclude(study, told.say)
        return _result(study, results)


def _result(study: Study, results: Results) -> CompressionResult:
    told, found = manifest(study, results.winner), Recorded.read(study.store, study.record)
    return CompressionResult(
        network=results.network,
        point=reported_point(study, results.winner.point),
        plan=results.plan,
        measurements=told["measurements"],
        base=told["base"],
        study=study.record.name,
        example_inputs=study.setup.problem.example_inputs,
        calibration=calibration_inputs(study.setup.problem),
        original=original_beside(study),
        report=f"{table(found)}\n{summary(found)}",
        manifest=told,
    )

"""The study file: what is compressed, on which data, to which budget, by which agent. Validated once, then frozen."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Literal

import agents
from agents import Goal
from automl.config.budget import NO_BUDGET, Budget, Guarantee, parse_budget, parse_guarantee
from automl.config.evaluation import EvaluationOptions, sparse_settings
from automl.config.latency import LatencyOptions
from automl.config.parse import Source, build, convert, read_yaml
from automl.config.training import SparsifyOptions, StageOptions, TrainingOptions
from automl.errors import ConfigError
from automl.tasks.objectives import MAXIMIZED, WEIGHED
from search_spaces import WeightSpace

IN_MEMORY = "in memory"
"""The name of a model or data set that was handed over in Python and cannot be loaded again by name."""

DEPTH_AGENT = "bo"
"""Where an agent that starts from error curves is no default: of removed blocks there are none."""


@dataclass(frozen=True)
class ModelConfig:
    """The network: a built-in name or `module:function`, and its weights."""

    name: str
    """One that is built in, or `module:function` of your own, looked for beside the study file."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """Keyword arguments of the function that makes the network."""
    weights: str | None = None
    """A safetensors file, relative to the study file."""


@dataclass(frozen=True)
class DataConfig:
    """The data: a built-in name, or `module:function` that returns batches."""

    name: str
    """One that is built in, or `module:function` of your own, which returns batches."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """Keyword arguments of the function, for `module:function` only."""
    root: str | None = None
    """The folder that holds the published files, relative to the study file."""
    validation_size: int | None = None
    """Images held out of training on which trials are judged; None: the data set's own default."""
    calibration_size: int = 512
    """Images that scores, reconstruction and recalibration may use."""
    batch_size: int = 250
    """Of an evaluation; a training has its own."""
    split_seed: int = 0
    """Which images are held out, and which serve for calibration."""
    augment: bool = True
    """Whether training images are moved and mirrored, as far as suits the data set."""
    cutout: int | None = None
    """Side of the square that is blanked in each training image, in pixels; none by default."""

    def __post_init__(self) -> None:
        for name in ("validation_size", "calibration_size", "batch_size", "cutout"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ConfigError(f"{name} must be at least 1, got {value}")
        if self.options and ":" not in self.name:
            raise ConfigError(f"options belong to data named as module:function, got the built-in {self.name!r}")


@dataclass(frozen=True)
class SpaceConfig:
    """What may be chosen."""

    name: Literal["channels", "weights", "depth"] = "channels"
    """The widths of coupled groups of channels; or how many single weights of each layer are not zero; or which blocks
    of layers remain beside the widths."""
    min_keep: float = 0.1
    """The smallest fraction of a group's channels, or of a layer's weights, that may remain."""
    round_to: int = 1
    """Kept channels are a multiple of this."""
    steps: int | None = None
    """Only this many widths of each group of channels, evenly spaced: a coarse grid. None for all."""
    exclude: tuple[str, ...] = ()
    """Layers whose channels or weights all stay, and blocks that stay."""
    skips: bool = False
    """Whether a space of depth may add skips."""
    max_skips: int = 1
    """From how many earlier places each block may be given one."""

    def __post_init__(self) -> None:
        if not 0 < self.min_keep <= 1:
            raise ConfigError(f"min_keep is a fraction above 0 and at most 1, got {self.min_keep}")
        if self.round_to < 1:
            raise ConfigError(f"round_to must be at least 1, got {self.round_to}")
        if self.steps is not None and self.steps < 2:
            raise ConfigError(f"steps must be at least 2, got {self.steps}")
        if self.name == "weights" and self.steps is not None:
            raise ConfigError("steps is for widths of channels: leave it out of a space of weights")
        if self.name == "weights" and self.round_to > 1:
            raise ConfigError("round_to is for numbers of channels: leave it out of a space of weights")
        if self.max_skips < 1:
            raise ConfigError(f"max_skips must be at least 1, got {self.max_skips}")
        if self.name != "depth" and (self.skips or self.max_skips > 1):
            raise ConfigError(f"skips are added in a space of depth: set `name: depth`, got {self.name}")


@dataclass(frozen=True)
class FinishConfig:
    """What becomes of the best trials of each lane before they are reported."""

    finalists: int = 4
    """How many of them are rebuilt with more care; the best of those on the validation data is reported."""
    reconstruction: Literal["sequential", "blockwise", "as_searched"] = "sequential"
    """How: refitted layer after layer on their own inputs; the same, and then block after block tuned to make what the
    original's makes, which needs no labels and takes minutes; or just as the trial was."""
    training: TrainingOptions | None = None
    """How they are trained after that; None: as every trial was (`evaluation.training`), or not at all."""
    stages: StageOptions | None = None
    """In how many stages they are cut, each of them trained; None: at once, and then trained."""

    def __post_init__(self) -> None:
        if self.finalists < 1:
            raise ConfigError(f"finalists must be at least 1, got {self.finalists}")


@dataclass(frozen=True)
class AgentConfig:
    """How to choose."""

    name: str = "amc_warm"
    """Where none is named it is this one, and `bo` in a space of depth."""
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class RunnerConfig:
    """How the trials are run; changes no result but which trials fail."""

    workers: int = 1
    """1 runs in this process, unless a key below needs one of its own; more are a Ray Tune sweep."""
    threads: int | None = None
    """Threads of each worker; None shares those that PyTorch would use evenly (OMP_NUM_THREADS, or the cores that this
    process may have), or is `cpus_per_trial`."""
    address: str | None = None
    """A Ray cluster to run on, such as `auto` or `host:6379`; None for RAY_ADDRESS, `local` for this machine."""
    cpus_per_trial: float | None = None
    """CPUs of the Ray cluster that a trial takes; None for one."""
    gpus_per_trial: float = 0.0
    """GPUs, 0.5 for two trials on each; above 1 a whole number."""
    timeout_s: float | None = None
    """Seconds after which a trial is given up, with its worker."""
    retries: int = 2
    """How often a trial is run again that ran out of memory or time, or whose worker died. One that raised is not."""

    def __post_init__(self) -> None:
        for name in ("workers", "threads"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ConfigError(f"{name} must be at least 1, got {value}")
        for name in ("cpus_per_trial", "timeout_s"):
            value = getattr(self, name)
            if value is not None and not 0 < value < math.inf:
                raise ConfigError(f"{name} must be above 0, got {value:g}; leave it out for the default")
        if self.gpus_per_trial < 0 or (self.gpus_per_trial > 1 and self.gpus_per_trial % 1):
            raise ConfigError(f"gpus_per_trial is a part of 1, or a whole number, got {self.gpus_per_trial:g}")
        if self.retries < 0:
            raise ConfigError(f"retries must be at least 0, got {self.retries}")

    @property
    def in_this_process(self) -> bool:
        """Whether trials run here, one after the other: nothing asks for a worker or a cluster."""
        return self.workers == 1 and not (self.address or self.timeout_s or self.gpus_per_trial)


@dataclass(frozen=True)
class StudyConfig:
    """A whole study file."""

    name: str
    """Of the study in the database."""
    model: ModelConfig
    """The network. A text is its name; so it is for `data`, `space` and `agent`."""
    data: DataConfig
    """What it is judged on, refitted and trained on."""
    budget: tuple[str, ...] = ()
    """Upper limits on `macs`, `params`, `size` and `latency`, one or more: of the original's, `macs <= 50%`, or
    absolute, `params <= 120k`, `size <= 200 KB`, `latency <= 3.5 ms`. May be missing where the objective
    weighs accuracy against cost: `error_log_macs`, `error_log_params`, `compression_reward`."""
    space: SpaceConfig = SpaceConfig()
    """What may be chosen."""
    agent: AgentConfig = AgentConfig()
    """How it is chosen. The agent's own options stand beside its name."""
    baselines: tuple[str, ...] = ("uniform", "random")
    """Agents that run beside the agent, with as many trials each."""
    objective: Literal["accuracy", "loss", "divergence", "error_log_macs", "error_log_params", "compression_reward"] = (
        "accuracy"
    )
    """What is sought: of divergence from the original's predictions, of loss and of the errors the least, of accuracy
    and of compression_reward, C (2 - C) times accuracy over the original's with C the part of the parameters that is
    gone, the most."""
    guarantee: str | None = None
    """Accuracy that a network must have to be reported, `accuracy >= 90%` or `accuracy drop <= 1%` (in points)."""
    trials: int = 100
    """Trials of each agent and seed."""
    seeds: tuple[int, ...] = (0,)
    """Each is a search of its own, by every agent."""
    evaluation: EvaluationOptions = field(default_factory=EvaluationOptions)
    """How each trial is judged."""
    sparsify: SparsifyOptions | None = None
    """How the network is trained before the search to need fewer channels; None: not at all."""
    finish: FinishConfig = FinishConfig()
    """What becomes of the best trials of each agent and seed before they are reported."""
    latency: LatencyOptions | None = None
    """How latency is measured for a budget on it."""
    runner: RunnerConfig = RunnerConfig()
    """How the trials are run; changes no result but which trials fail."""
    artifacts: str | None = None
    """The folder for trained weights, relative to the study file; None: beside the database."""
    folder: str | None = None
    """Where `module:function` is looked for; set by `from_file`."""

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[\w.-]+", self.name):
            raise ConfigError(f"a study's name has letters, digits, `.`, `_` and `-` only, got {self.name!r}")
        if self.trials < 1:
            raise ConfigError(f"trials must be at least 1, got {self.trials}")
        if not self.seeds or len(set(self.seeds)) < len(self.seeds) or min(self.seeds) < 0:
            raise ConfigError(f"seeds must be distinct whole numbers from 0, got {list(self.seeds)}")
        try:
            json.dumps(self.to_record())
        except TypeError as error:
            raise ConfigError(f"options must be plain numbers, texts, lists and mappings: {error}") from None
        try:
            for agent, _ in self.lanes:
                agents.check_options(agent.name, agent.options)
        except agents.AgentError as error:
            raise ConfigError(str(error)) from None
        if not self.budget and self.objective not in WEIGHED:
            raise ConfigError(
                f"budget is missing: give one, for example `macs <= 50%`, or an objective that weighs accuracy against "
                f"cost and needs none, {' or '.join(WEIGHED)}"
            )
        # An unreadable budget or guarantee is an error here and not later.
        budget, _ = self.parsed_budget, self.parsed_guarantee
        if self.latency is not None and budget.latency is None:
            raise ConfigError("the section `latency` says how a budget on latency is measured, and there is none")
        if self.space.name == "weights":
            self._require_predictable(budget)
        self._require_tunable()
        if self.space.name == "depth" and budget.latency is not None:
            raise ConfigError(
                "a latency table prices the widths of groups, not the removal of layers: with `space: depth` limit "
                "`macs`, `params` or `size`, or search `space: channels`"
            )

    def _require_predictable(self, budget: Budget) -> None:
        """Raise `ConfigError` if the budget or the objective speaks of a cost that zeros among weights do not lower."""
        if self.objective == "error_log_macs":
            raise ConfigError("zeros do not lower MACs: with `space: weights` set `objective: error_log_params`")
        for term in budget.terms:
            if term.metric not in WeightSpace.metrics:
                raise ConfigError(
                    f"zeros do not lower {term.metric}, kernels multiply by them: with `space: weights` limit `params` "
                    f"or `size`, or search `space: channels`"
                )

    def _require_tunable(self) -> None:
        """Raise `ConfigError` for training of channels where there are none, or stages that are not trained."""
        if self.sparsify is not None and self.space.name == "weights":
            raise ConfigError(
                "sparsify presses whole channels towards zero: leave it out of a space of weights, or set "
                "`space: channels` or `depth`"
            )
        if self.finish.reconstruction == "blockwise" and self.space.name == "weights":
            raise ConfigError(
                "finish.reconstruction: blockwise would give removed weights back: leave it out of a space of weights, "
                "and train instead (`finish.training`)"
            )
        if self.finish.stages is None:
            return
        if self.space.name != "channels":
            raise ConfigError(
                f"finish.stages cuts channels again and again: set `space: channels`, or leave it out of a space of "
                f"{self.space.name}"
            )
        if self.training is None:
            raise ConfigError(
                "finish.stages says how often networks are cut and trained, and not how they are trained: set "
                "`finish.training` too, for example `training: {epochs: 30}`, or leave it out"
            )
        if self.finish.stages.growing_decay is not None and self.training.epochs < 2:
            raise ConfigError(
                f"finish.stages.growing_decay takes epochs before the cut of a stage and leaves some for after it: the "
                f"training needs at least 2, got {self.training.epochs}"
            )

    @property
    def training(self) -> TrainingOptions | None:
        """How the finalists are trained; None: not at all."""
        return self.finish.training or self.evaluation.training

    @property
    def parsed_budget(self) -> Budget:
        """The budget, read; `NO_BUDGET` if there is none."""
        return parse_budget(self.budget) if self.budget else NO_BUDGET

    @property
    def parsed_guarantee(self) -> Guarantee | None:
        """The guarantee, read."""
        return parse_guarantee(self.guarantee) if self.guarantee is not None else None

    @property
    def goal(self) -> Goal:
        """What a trial is judged by."""
        return Goal(self.objective, "maximize" if self.objective in MAXIMIZED else "minimize")

    @property
    def lanes(self) -> tuple[tuple[AgentConfig, int], ...]:
        """Every (agent, seed) that runs, baselines first, seed by seed."""
        baselines = [AgentConfig(name) for name in dict.fromkeys(self.baselines) if name != self.agent.name]
        return tuple((agent, seed) for seed in self.seeds for agent in (*baselines, self.agent))

    @classmethod
    def from_file(cls, path: str | Path) -> StudyConfig:
        """Read a study file; paths in it are relative to it. Errors: `ConfigError`."""
        path = Path(path)
        raw, source = read_yaml(path)
        if "folder" in raw:
            raise source.error(("folder",), "unknown key; it is the folder of the study file")
        return cls._build(raw, source, path.resolve().parent)

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any], *, folder: str | Path | None = None) -> StudyConfig:
        """The same from a mapping; paths in it are relative to `folder` (the working directory by default)."""
        return cls._build(raw, Source(), Path(folder or ".").resolve())

    @classmethod
    def from_record(cls, recorded: Mapping[str, Any]) -> StudyConfig:
        """The inverse of `to_record`; keys that a `Study` has added (knobs, limits, ...) are passed over."""
        ours = {f.name for f in fields(cls)}
        return build(cls, {key: value for key, value in recorded.items() if key in ours}, Source("recorded study"))

    def to_record(self) -> dict[str, Any]:
        """Plain data for the database: everything needed to resume without the study file."""
        return _plain(asdict(self))

    @classmethod
    def _build(cls, raw: Mapping[str, Any], source: Source, folder: Path) -> StudyConfig:
        settings = dict(raw)
        for key in ("model", "data", "space", "agent"):  # a plain name stands for a section with that name
            if isinstance(settings.get(key), str):
                settings[key] = {"name": settings[key]}
        space = settings.get("space", {})
        kind = space.get("name") if isinstance(space, Mapping) else None
        if isinstance(agent := settings.get("agent", {}), Mapping):
            options = dict(agent)
            usual = DEPTH_AGENT if kind == "depth" else AgentConfig.name
            name = convert(str, options.pop("name", usual), source, ("agent", "name"))
            settings["agent"] = AgentConfig(name, options)
        if kind == "weights":
            settings["evaluation"] = _of_weights(settings.get("evaluation", {}), source)
        config = build(cls, settings, source)
        model, data = config.model, config.data
        if model.weights is not None:
            model = replace(model, weights=str(folder / Path(model.weights).expanduser()))
        if data.root is not None:
            data = replace(data, root=str(folder / Path(data.root).expanduser()))
        finish = config.finish
        if finish.stages is not None and finish.stages.rewind_to is not None:
            early = str(folder / Path(finish.stages.rewind_to).expanduser())
            finish = replace(finish, stages=replace(finish.stages, rewind_to=early))
        artifacts = config.artifacts and str(folder / Path(config.artifacts).expanduser())
        return replace(config, model=model, data=data, finish=finish, artifacts=artifacts, folder=str(folder))


def _of_weights(given: Any, source: Source) -> Any:
    """The section `evaluation` with the defaults of a space of weights."""
    if not isinstance(given, Mapping):
        return given  # refused by `build`
    try:
        return sparse_settings(given)
    except ConfigError as error:
        raise source.error(("evaluation",), str(error)) from None


def _plain(value: Any) -> Any:
    """The same with lists for tuples and dicts for mappings, as JSON gives it back."""
    if isinstance(value, Mapping):
        return {str(key): _plain(inner) for key, inner in value.items()}
    return [_plain(inner) for inner in value] if isinstance(value, list | tuple) else value

"""The study file: what is compressed, on which data, to which budget, by which agent. Validated once, then frozen."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import agents
from agents import Goal
from automl.config import checks
from automl.config.agent import CELLS_AGENT, DEPTH_AGENT, AgentConfig
from automl.config.budget import NO_BUDGET, Budget, Guarantee, parse_budget, parse_guarantee
from automl.config.budget_presets import with_presets
from automl.config.evaluation import EvaluationOptions, sparse_settings
from automl.config.finish import FinishConfig
from automl.config.latency import LatencyOptions
from automl.config.model import FROM_NOTHING, IN_MEMORY, DataConfig, ModelConfig
from automl.config.parse import Source, build, convert, read_yaml
from automl.config.runner import RunnerConfig
from automl.config.space import CHANNELS, SpaceConfig, written_out
from automl.config.task import TaskConfig
from automl.config.training import SparsifyOptions, TrainingOptions, of_new_weights
from automl.config.walk import NOT_IN_FILES
from automl.errors import ConfigError
from automl.tasks.objectives import known_objectives, maximized, usual_objective
from automl.util.file_names import file_name


@dataclass(frozen=True)
class StudyConfig:
    """A whole study file."""

    name: str
    """Of the study in the database."""
    model: ModelConfig
    """The network. A text is its name; so it is for `data`, `space` and `agent`. In a space of cells there is none, as
    that makes its own."""
    data: DataConfig
    """What it is judged on, refitted and trained on."""
    budget: tuple[str, ...] = ()
    """Upper limits on `macs`, `params`, `size`, `peak_memory` (of the activations of one sample), `latency` and, where
    `code` is searched, `bops` (bit operations), one or more: of the original's, `macs <= 50%`, or absolute, `params <=
    120k`, `size <= 200 KB`, `latency <= 3.5 ms`. `preset: cubesat`, `microcontroller` or `phone` among them stands for
    several. May be missing where the objective weighs accuracy against cost: `error_log_macs`, `error_log_params`,
    `compression_reward`, `bounded_drop`."""
    space: SpaceConfig = CHANNELS
    """What may be chosen."""
    agent: AgentConfig = field(default_factory=AgentConfig)
    """How it is chosen. The agent's own options stand beside its name."""
    baselines: tuple[str, ...] = ("uniform", "random")
    """Agents that run beside the agent, with as many trials each."""
    task: TaskConfig | None = None
    """What the network's outputs mean, by name, `segmentation`, or as a section; None: as they look."""
    loss: str | None = None
    """`module:function` of your own, (outputs, targets) -> mean loss; None: the usual one of the task."""
    objective: str = "accuracy"
    """What is sought: of divergence from the original's predictions, of loss and of the errors the least, of accuracy
    and of compression_reward, C (2 - C) times accuracy over the original's with C the part of the parameters that is
    gone, the most; so of bounded_drop, (b - drop) / b times the logarithm of how many times fewer parameters there
    are, b the drop that the guarantee allows. Of other tasks their own metric, which it is unless another is named:
    miou, rmse, cosine; of your own metrics any."""
    direction: Literal["maximize", "minimize"] | None = None
    """Which is better, for an objective of your own metrics; the others know."""
    guarantee: str | None = None
    """What a network must be worth to be reported: `accuracy >= 90%`, `miou drop <= 1%` (points of a rate), `rmse <=
    0.2` or `rmse rise <= 5%` (a part of the original's)."""
    trials: int = 100
    """Trials of each agent and seed."""
    seconds: float | None = None
    """What the trials of each agent and seed may take, added up: after that no trial begins. None: any."""
    seeds: tuple[int, ...] = (0,)
    """Each is a search of its own, by every agent."""
    evaluation: EvaluationOptions = field(default_factory=EvaluationOptions)
    """How each trial is judged."""
    sparsify: SparsifyOptions | None = None
    """How the network is trained before the search to need fewer channels; None: not at all."""
    finish: FinishConfig = field(default_factory=FinishConfig)
    """What becomes of the best trials of each agent and seed before they are reported."""
    latency: LatencyOptions | None = None
    """How latency is measured for a budget on it."""
    runner: RunnerConfig = field(default_factory=RunnerConfig)
    """How the trials are run; of results it changes the last digits, by `threads`, and which trials fail."""
    artifacts: str | None = None
    """The folder for trained weights, relative to the study file; None: beside the database."""
    folder: str | None = field(default=None, metadata=NOT_IN_FILES)
    """Where `module:function` is looked for; set by `from_file`."""

    def __post_init__(self) -> None:
        file_name(self.name, ConfigError)
        if self.trials < 1:
            raise ConfigError(f"trials must be at least 1, got {self.trials}")
        if self.seconds is not None and not self.seconds > 0:
            raise ConfigError(f"seconds must be above 0, got {self.seconds}. Leave it out for any")
        if not self.seeds or len(set(self.seeds)) < len(self.seeds) or min(self.seeds) < 0:
            raise ConfigError(f"seeds must be distinct whole numbers from 0, got {list(self.seeds)}")
        try:
            json.dumps(self.to_record())
        except TypeError as error:
            raise ConfigError(f"options must be plain numbers, texts, lists and mappings: {error}") from None
        for agent in self.known_agents:
            agent.require()
        # An unreadable budget or guarantee is an error here and not later.
        _ = self.parsed_budget, self.parsed_guarantee
        checks.require_consistent(self)

    @property
    def training(self) -> TrainingOptions | None:
        """How the finalists are trained; None: not at all."""
        return self.finish.training or self.evaluation.training

    @property
    def trainings(self) -> list[TrainingOptions]:
        """Every training that there is: of finalists, of trials, and before the search."""
        before = [section.training for section in (self.sparsify, self.evaluation.supernet) if section is not None]
        return [*filter(None, (self.finish.training, self.evaluation.training)), *before]

    @property
    def in_this_process(self) -> bool:
        """Whether trials run here, one after the other, and no sweep of Ray Tune's is needed."""
        return self.runner.in_this_process and self.evaluation.scheduler is None

    @property
    def timed(self) -> TrainingOptions | None:
        """The training of which it is to be predicted how long it takes, if any."""
        supernet = self.evaluation.supernet
        trainings = (self.evaluation.training, self.finish.training, supernet.training if supernet else None)
        return next((training for training in trainings if training is not None and training.seconds), None)

    @property
    def parsed_budget(self) -> Budget:
        """The budget, read; `NO_BUDGET` if there is none."""
        return parse_budget(self.budget) if self.budget else NO_BUDGET

    @property
    def parsed_guarantee(self) -> Guarantee | None:
        """The guarantee, read."""
        return parse_guarantee(self.guarantee) if self.guarantee is not None else None

    @property
    def most_lost(self) -> float | None:
        """What may be lost of the metric that is guaranteed, if the guarantee says so."""
        guarantee = self.parsed_guarantee
        return guarantee.value if guarantee is not None and guarantee.relative else None

    @property
    def goal(self) -> Goal:
        """What a trial is judged by."""
        return Goal(
            self.objective,
            self.direction or ("maximize" if self.objective in maximized(self.task_name) else "minimize"),
        )

    @property
    def task_name(self) -> str | None:
        """The kind of task, if it is named."""
        return self.task.name if self.task is not None else None

    @property
    def known_agents(self) -> list[AgentConfig]:
        """The agents but for the user's own, whose code is not run before it is known whose study this is."""
        return [agent for agent, _ in self.lanes if not agents.is_own(agent.name)]

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
        source = Source("recorded study")
        settings = {key: value for key, value in recorded.items() if key in ours}
        if "space" in settings:
            settings["space"], source = written_out(settings["space"], source)
        return build(cls, settings, source)

    def to_record(self) -> dict[str, Any]:
        """Plain data for the database: everything needed to resume without the study file."""
        record: dict[str, Any] = _plain(asdict(self))
        record["space"] = {name: options for name, options in record["space"].items() if options is not None}
        return record

    @classmethod
    def _build(cls, raw: Mapping[str, Any], source: Source, folder: Path) -> StudyConfig:
        settings = dict(raw)
        if "budget" in settings:
            settings["budget"] = with_presets(settings["budget"], partial(source.error, ("budget",)))
        if "space" in settings:
            settings["space"], source = written_out(settings["space"], source)
            settings["space"] = convert(SpaceConfig, settings["space"], source, ("space",))
        space = settings.get("space", CHANNELS)
        agent = settings.get("agent", {})
        if isinstance(agent, str):
            settings["agent"] = AgentConfig(agent)
        elif isinstance(agent, Mapping):  # its options stand beside its name
            options = dict(agent)
            usual = _usual_agent(space)
            name = convert(str, options.pop("name", usual), source, ("agent", "name"))
            settings["agent"] = AgentConfig(name, options)
        if space.of_cells is not None:
            _make_from_nothing(settings, source)
        if not space.structural:
            settings["evaluation"] = _of_weights(settings.get("evaluation", {}), source)
        settings["objective"] = _objective(settings, source)
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
        supernet = config.evaluation.supernet
        evaluation = config.evaluation
        if supernet is not None and supernet.file is not None:
            kept = replace(supernet, file=str(folder / Path(supernet.file).expanduser()))
            evaluation = replace(evaluation, supernet=kept)
        artifacts = config.artifacts and str(folder / Path(config.artifacts).expanduser())
        return replace(
            config,
            model=model,
            data=data,
            evaluation=evaluation,
            finish=finish,
            artifacts=artifacts,
            folder=str(folder),
        )


def _usual_agent(space: SpaceConfig) -> str:
    """The agent that is meant where none is named."""
    if space.of_cells is not None:
        return CELLS_AGENT
    return DEPTH_AGENT if "depth" in space.operators else AgentConfig.name


def _make_from_nothing(settings: dict[str, Any], source: Source) -> None:
    """Set what a space of cells implies: there is no model, and weights are new. `ConfigError` if a model is named."""
    if settings.get("model", IN_MEMORY) not in (IN_MEMORY, FROM_NOTHING):
        raise source.error(("model",), "a space of cells makes its networks from nothing: leave the model out")
    settings["model"] = FROM_NOTHING
    for section in ("evaluation", "finish"):
        settings[section] = _from_new_weights(settings.get(section, {}), source, (section,))


def _from_new_weights(given: Any, source: Source, path: tuple[str, ...]) -> Any:
    """A section with learning rates for new weights, in its training and in the training of its supernet.

    `ConfigError`, with the `path` of the section, if a training keeps statistics of norms, which new weights have not.
    """
    if not isinstance(given, Mapping):
        return given  # refused by `build`
    found = dict(given)
    if isinstance(training := found.get("training"), Mapping):
        if training.get("norms") == "fixed":
            keeps = "fixed keeps the statistics of batch norms, and new weights have none: leave it out"
            raise source.error((*path, "training", "norms"), keeps)
        found["training"] = of_new_weights(training)
    if isinstance(found.get("supernet"), Mapping):
        inner = {"training": {}, **found["supernet"]}
        found["supernet"] = _from_new_weights(inner, source, (*path, "supernet"))
    return found


def _objective(settings: Mapping[str, Any], source: Source) -> Any:
    """The objective: the one set, or the usual one of the task that is named. `ConfigError` if there is none such."""
    task: TaskConfig = convert(TaskConfig | None, settings.get("task"), source, ("task",)) or TaskConfig()
    if "objective" not in settings:
        return usual_objective(task.name) if task.name is not None else StudyConfig.objective
    objective = settings["objective"]
    own = settings.get("model") == IN_MEMORY or task.metrics is not None
    known = known_objectives(task.name)
    if isinstance(objective, str) and not own and objective not in known:
        raise source.error(("objective",), f"expected one of {', '.join(known)}, got {objective!r}")
    return objective


def _of_weights(given: Any, source: Source) -> Any:
    """The section `evaluation` with the defaults of a space in which nothing is cut."""
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

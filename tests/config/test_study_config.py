"""The study file: what it may hold, what is refused and where, and that the record gives it back."""

import json
from pathlib import Path

import pytest

from agents import Goal
from automl.config.runner import RunnerConfig
from automl.config.study import StudyConfig
from automl.errors import ConfigError
from automl.study.differences import first_differences

MINIMAL = {"name": "s", "model": "small_cnn", "data": "digits", "budget": "macs <= 50%"}
FULL = """\
name: full
model:
  name: mine:make
  options: {width: 8}
  weights: weights/net.safetensors
data:
  name: cifar10
  root: ../data
  validation_size: 5000
  calibration_size: 1024
  batch_size: 100
  split_seed: 3
  augment: false
space: {name: channels, min_keep: 0.2, round_to: 8, exclude: [stem]}
agent: {name: amc, batch_size: 32}
baselines: [uniform]
budget: [macs <= 50%, size <= 200 KB]
objective: loss
trials: 40
seeds: [0, 1, 2]
evaluation: {importance: activation, reconstruction: none, recalibration: none, precision: float32}
runner: {workers: 4, threads: 2}
finish: {training: {epochs: 4}, stages: {rewind_to: weights/early.safetensors}}
"""


def write(folder: Path, text: str) -> Path:
    path = folder / "study.yaml"
    path.write_text(text)
    return path


def test_the_shortest_study_has_the_documented_defaults():
    config = StudyConfig.from_dict(MINIMAL)
    assert (config.agent.name, config.baselines, config.trials, config.seeds) == (
        "amc_warm",
        ("uniform", "random"),
        100,
        (0,),
    )
    assert config.goal == Goal("accuracy", "maximize")
    assert [(agent.name, seed) for agent, seed in config.lanes] == [("uniform", 0), ("random", 0), ("amc_warm", 0)]


def test_a_study_of_depth_that_names_no_agent_gets_one_that_needs_no_error_curves():
    depth = {**MINIMAL, "space": {"name": "depth"}}
    assert StudyConfig.from_dict(depth).agent.name == "bo"
    assert StudyConfig.from_dict({**depth, "agent": "n2n"}).agent.name == "n2n"


def test_a_full_file_is_read_with_paths_relative_to_it(tmp_path):
    config = StudyConfig.from_file(write(tmp_path, FULL))
    assert Path(config.model.weights) == tmp_path / "weights/net.safetensors"
    assert Path(config.finish.stages.rewind_to) == tmp_path / "weights/early.safetensors"
    assert Path(config.data.root).resolve() == tmp_path.parent / "data"
    assert Path(config.folder) == tmp_path
    assert config.model.options == {"width": 8}
    assert config.agent.options == {"batch_size": 32}
    assert config.budget == ("macs <= 50%", "size <= 200 KB")
    assert config.goal == Goal("loss", "minimize")
    assert config.evaluation.importance == "activation"
    assert [seed for agent, seed in config.lanes if agent.name == "uniform"] == [0, 1, 2]


def test_an_agent_that_is_also_a_baseline_runs_once():
    config = StudyConfig.from_dict({**MINIMAL, "agent": "random"})
    assert [agent.name for agent, _ in config.lanes] == ["uniform", "random"]


def test_the_record_gives_the_same_configuration_back(tmp_path):
    config = StudyConfig.from_file(write(tmp_path, FULL))
    recorded = json.loads(json.dumps({**config.to_record(), "knobs": [], "limits": {}, "network": "ab"}))
    assert StudyConfig.from_record(recorded) == config


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (("model:", "modle:"), "line 2: modle: unknown key; did you mean 'model'"),
        (("  options", "  optoins"), "line 4: model.optoins: unknown key; did you mean 'options'"),
        (("min_keep", "mim_keep"), "line 14: space.mim_keep: unknown key; did you mean 'min_keep'"),
        (("0.2", "2.0"), "line 14: space.channels: min_keep is a fraction"),
        (("0.2", "often"), "line 14: space.channels.min_keep: expected a number, got 'often'"),
        (
            ("channels", "layers"),
            "line 14: space.name: expected one of channels, depth, weights, rank, sparsity, code",
        ),
        (("5000", "5000.5"), "line 9: data.validation_size: expected a whole number, got 5000.5"),
        (("1024", "0"), "line 6: data: calibration_size must be at least 1"),
        (("false", "2"), "line 13: data.augment: expected true or false, got 2"),
        (("loss", "speed"), "line 18: objective: expected one of accuracy, loss, divergence, error_log_macs"),
        (("40", "0"), "trials must be at least 1"),
        (("40", "true"), "line 19: trials: expected a whole number, got True"),
        (("[0, 1, 2]", "[0, 0]"), "seeds must be distinct"),
        (("[0, 1, 2]", "[0, x]"), "line 20: seeds: expected a whole number, got 'x'"),
        (("name: amc", "name: acm"), "unknown agent 'acm'"),
        (("amc, batch_size", "amc, batchsize"), "agent 'amc' has no option 'batchsize'"),
        (("macs <= 50%", "macs = 50%"), "expected a budget"),
        (("activation", "luck"), "line 21: evaluation.importance: expected one of surgeon, taylor, activation"),
        (("workers: 4", "workers: 0"), "line 22: runner: workers must be at least 1"),
        (("threads: 2", "timeout_s: 0"), "line 22: runner: timeout_s must be above 0, got 0"),
        (("threads: 2", "cpus_per_trial: -1"), "line 22: runner: cpus_per_trial must be above 0"),
        (("threads: 2", "gpus_per_trial: 1.5"), "gpus_per_trial is a part of 1, or a whole number, got 1.5"),
        (("threads: 2", "retries: -1"), "line 22: runner: retries must be at least 0"),
        (("{epochs: 4}", "{workers: 0}"), "workers is a whole number of at least 1, got 0"),
        (
            ("precision: float32", "training: {workers: 2}"),
            "evaluation.training has workers 2, and a trial is",
        ),
        (("name: full", "name: a/b"), "a study's name has 1 to 200 letters"),
        (("name: full", "name: full\nname: again"), "line 2: name is set twice"),
        (("name: full", "folder: /x"), "line 1: folder: unknown key"),
        (("name: full", "# nothing"), "name: is missing"),
        (("name: full", "name: [full"), "not valid YAML"),
        ((FULL, "just text"), "expected a mapping of settings, got 'just text'"),
    ],
)
def test_what_is_wrong_is_named_with_its_line(tmp_path, change, complaint):
    before, after = change
    assert before in FULL
    with pytest.raises(ConfigError) as error:
        StudyConfig.from_file(write(tmp_path, FULL.replace(before, after, 1)))
    assert complaint in str(error.value)
    assert "study.yaml" in str(error.value)


@pytest.mark.parametrize(
    ("options", "here"),
    [
        ({}, True),
        ({"retries": 5, "threads": 2, "cpus_per_trial": 2.0}, True),
        ({"workers": 2}, False),
        ({"timeout_s": 60}, False),
        ({"gpus_per_trial": 0.5}, False),
        ({"address": "auto"}, False),
    ],
)
def test_one_worker_is_this_process_unless_something_needs_another(options, here):
    assert RunnerConfig(**options).in_this_process is here


def test_a_file_that_is_not_there_is_one_clear_error(tmp_path):
    with pytest.raises(ConfigError, match="cannot read the study file"):
        StudyConfig.from_file(tmp_path / "no.yaml")


def test_options_that_json_cannot_hold_are_refused():
    with pytest.raises(ConfigError, match="options must be plain"):
        StudyConfig.from_dict({**MINIMAL, "model": {"name": "m:f", "options": {"when": {1, 2}}}})


def test_differences_are_named_and_what_may_differ_is_not():
    old = StudyConfig.from_dict(MINIMAL).to_record()
    free = {"trials": 7, "runner": {"workers": 3}, "data": {"name": "digits", "root": "/elsewhere"}}
    assert first_differences(old, StudyConfig.from_dict({**MINIMAL, **free}, folder="/").to_record()) == []
    staged = [{"training": {}, "stages": {"rewind_to": path}} for path in ("here", "there")]
    records = [StudyConfig.from_dict({**MINIMAL, "finish": finish}).to_record() for finish in staged]
    assert first_differences(*records) == []
    several = [StudyConfig.from_dict({**MINIMAL, "finish": {"training": {"workers": n}}}).to_record() for n in (1, 4)]
    assert first_differences(*several) == []
    del several[0]["finish"]["training"]["workers"]  # as earlier versions have it
    assert first_differences(*several) == []
    bound = {"budget": "macs <= 40%", "space": {"name": "channels", "round_to": 2}}
    found = first_differences(old, StudyConfig.from_dict({**MINIMAL, **bound}).to_record())
    assert found == [
        "budget (recorded ['macs <= 50%'], now ['macs <= 40%'])",
        "space.channels.round_to (recorded 1, now 2)",
    ]

"""The JSON schema of study files: it takes what the reader takes, and refuses what that refuses."""

from __future__ import annotations

import json

import jsonschema
import pytest
import yaml

import agents
from automl.config.json_schema import study_schema
from automl.config.listing import optional_sections
from automl.config.study import StudyConfig
from automl.config.walk import keys_of
from automl.config.yaml_text import read_text
from automl.errors import ConfigError
from tests.cli.conftest import ROOT, automl

SCHEMA = study_schema()
CHECK = jsonschema.Draft202012Validator(SCHEMA)
STUDIES = sorted((ROOT / "experiments").rglob("*.yaml"))
MINIMAL = {"name": "s", "model": "small_cnn", "data": "digits", "budget": "macs <= 50%"}


def test_it_is_a_schema_of_the_draft_that_it_names():
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    assert SCHEMA["$schema"] == jsonschema.Draft202012Validator.META_SCHEMA["$id"]


def test_the_command_line_prints_it():
    assert json.loads(automl("keys", "--schema").out) == SCHEMA
    assert "leave 'training' out" in automl("keys", "training", "--schema").err


@pytest.mark.parametrize("path", STUDIES, ids=lambda path: path.relative_to(ROOT / "experiments").as_posix())
def test_the_study_files_of_the_experiments_are_valid(path):
    CHECK.validate(read_text(path.read_text())[0])


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"budget": ["macs <= 50%", "size <= 20 KB"], "seeds": 3},
        {"model": {"name": "mine:make", "options": {"width": 8}}},
        {"agent": {"batch_size": 32}},
        {"agent": {"name": "bo", "front": True}, "baselines": "random"},
        {"evaluation": {"training": {"channels_last": False, "ema": None}, "scheduler": "asha"}},
        {
            "finish": {"training": {"distillation": {"layers": "conv", "hints": "features"}}, "stages": {}},
            "sparsify": {},
        },
        {"space": {"min_keep": 1, "exclude": ["stem"]}},
    ],
)
def test_what_is_read_is_valid(change):
    StudyConfig.from_dict({**MINIMAL, **change})
    CHECK.validate({**MINIMAL, **change})


@pytest.mark.parametrize(
    "change",
    [
        {"modle": "small_cnn"},
        {"model": {"name": "small_cnn", "optoins": {}}},
        {"data": {"root": "x"}},
        {"data": {"name": "digits", "validation_size": "many"}},
        {"data": {"name": "digits", "augment": 2}},
        {"space": "layers"},
        {"space": {"min_keep": "often"}},
        {"space": []},
        {"agent": "acm"},
        {"agent": {"name": "amc", "batchsize": 32}},
        {"agent": {"name": "uniform", "batch_size": 32}},
        {"baselines": ["uniform", "rnadom"]},
        {"trials": True},
        {"trials": None},
        {"seeds": [0, "x"]},
        {"objective": "speed"},
        {"folder": "/x"},
        {"evaluation": {"training": {"epocs": 3}}},
        {"finish": {"training": {"keep": "first"}}},
        {"name": 7},
    ],
)
def test_what_the_reader_refuses_is_invalid(change, tmp_path):
    raw = {**MINIMAL, **change}
    file = tmp_path / "study.yaml"
    file.write_text(yaml.safe_dump(raw))
    with pytest.raises(ConfigError):
        StudyConfig.from_file(file)
    assert not CHECK.is_valid(raw)


def test_names_that_only_loading_would_refuse_are_marked_too():
    assert not CHECK.is_valid({**MINIMAL, "model": "small_cn"})
    assert not CHECK.is_valid({**MINIMAL, "data": "digit"})


def test_every_key_says_what_it_means_and_what_it_is_by_default():
    sections = [cls for _, cls in optional_sections(StudyConfig).values()]
    assert {cls.__name__ for cls in sections} <= SCHEMA["$defs"].keys()
    undescribed = [
        f"{name}.{key}"
        for name, section in {"study": SCHEMA, **SCHEMA["$defs"]}.items()
        for key, value in section["properties"].items()
        if "description" not in value and "const" not in value
    ]
    assert undescribed == []
    training = SCHEMA["$defs"]["TrainingOptions"]["properties"]
    assert training["epochs"]["default"] == 30 and training["epochs"]["type"] == "integer"
    assert SCHEMA["$defs"]["agent_bo"]["properties"].keys() == {
        "name",
        *(key.name for key in keys_of(agents.options("bo"))),
    }

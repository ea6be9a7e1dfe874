"""Budgets by name: what they stand for, beside other limits, and what is refused."""

import jsonschema
import pytest

from automl.config.budget import parse_budget
from automl.config.budget_presets import BUDGET_PRESETS
from automl.config.json_schema import study_schema
from automl.config.listing import listing
from automl.config.study import StudyConfig
from automl.errors import ConfigError

STUDY = {"name": "s", "model": "resnet20", "data": "cifar10"}


def budget(written):
    return StudyConfig.from_dict(STUDY | {"budget": written}).budget


@pytest.mark.parametrize("name", BUDGET_PRESETS)
@pytest.mark.parametrize("form", [lambda name: f"preset: {name}", lambda name: {"preset": name}])
def test_a_preset_is_its_limits_alone_or_in_a_list(name, form):
    limits = tuple(BUDGET_PRESETS[name].limits)
    assert budget(form(name)) == limits
    assert budget([form(name), "latency <= 25% on onnxruntime"]) == (*limits, "latency <= 25% on onnxruntime")
    assert StudyConfig.from_record(StudyConfig.from_dict(STUDY | {"budget": form(name)}).to_record()).budget == limits


@pytest.mark.parametrize("name", BUDGET_PRESETS)
def test_a_preset_can_be_read_and_is_listed_with_its_reasons(name):
    terms = parse_budget(list(BUDGET_PRESETS[name].limits)).terms
    assert all(not term.relative for term in terms)
    text = listing(name)
    assert all(limit in text and why in text for limit, why in BUDGET_PRESETS[name].limits.items())


def test_the_schema_takes_what_the_reader_takes():
    schema = study_schema()["properties"]["budget"]
    for written in ({"preset": "phone"}, [{"preset": "phone"}, "latency <= 50%"], "macs <= 50%"):
        jsonschema.validate(written, schema)
    for written in ({"preset": "toaster"}, {"presets": "phone"}, [3]):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(written, schema)


@pytest.mark.parametrize(
    ("written", "complaint"),
    [
        ({"preset": "cubsat"}, "no preset 'cubsat'.*cubesat"),
        ("preset: toaster", "no preset 'toaster'"),
        ({"presets": "phone"}, "expected limits, or `preset: NAME`"),
        ([{"preset": "cubesat"}, "size <= 100 KB"], "the preset cubesat limits size already.*`size <= 100 KB`"),
        (["macs <= 1M, size <= 1 KB", {"preset": "cubesat"}], "limits size already"),
        ([{"preset": "cubesat"}, {"preset": "phone"}], "limits size already"),
    ],
)
def test_what_cannot_be_is_told_in_a_sentence(written, complaint):
    with pytest.raises(ConfigError, match=complaint):
        budget(written)

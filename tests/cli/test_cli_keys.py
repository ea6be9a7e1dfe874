"""`automl keys` lists everything that a study file may hold, as YAML that is the defaults."""

from __future__ import annotations

from dataclasses import asdict, fields
from itertools import pairwise

import pytest
import yaml

import agents
from automl.config.field_docs import field_docs
from automl.config.listing import optional_sections
from automl.config.study import StudyConfig
from tests.cli.conftest import automl

SECTIONS = optional_sections(StudyConfig)


def listed(*what: str) -> tuple[dict, str]:
    ran = automl("keys", *what)
    assert ran.code == 0
    return yaml.safe_load(ran.out), ran.out


def explained(text: str) -> list[str]:
    """The keys of a listing that no comment stands above."""
    lines = ["", *text.splitlines()]
    return [
        line for above, line in pairwise(lines) if ":" in line and line.strip()[0] != "#" and above.strip()[:1] != "#"
    ]


def test_the_whole_file_is_the_defaults():
    keys, text = listed()
    needed = {"name": "x", "model": {"name": "resnet20"}, "data": {"name": "cifar10"}, "budget": "macs <= 50%"}
    given = {
        **keys,
        **needed,
        "model": {**keys["model"], "name": "resnet20"},
        "data": {**keys["data"], "name": "cifar10"},
    }
    assert StudyConfig.from_dict(given) == StudyConfig.from_dict(needed)
    assert explained(text) == []
    for choice in ("vgg16_bn", "fashion_mnist", "esnac", "depth", "compression_reward", "blockwise"):
        assert choice in text


@pytest.mark.parametrize("section", SECTIONS)
def test_a_section_is_its_defaults(section):
    keys, text = listed(section)
    _, cls = SECTIONS[section]
    names = {"scheduler": {"name": "asha"}, "method": {"name": "gradual"}}  # what has no default
    required = names.get(section, {})
    made = cls(**required)
    assert {**keys[section], **required} == yaml.safe_load(yaml.safe_dump(_plain(asdict(made))))
    assert explained(text.partition(f"{section}:\n")[2]) == []


@pytest.mark.parametrize("agent", agents.names())
def test_the_options_of_an_agent_are_listed(agent):
    keys, text = listed(agent)
    known = [f.name for f in fields(agents.options(agent))]
    assert list(keys["agent"]) == ["name", *known]
    agents.check_options(agent, {k: v for k, v in keys["agent"].items() if k != "name"})
    assert explained(text.partition(f"name: {agent}\n")[2]) == []


def test_what_is_no_section_is_refused_with_the_nearest():
    ran = automl("keys", "trianing")
    assert ran.code == 1 and "did you mean 'training'" in ran.err


def test_docs_of_a_base_class_are_those_of_its_fields():
    class Base:
        a: int = 0
        """Of the
        base."""
        b: int = 0

    class Derived(Base):
        b: int = 1
        """Of the derived."""

    assert field_docs(Derived) == {"a": "Of the base.", "b": "Of the derived."}


def _plain(value):
    if isinstance(value, dict):
        return {key: _plain(inner) for key, inner in value.items()}
    return [_plain(inner) for inner in value] if isinstance(value, tuple) else value

"""Whatever is handed in, either one sentence of ours comes out, or a result that is right.

`AUTOML_FUZZ=4000 python -m pytest tests/fuzz` tries as many inputs of each kind. What was found once is an `example`.
"""

from __future__ import annotations

import json
import os
import shutil
from collections import OrderedDict
from pathlib import Path

import pytest
import torch
import yaml
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from automl.config.budget import parse_budget, parse_guarantee
from automl.config.study import StudyConfig
from automl.errors import AutomlError, ConfigError, ExportError
from automl.export import export, load, unpack
from automl.store import StoreError, import_studies, open_store
from automl.store.transfer import export_studies
from automl.tasks.problem import Problem
from automl.tasks.scores import measure_metrics
from search_spaces import SpaceError, TraceError, channel_space
from tests.fuzz.strategies import ANYTHING, SCHEMA, TEXTS, batches, of_schema, rarely, spoilt
from tests.kits.foreign_studies import CONFIG, write_studies
from tests.kits.stores import add_trial, new_study

EXAMPLES = int(os.environ.get("AUTOML_FUZZ", "60"))
fuzzed = settings(
    max_examples=EXAMPLES,
    deadline=None,
    derandomize=EXAMPLES <= 60,
    suppress_health_check=list(HealthCheck),
    database=None,
)
BUDGET = r"(macs|params|size|bops|latency|accuracy) ?(<=|>=|drop <=) ?[0-9.e-]{1,6} ?(%|k|M|ms|KB)?"
STUDIES = of_schema(SCHEMA, SCHEMA["$defs"])


def one_sentence(error: Exception) -> None:
    assert str(error) and "\n" not in str(error), f"more than a sentence: {error!r}"


@fuzzed
@given(STUDIES)
@example({"name": "a", **CONFIG})
def test_a_study_file_is_read_or_refused(tmp_path_factory, raw):
    file = Path(tmp_path_factory.getbasetemp(), "study.yaml")
    file.write_text(yaml.safe_dump(raw, allow_unicode=True), "utf-8")
    try:
        config = StudyConfig.from_file(file)
    except (ConfigError, SpaceError) as error:
        one_sentence(error)
        return
    record = json.loads(json.dumps(config.to_record()))
    assert StudyConfig.from_record(record) == config
    assert config.goal.direction in ("maximize", "minimize") and config.lanes


@fuzzed
@given(st.text(st.characters(codec="utf-8"), max_size=60))
@example("a: &x [*x]")
@example("- 1e-3")
def test_any_text_is_read_or_refused(tmp_path_factory, text):
    file = Path(tmp_path_factory.getbasetemp(), "any.yaml")
    file.write_bytes(text.encode("utf-8"))
    with pytest.raises(ConfigError) as caught:
        StudyConfig.from_file(file)
    one_sentence(caught.value)


@fuzzed
@given(
    rarely(
        TEXTS,
        st.from_regex(r"(macs|params|size|bops|latency|accuracy) ?(<=|>=|drop <=) ?[0-9.e-]{1,6} ?(%|k|M|ms|KB)?"),
    )
)
def test_a_budget_is_read_or_refused(text):
    for parse in (parse_budget, parse_guarantee):
        try:
            parse(text)
        except ConfigError as error:
            one_sentence(error)


def small() -> nn.Module:
    torch.manual_seed(0)
    layers = {"a": nn.Conv2d(3, 8, 3), "b": nn.BatchNorm2d(8), "c": nn.ReLU(), "d": nn.AdaptiveAvgPool2d(1)}
    return nn.Sequential(OrderedDict(**layers, e=nn.Flatten(), f=nn.Linear(8, 4))).eval()


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """An exported folder, its manifest, the bytes of its file, and what its network computes."""
    x = torch.randn(2, 3, 6, 6, generator=torch.Generator().manual_seed(0))
    space = channel_space(small(), (x,))
    plan = space.plan(space.point(space.lowest.tolist()))
    out = tmp_path_factory.mktemp("fuzz") / "winner"
    network = space.build(plan).eval()
    export(network, (x,), plan, out, ["safetensors"], manifest={})
    file = out / "model.safetensors"
    return out, json.loads((out / "manifest.json").read_text()), file.read_bytes(), (x, network(x))


@fuzzed
@given(st.data())
def test_a_manifest_is_the_one_that_was_written_or_is_refused(exported, data):
    folder, manifest, content, (x, expected) = exported
    (folder / "model.safetensors").write_bytes(content)
    (folder / "manifest.json").write_text(json.dumps(data.draw(spoilt(manifest))))
    try:
        network = load(folder, small())
    except (ExportError, TraceError, SpaceError) as error:
        one_sentence(error)
        return
    finally:
        (folder / "manifest.json").write_text(json.dumps(manifest))
    with torch.no_grad():
        torch.testing.assert_close(network(x), expected)


@fuzzed
@given(st.data())
def test_a_file_of_weights_is_read_or_refused(exported, tmp_path_factory, data):
    content = bytearray(exported[2])
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    file = Path(tmp_path_factory.getbasetemp(), "weights.safetensors")
    file.write_bytes(content[: data.draw(st.integers(0, len(content)))] if data.draw(st.booleans()) else content)
    try:
        tensors = unpack(file)
    except ExportError as error:
        one_sentence(error)
        return
    assert all(isinstance(tensor, torch.Tensor) for tensor in tensors.values())


@pytest.fixture(scope="module")
def lines(tmp_path_factory):
    """The lines of a file of studies: a study, and two of its trials."""
    import gzip

    folder = tmp_path_factory.mktemp("lines")
    with open_store(folder / "study.db") as store:
        study = new_study(store, "a")
        for number in range(2):
            add_trial(store, study, number=number)
        export_studies(store, folder / "a.gz")
    told = [json.loads(line) for line in gzip.decompress((folder / "a.gz").read_bytes()).splitlines()]
    return told[1:-1]


@fuzzed
@given(st.data())
def test_a_file_of_studies_is_imported_whole_or_not_at_all(lines, tmp_path_factory, data):
    base = tmp_path_factory.getbasetemp()
    shutil.rmtree(base / "import", ignore_errors=True)
    (base / "import").mkdir()
    file = write_studies(base / "import" / "a.gz", *data.draw(spoilt(lines)))
    with open_store(base / "import" / "study.db") as store:
        try:
            names = import_studies(store, file)
        except (StoreError, ConfigError) as error:
            one_sentence(error)
            assert store.studies() == []
            return
        for study in store.studies():
            assert study.name in names
            assert all(trial.point.key for trial in store.trials(study.id))


@fuzzed
@given(batches(), batches())
@example([(torch.randn(3, 3, 6, 6), torch.tensor([0, 1, 9]))], [(torch.randn(3, 3, 6, 6), torch.tensor([0, 1, 2]))])
def test_batches_are_measured_as_plain_pytorch_does_or_refused(train, validation):
    try:
        problem = Problem.from_iterables(small(), train, validation)
    except (AutomlError, TraceError) as error:
        one_sentence(error)
        return
    if problem.kind.headline != "accuracy":
        return
    try:
        measured = {m.metric: m.value for m in measure_metrics(problem.model, problem.validation, problem.metrics)}
    except ArithmeticError as error:  # not finite, as said
        one_sentence(error)
        return
    x = torch.cat([inputs[0] for inputs, _ in problem.validation])
    y = torch.cat([targets for _, targets in problem.validation])
    with torch.no_grad():
        outputs = problem.model(x)
    assert measured["loss"] == pytest.approx(float(F.cross_entropy(outputs, y)), rel=1e-4, abs=1e-6)
    assert measured["accuracy"] == pytest.approx(float((outputs.argmax(1) == y).double().mean()), abs=0.5 / len(y))


@fuzzed
@given(st.dictionaries(st.sampled_from(sorted(SCHEMA["properties"])), ANYTHING, max_size=3))
def test_any_settings_are_refused_in_a_sentence(changes):
    try:
        StudyConfig.from_dict({"name": "a", **CONFIG, **changes})
    except (ConfigError, SpaceError) as error:
        one_sentence(error)

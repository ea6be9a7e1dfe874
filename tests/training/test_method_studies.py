"""Methods that bring zeros about, in studies: the plan says how many, whatever else it chose, and the budget holds."""

from __future__ import annotations

import pickle

import pytest
import torch

from automl.config.method import DEFAULTS, MethodOptions
from automl.config.study import StudyConfig
from automl.config.training import TrainingOptions
from automl.errors import ConfigError
from automl.types import Phase
from search_spaces import SparsityStep
from tests.cli.conftest import automl as command
from tests.kits.studies import WEIGHTS_FILE, exported, setup, trials

SHORT = {"epochs": 2, "batch_size": 32, "learning_rate": 0.02, "precision": "float32", "channels_last": False}
QUICK = {"gradual": {"every": 5}, "set": {"every": 5}, "rigl": {"every": 5}, "ac_dc": {"rounds": 2}}
SPACES = {
    "weights": ({"sparsity": {"min_keep": 0.05}}, "params <= 40%"),
    "channels and weights": ({"channels": {}, "sparsity": {}}, "params <= 30%"),
    "ranks and 2:4": ({"rank": {}, "sparsity": {"pattern": "2:4"}}, "params <= 60%"),
}


def options(name: str) -> TrainingOptions:
    return TrainingOptions(**SHORT, method=MethodOptions(name, **QUICK.get(name, {})))  # type: ignore[arg-type]


@pytest.fixture(scope="module", params=SPACES)
def made(request):
    space, budget = SPACES[request.param]
    prepared = setup(space=space, budget=budget)
    prepared.evaluator.prepare()
    return prepared


@pytest.mark.parametrize("name", DEFAULTS)
def test_what_a_method_trains_costs_no_more_than_the_plan(made, name):
    evaluator, point = made.evaluator, made.space.point(made.space.lowest.tolist())
    plan = evaluator.plan(point)
    step = plan.get(SparsityStep)
    network = evaluator.network(point)
    priced = {m.metric: m.value for m in evaluator.counts(network)}["params"]
    before = {name: network.get_parameter(name).detach().clone() for name in step.counts}
    if step.pattern != "unstructured" and not MethodOptions(name).dense:
        with pytest.raises(ConfigError, match="which a pattern"):
            evaluator.train(network, point, options(name))
        return
    evaluator.train(network, point, options(name))
    evaluator.certify(network)
    counted = {m.metric: m.value for m in evaluator.counts(network)}["params"]
    assert 0.5 * priced < counted <= priced
    moved = [name for name, was in before.items() if ((was != 0) != (network.get_parameter(name) != 0)).any()]
    assert moved, "other weights have stayed than before"
    for name in step.counts:
        assert int(network.get_parameter(name).count_nonzero()) <= step.counts[name]


def test_a_method_begins_with_all_weights_of_what_is_left(made, monkeypatch):
    """The network of the same Point but for its zeros; SET and RigL begin with those of the trial."""
    evaluator, point = made.evaluator, made.space.point(made.space.lowest.tolist())
    started = []
    monkeypatch.setattr(
        "automl.evaluation.tuning.train", lambda network, *_, **__: started.append(pickle.loads(pickle.dumps(network)))
    )
    kept = evaluator.network(point)
    for name in ("gradual", "rigl") if made.space.operators[-1].pattern.free else ("gradual",):
        evaluator.train(evaluator.network(point), point, options(name))
    name = max(evaluator.plan(point).get(SparsityStep).counts, key=lambda name: kept.get_parameter(name).numel())
    assert (started[0].get_parameter(name) != 0).float().mean() > 0.99
    if len(started) == 2:
        assert torch.equal(started[1].get_parameter(name), kept.get_parameter(name))


@pytest.fixture(scope="module")
def searched(tmp_path_factory):
    """A study of zeros whose finalist is pruned gradually, its database, and what was said."""
    folder = tmp_path_factory.mktemp("methods")
    text = f"""
name: amc-digits
model: {{name: small_cnn, weights: "{WEIGHTS_FILE}"}}
data: {{name: digits, validation_size: 400, calibration_size: 100}}
space: {{sparsity: {{min_keep: 0.05}}}}
budget: size <= 30%
agent: uniform
baselines: []
trials: 1
runner: {{threads: 1}}
finish:
  finalists: 1
  training:
    {{epochs: 4, batch_size: 32, precision: float32, channels_last: false, schedule: linear, warmup: 0.0,
      method: {{name: gradual, every: 10}}}}
"""
    (folder / "study.yaml").write_text(text)
    return folder / "study.db", command("search", folder / "study.yaml", "--storage", folder / "study.db")


def test_a_finalist_is_pruned_as_it_is_trained(searched, tmp_path):
    database, ran = searched
    assert ran.code == 0, ran.err
    (trained,) = [t for t in trials(database) if t.agent == "uniform"]
    final, base = (t.values_of(Phase.FINAL) for t in (trained, next(t for t in trials(database) if t.agent == "base")))
    assert final["size_bytes"] <= 0.3 * base["size_bytes"] and final["accuracy"] > 0.9
    _, told = exported(database, tmp_path / "out")
    assert told["training"]["method"]["name"] == "gradual"


STUDY = {"name": "s", "model": "m", "data": "d", "budget": "params <= 50%", "space": "weights"}


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        ({"finish": {"training": {"method": "rigl"}}, "space": "channels"}, "nothing says how many"),
        ({"sparsify": {"training": {"method": "cram"}}, "space": "channels"}, "before the search has said how many"),
        (
            {"finish": {"training": {"method": "set"}}, "space": {"sparsity": {"pattern": "2:4"}}},
            "which a pattern does not allow",
        ),
        ({"finish": {"training": {"method": {"name": "set", "rounds": 2}}}}, "rounds is no option of set"),
        ({"finish": {"training": {"method": "magnitude"}}}, "Known: ac_dc, constrained_l0, constrained_scl, cram"),
    ],
)
def test_sections_that_make_no_sense_are_refused_as_they_are_read(sections, message):
    with pytest.raises(ConfigError, match=message):
        StudyConfig.from_dict({**STUDY, **sections})


def test_a_method_is_recorded_and_read_again():
    read = StudyConfig.from_dict({**STUDY, "evaluation": {"training": {"method": "rigl"}}})
    assert read.training is not None and read.training.method == MethodOptions("rigl")
    assert StudyConfig.from_record(read.to_record()) == read

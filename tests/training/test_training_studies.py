"""Studies that train: the finalists at the end, or every trial; kept, verified, resumed, exported."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

import automl
from agents import TrialState
from automl.config.study import StudyConfig
from automl.config.training import DistillationOptions, TrainingOptions
from automl.errors import ConfigError, DataError
from automl.store import open_store
from automl.study.selection import WEIGHTS
from automl.types import Phase
from tests.cli.conftest import automl as command
from tests.kits.studies import exported, kill, moved, outcome, setup, trials, write

TRAINING = (
    "training: {epochs: 3, batch_size: 32, learning_rate: 0.02, precision: float32, channels_last: true, "
    "distillation: {weight: 0.5}}"
)


@pytest.fixture(scope="module")
def searched(tmp_path_factory):
    """A study whose finalists were trained, its database, and what was said."""
    folder = tmp_path_factory.mktemp("trained")
    ran = command("search", write(folder, f"finish: {{finalists: 2, {TRAINING}}}"), "--storage", folder / "study.db")
    return folder / "study.db", ran


def test_finalists_are_trained_measured_and_kept(searched):
    database, ran = searched
    assert ran.code == 0, ran.err
    finished = [t for t in trials(database) if "accuracy" in t.values_of(Phase.FINAL)]
    trained = [t for t in finished if t.agent != "base"]
    assert {t.agent for t in trained} == {"random", "amc"}
    assert all(t.values_of(Phase.FINAL)["macs"] <= 141_062 for t in trained)
    # A fixed seed: three epochs give back several points of 400 images.
    assert all(t.values_of(Phase.FINAL)["accuracy"] > t.values_of(Phase.REFITTED)["accuracy"] for t in trained)
    steps = [m.step for m in trained[0].measurements if (m.phase, m.metric) == (Phase.TRAINING, "validation_accuracy")]
    assert steps == [1, 2, 3]
    base = next(t for t in finished if t.agent == "base")
    assert "accuracy" not in base.values_of(Phase.REFITTED) and "s" not in base.values_of(Phase.TRAINING)
    with open_store(database, create=False) as store:
        kept = [a for a in store.artifacts(store.studies()[0].id) if a.kind == WEIGHTS]
    folder = Path(f"{database}.artifacts") / "amc-digits"
    assert {Path(a.path).name for a in kept} == {path.name for path in folder.iterdir()}, "and no checkpoint is left"
    assert {Path(a.path).stem for a in kept} == {t.point.key for t in trained}
    assert "untrained" in ran.out.splitlines()[0] and ", trained and counted: macs" in ran.out
    assert "epoch 3 of 3" in ran.err and "before training" in ran.err


def test_the_winner_that_is_exported_is_the_one_that_was_measured(searched, tmp_path):
    database, _ = searched
    _, told = exported(database, tmp_path / "out")
    assert told["training"]["epochs"] == 3


def test_a_finished_study_is_not_trained_again_wherever_its_files_lie(searched, tmp_path):
    database, _ = searched
    with moved(database, tmp_path, "elsewhere") as copy:
        ran = command("resume", "amc-digits", "--storage", copy, "--artifacts", tmp_path / "elsewhere")
        assert ran.code == 0, ran.err
        assert "epoch" not in ran.err and outcome(copy) == outcome(database)
        weights = next((tmp_path / "elsewhere" / "amc-digits").glob("*.safetensors"))
        for path in weights.parent.iterdir():
            path.write_bytes(path.read_bytes()[:-4] + b"\0\0\0\1")
        broken = ("export", "amc-digits", "--storage", copy, "--out", tmp_path / "out")
        ran = command(*broken, "--artifacts", tmp_path / "elsewhere")
        assert ran.code == 1 and "are not those that were recorded" in ran.err
        ran = command(*broken)
        assert ran.code == 1 and "cannot be read" in ran.err


def test_a_study_killed_while_it_trains_ends_as_one_that_ran_through(searched, tmp_path):
    through, _ = searched
    database = tmp_path / "study.db"
    path = write(tmp_path, f"finish: {{finalists: 2, {TRAINING}}}")
    kill(
        tmp_path,
        "search",
        path,
        "--storage",
        database,
        when=lambda said: "epoch 1 of 3" in said.partition("network 2 of")[2],
    )
    assert list((tmp_path / "study.db.artifacts" / "amc-digits").glob("*.checkpoint"))
    ran = command("resume", "amc-digits", "--storage", database)
    assert ran.code == 0, ran.err
    assert not list((tmp_path / "study.db.artifacts" / "amc-digits").glob("*.checkpoint"))
    assert outcome(database) == outcome(through)


def test_a_finalist_whose_training_diverges_stays_as_it_was(tmp_path):
    path = write(tmp_path, f"finish: {{finalists: 1, {TRAINING.replace('0.02', '1.0e+12')}}}")
    ran = command("search", path, "--storage", tmp_path / "s.db", "--trials", 1)
    assert ran.code == 0, ran.err
    assert "The network stays as it was before" in ran.err and "rebuilt and counted" in ran.out
    for trial in trials(tmp_path / "s.db"):
        if trial.agent != "base":
            assert trial.values_of(Phase.FINAL)["accuracy"] == trial.values_of(Phase.REFITTED)["accuracy"]
    assert "epoch" not in command("resume", "amc-digits", "--storage", tmp_path / "s.db").err


def test_training_that_takes_more_than_it_gives_is_named(tmp_path, searched):
    once = TRAINING.replace("0.02", "1.0").replace("epochs: 3", "epochs: 1")
    ran = command("search", write(tmp_path, f"finish: {{finalists: 1, {once}}}"), "--storage", tmp_path / "s.db")
    assert ran.code == 0, ran.err
    accuracies = [
        (t.values_of(Phase.REFITTED)["accuracy"], t.values_of(Phase.FINAL)["accuracy"])
        for t in trials(tmp_path / "s.db")
        if "accuracy" in t.values_of(Phase.REFITTED)
    ]
    worse = [after for before, after in accuracies if after < before]
    assert worse and ran.err.count("in training: a lower learning_rate or more epochs may help") == len(worse)
    assert "may help" not in searched[1].err


SHORT = {"epochs": 2, "batch_size": 32, "learning_rate": 0.02, "precision": "float32", "channels_last": True}


def test_every_trial_may_be_trained_and_an_evaluator_takes_along_what_that_needs():
    plain, trained = setup(), setup(evaluation={"training": SHORT})
    point = plain.space.point(plain.space.lowest.tolist())
    sizes, losses = [], []
    for made in (plain, trained):
        made.evaluator.prepare()
        sizes.append(len(pickle.dumps(made.evaluator)))
        there = pickle.loads(pickle.dumps(made.evaluator))
        one, other, elsewhere = made.evaluator(point), made.evaluator(point, made.space.original_point), there(point)
        assert one.state is elsewhere.state is TrialState.DONE and one.measurements == elsewhere.measurements
        losses.append({m.metric: m.value for m in one.measurements}["loss"])
        raced = made is plain
        assert (other.state is TrialState.STOPPED) == raced, "a trial that is trained is not raced"
    assert losses[1] < 0.8 * losses[0]
    train = trained.problem.training.args[0]  # type: ignore[union-attr]
    held = train.images.nbytes + train.labels.nbytes
    assert held < sizes[1] - sizes[0] < 1.1 * held, "the training images, and only where they serve"
    network = trained.evaluator.network(point)
    measured = trained.evaluator.measure(network, trained.problem.validation)
    assert {m.metric: m.value for m in measured}["loss"] == pytest.approx(losses[1], rel=0.02)


def test_trials_that_learn_from_the_original_ask_it_once():
    made = setup(evaluation={"training": {**SHORT, "distillation": {"weight": 0.9}}})
    points = [made.space.point(levels.tolist()) for levels in (made.space.lowest, made.space.highest)]
    fewest = made.evaluator(points[0])
    teacher = made.evaluator._parts.tuner.teacher
    assert teacher is not None and teacher.computed > 897, "in two epochs most samples are seen in two ways"
    once = teacher.computed
    again, most = made.evaluator(points[0]), made.evaluator(points[1])
    assert teacher.computed == once
    assert fewest.measurements == again.measurements != most.measurements
    assert pickle.loads(pickle.dumps(made.evaluator))(points[0]).measurements == fewest.measurements
    thorough = TrainingOptions(**{**SHORT, "seed": 1}, distillation=DistillationOptions())  # type: ignore[arg-type]
    made.evaluator.train(made.evaluator.network(points[0]), points[0], thorough)
    assert teacher.computed == once, "what is trained but once has a teacher of its own"


def test_networks_that_are_reported_are_trained_as_trials_were_unless_said_otherwise():
    once, thorough = {"training": SHORT}, {"training": {**SHORT, "epochs": 9}}
    assert setup().config.training is None
    assert setup(evaluation=once).config.training.epochs == 2  # type: ignore[union-attr]
    assert setup(evaluation=once, finish=thorough).config.training.epochs == 9  # type: ignore[union-attr]


def test_a_network_of_zeros_is_trained_without_losing_them():
    made = setup(space="weights", budget="params <= 40%")
    point = made.space.point(made.space.lowest.tolist())
    before, after = made.evaluator.network(point), made.evaluator.network(point)
    made.evaluator.train(after, point, TrainingOptions(**SHORT, ema=0.9))  # type: ignore[arg-type]
    exact = {"macs", "params"}  # a packed file is compressed: its bytes follow the values of what is kept
    was, now = ({m.metric: m.value for m in made.evaluator.counts(n) if m.metric in exact} for n in (before, after))
    assert now == was and set(now) == exact
    first, second = (made.evaluator.measure(network, made.problem.validation)[1].value for network in (before, after))
    assert second < first


def test_a_network_of_zeros_learns_from_the_original_by_its_outputs_and_by_hints():
    made = setup(space="weights", budget="params <= 40%")
    point = made.space.point(made.space.lowest.tolist())
    before, after = made.evaluator.network(point), made.evaluator.network(point)
    taught = TrainingOptions(**SHORT, distillation=DistillationOptions(weight=1.0))  # type: ignore[arg-type]
    made.evaluator.train(after, point, taught)
    first, second = (
        next(m.value for m in made.evaluator.measure_validation(network) if m.metric == "divergence")
        for network in (before, after)
    )
    assert second < first
    hinted = replace(taught, distillation=DistillationOptions(hints="features"))
    made.evaluator.train(after, point, hinted)  # all its channels are compared


def test_the_section_of_distillation_is_read_and_checked():
    read = setup(finish={"training": {**SHORT, "distillation": {"temperature": 2, "hints": "features"}}}).config
    assert read.training.distillation == DistillationOptions(temperature=2.0, hints="features")
    with pytest.raises(ConfigError, match="temperature must be above 0"):
        setup(finish={"training": {"distillation": {"temperature": 0}}})


def batches(seed: int) -> list[tuple[torch.Tensor, torch.Tensor]]:
    generator = torch.Generator().manual_seed(seed)
    return [(torch.randn(48, 3, 8, 8, generator=generator), torch.randint(4, (48,), generator=generator))]


@pytest.fixture
def model() -> Callable[[], nn.Module]:
    def make() -> nn.Module:
        torch.manual_seed(0)
        return nn.Sequential(nn.Conv2d(3, 12, 3), nn.BatchNorm2d(12), nn.ReLU(), nn.Flatten(), nn.Linear(432, 4))

    return make


@pytest.mark.parametrize("keep", ["last", "best"])
def test_compress_trains_what_it_returns(model, tmp_path, monkeypatch, keep):
    monkeypatch.chdir(tmp_path)
    finish = {"finalists": 1, "training": {"epochs": 2, "batch_size": 16, "precision": "float32", "keep": keep}}
    result = automl.compress(model(), batches(0), batches(1), trials=2, agent="random", finish=finish, progress=False)
    assert result.manifest["training"]["epochs"] == 2 and "refitted_accuracy" in result.measurements
    right = sum(int((result.network(x).argmax(1) == y).sum()) for x, y in batches(1))
    assert right / 48 == pytest.approx(result.measurements["accuracy"].value)
    assert list(tmp_path.iterdir()) == []


def test_training_that_cannot_be_is_one_error_before_the_search(model):
    def run(train=None, loss=None, **training):
        objective = "loss" if loss else "accuracy"
        finish = {"training": {"epochs": 1, **training}}
        automl.compress(
            model(), train or batches(0), batches(1), finish=finish, loss=loss, objective=objective, progress=False
        )

    with pytest.raises(DataError, match="not an iterator"):
        run(iter(batches(0)))
    with pytest.raises(ConfigError, match="label_smoothing is for cross-entropy"):
        run(loss=lambda outputs, targets: nn.functional.cross_entropy(outputs, targets), label_smoothing=0.1)
    with pytest.raises(ConfigError, match=r"finish\.training: warmup is a fraction"):
        run(warmup=2.0)
    with pytest.raises(ConfigError, match="did you mean 'epochs'"):
        run(epoch=2)


def test_where_trained_weights_lie(tmp_path):
    from automl.study.artifacts import artifacts_folder

    file = write(tmp_path, "artifacts: kept")
    with open_store(tmp_path / "study.db") as store:
        config = StudyConfig.from_file(file)
        assert artifacts_folder(store, config) == tmp_path.resolve() / "kept" / "amc-digits"
        beside = StudyConfig.from_file(write(tmp_path))
        assert artifacts_folder(store, beside) == tmp_path / "study.db.artifacts" / "amc-digits"


def test_the_winners_structure_is_trained_from_new_weights_as_a_control(tmp_path):
    """For as many epochs, and for as many multiply-accumulates; once, and told again from the record."""
    scratch = "scratch: {arms: [epochs, macs], epochs: 2}"
    training = TRAINING.replace("epochs: 3", "epochs: 1")
    study = write(tmp_path, f"finish: {{finalists: 1, {training}, {scratch}}}", trials=2, baselines="")
    ran = command("search", study, "--storage", tmp_path / "study.db")
    assert ran.code == 0, ran.err
    known = trials(tmp_path / "study.db")
    base, (winner,) = next(t for t in known if t.agent == "base"), (t for t in known if t.values_of(Phase.SCRATCH))
    told = winner.values_of(Phase.SCRATCH)
    assert {"e_accuracy", "b_accuracy", "e_loss"} <= told.keys()
    more = round(2 * base.values["macs"] / winner.values_of(Phase.FINAL)["macs"])
    notes = [line for line in ran.out.splitlines() if line.startswith("note: control")]
    assert len(notes) == 2 and "after 2 epochs (Scratch-E)" in notes[0] and f"after {more} epochs" in notes[1]
    assert f"{told['b_accuracy']:.2%}" in notes[1].replace(" %", "%")
    folder = Path(f"{tmp_path / 'study.db'}.artifacts") / "amc-digits"
    kept = {path.name.partition(".")[2] for path in folder.iterdir() if "scratch" in path.name}
    assert kept == {"scratch_e.safetensors", "scratch_b.safetensors"}
    again = command("resume", "amc-digits", "--storage", tmp_path / "study.db")
    assert [line for line in again.out.splitlines() if line.startswith("note: control")] == notes
    assert "from new weights, as many" in ran.err and "from new weights" not in again.err


SPARSE = {"space": "sparsity", "budget": "size <= 50%"}


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"finish": {"scratch": {}}}, "set `finish.training` too"),
        (
            {"space": "sparsity", "budget": "size <= 50%", "finish": {"scratch": {}, "training": {}}},
            "leave it out of a space with sparsity",
        ),
        ({"finish": {"scratch": {"arms": []}, "training": {}}}, "epochs, macs or both"),
    ],
    ids=["untrained", "sparsity", "no arm"],
)
def test_controls_that_make_no_sense(changed, says):
    with pytest.raises(ConfigError, match=says):
        setup(**changed)

"""Studies that train before the search and cut in stages after it: from the file to the exported network."""

from __future__ import annotations

import hashlib
import json
import pickle
from collections.abc import Callable
from pathlib import Path

import pytest
import safetensors.torch
import torch
from torch import Tensor, nn

import automl
from automl.config.study import StudyConfig
from automl.config.training import DistillationOptions, SparsifyOptions, StageOptions
from automl.errors import ConfigError, ModelError, StudyError
from automl.store import ArtifactRecord, open_store
from automl.study.artifacts import read_plan
from automl.study.finishing import reported_plan
from automl.study.greedy import energies
from automl.study.prelude import SPARSE
from automl.study.selection import WEIGHTS
from automl.study.study import Study
from automl.training.distillation import distillation
from automl.types import Phase
from automl.zoo import load_model
from search_spaces import channel_space
from tests.cli.conftest import automl as command
from tests.kits.digits import problem
from tests.kits.plans import kept_by
from tests.kits.studies import WEIGHTS_FILE, exported, kill, moved, outcome, trials, write
from tests.training.conftest import accuracy

FAST = "batch_size: 32, learning_rate: 0.02, precision: float32, channels_last: true"
STAGED = (
    f"finish: {{finalists: 1, stages: {{count: 3}}, training: {{epochs: 2, rewind: 0.8, {FAST}, "
    "distillation: {weight: 0.5, hints: features}}}",
    f"sparsify: {{method: group_lasso, strength: 0.05, training: {{epochs: 2, {FAST}}}}}",
)


def study_file(folder: Path) -> Path:
    return write(folder, *STAGED, trials=2, baselines="", agent="random")


def files(database: Path) -> dict[str, ArtifactRecord]:
    with open_store(database, create=False) as store:
        return {artifact.kind: artifact for artifact in store.artifacts(store.studies()[0].id)}


@pytest.fixture(scope="module")
def searched(tmp_path_factory):
    """The database of a study that ran through, and what was said."""
    folder = tmp_path_factory.mktemp("staged")
    ran = command("search", study_file(folder), "--storage", folder / "study.db")
    assert ran.code == 0, ran.err
    return folder / "study.db", ran


@pytest.fixture
def study(searched):
    """The study, gone on with."""
    database, _ = searched
    with open_store(database, create=False) as store:
        yield Study(store, StudyConfig.from_record(store.study("amc-digits").config))


def test_the_course_of_all_stages_is_recorded_as_one(searched):
    database, ran = searched
    (staged,) = (t for t in trials(database) if "s" in t.values_of(Phase.TRAINING))
    curve = [m for m in staged.measurements if (m.phase, m.metric) == (Phase.TRAINING, "validation_accuracy")]
    assert [m.step for m in curve] == [1, 2, 3, 4, 5, 6]
    seconds = [m.value for m in staged.measurements if (m.phase, m.metric) == (Phase.TRAINING, "s")]
    assert seconds == sorted(seconds) and curve[-1].value == staged.values_of(Phase.FINAL)["accuracy"]
    told = [line.partition("stage ")[2] for line in ran.err.splitlines() if "stage " in line]
    assert [line.partition(":")[0] for line in told[1::2]] == [
        "1 of 3, 49.3% of MACs",
        "2 of 3, 24.3% of MACs",
        "3 of 3, 12.0% of MACs",
    ]
    assert {path.name for path in Path(f"{database}.artifacts", "amc-digits").iterdir()} == {
        "sparse.safetensors",
        f"{staged.point.key}.safetensors",
    }


def test_the_last_stage_has_the_widths_that_the_search_chose(searched, study):
    database, _ = searched
    (staged,) = (t for t in trials(database) if "s" in t.values_of(Phase.TRAINING))
    plan = reported_plan(study, staged.point)
    assert {name: len(kept) for name, kept in kept_by(plan).items()} == dict(staged.point)
    assert plan != study.finisher.plan(staged.point), "other channels than those of the network cut at once"
    assert staged.values_of(Phase.FINAL)["macs"] == staged.values["macs"] <= 141_062


def test_the_network_that_is_exported_is_the_one_that_was_measured(searched, tmp_path):
    database, _ = searched
    _, told = exported(database, tmp_path / "out")
    assert told["training"]["stages"] == 3 and told["training"]["rewind"] == 0.8
    assert told["sparsify"]["strength"] == 0.05
    kept = files(database)[WEIGHTS]
    assert told["plan"] == json.loads(read_plan(Path(kept.path), kept.sha256).to_json())  # type: ignore[union-attr]


def test_the_search_starts_from_the_trained_network_and_compares_with_the_one_given(searched, study):
    database, ran = searched
    given = load_model("small_cnn", {}, WEIGHTS_FILE)
    base, validation = next(t for t in trials(database) if t.agent == "base"), study.setup.problem.validation
    assert (
        base.values_of(Phase.FINAL)["accuracy"]
        == accuracy(given, validation)
        != accuracy(study.setup.space.original, validation)
    )
    assert base.values_of(Phase.FINAL)["divergence"] == pytest.approx(0, abs=1e-6)
    for network in (study.finisher.network(study.setup.space.original_point), study.evaluator.original):
        assert all(torch.equal(x, given.state_dict()[name]) for name, x in network.state_dict().items())
    before = energies(channel_space(given, study.setup.problem.example_inputs))
    there = pickle.loads(pickle.dumps(study.evaluator))
    assert (
        there(study.setup.space.original_point).measurements
        == study.evaluator(study.setup.space.original_point).measurements
    )
    norms = [
        sum(float(e**0.5) for group in found.values() for e in group) for found in (before, energies(study.setup.space))
    ]
    assert norms[1] < 0.95 * norms[0]
    cut = study.setup.space.build(study.evaluator.plan(trials(database)[1].point))
    rows = list(kept_by(study.evaluator.plan(trials(database)[1].point))["stem.0"])
    assert torch.equal(
        cut.get_parameter("stem.0.weight"), study.setup.space.original.get_parameter("stem.0.weight")[rows]
    )
    assert "training the original with group_lasso before the search" in ran.err


def test_a_study_killed_in_the_middle_of_all_that_ends_as_one_that_ran_through(searched, tmp_path):
    through, _ = searched
    database = tmp_path / "study.db"
    search = ("search", study_file(tmp_path), "--storage", database)
    kill(tmp_path, *search, when=lambda said: "epoch 1 of 2" in said)
    assert list(tmp_path.rglob("sparse-group_lasso-0.05.checkpoint"))
    kill(tmp_path, *search, when=lambda said: "epoch 1 of 2" in said.partition("stage 2 of 3")[2])
    assert len(list(tmp_path.rglob("*.checkpoint"))) == 2
    ran = command("resume", "amc-digits", "--storage", database)
    assert ran.code == 0, ran.err
    assert "starting from the network that was trained with group_lasso before" in ran.err
    assert "stage 1 of 3, 49.3% of MACs: epoch" not in ran.err and "epoch 1 of 2" not in ran.err.partition("stage 3")[0]
    assert not list(tmp_path.rglob("*.checkpoint"))
    assert outcome(database) == outcome(through)
    assert {kind: kept.sha256 for kind, kept in files(database).items() if kind in (WEIGHTS, SPARSE)} == {
        kind: kept.sha256 for kind, kept in files(through).items() if kind in (WEIGHTS, SPARSE)
    }


GREEDY = (
    "finish: {finalists: 1, reconstruction: as_searched, stages: {count: 2, cut: greedy, growing_decay: 0.5}, "
    f"training: {{epochs: 4, {FAST}}}}}",
    "evaluation: {importance: magnitude, reconstruction: none}",
)


def test_widths_found_greedily_are_what_is_reported_also_after_a_kill(tmp_path):
    (tmp_path / "through").mkdir()
    through, database = tmp_path / "through" / "study.db", tmp_path / "study.db"
    file = write(tmp_path, *GREEDY, trials=1, baselines="", agent="random")
    ran = command("search", file, "--storage", through)
    assert ran.code == 0, ran.err
    told = [line.partition("stage ")[2].partition(":")[0] for line in ran.err.splitlines() if ": epoch 1" in line]
    assert told[:2] == ["1 of 2, before the cut to 34.6% of MACs", "1 of 2, 34.6% of MACs"]
    assert "widths found in greedy stages" in ran.out
    (made,) = (t for t in trials(through) if "s" in t.values_of(Phase.TRAINING))
    assert sum((m.phase, m.metric) == (Phase.TRAINING, "loss") for m in made.measurements) == 8

    kill(
        tmp_path,
        "search",
        file,
        "--storage",
        database,
        when=lambda said: "epoch 1 of 2" in said.partition("2 of 2,")[2],
    )
    assert sum(path.name.endswith("pressing.checkpoint") for path in tmp_path.rglob("*.checkpoint")) == 2
    ran = command("resume", "amc-digits", "--storage", database)
    assert ran.code == 0 and "stage 1 of 2, 34.6% of MACs: epoch" not in ran.err, ran.err
    assert not list(tmp_path.rglob("*.checkpoint")) and outcome(database) == outcome(through)
    assert files(database)[WEIGHTS].sha256 == files(through)[WEIGHTS].sha256

    _, manifest = exported(database, tmp_path / "out")
    kept = files(database)[WEIGHTS]
    assert manifest["plan"] == json.loads(read_plan(Path(kept.path), kept.sha256).to_json())  # type: ignore[union-attr]
    (cut,) = manifest["plan"]
    assert manifest["point"] == {name: len(kept) for name, kept in cut["kept"].items()} != dict(made.point)
    space = channel_space(load_model("small_cnn", {}, WEIGHTS_FILE), problem("small_cnn").example_inputs)
    cost = space.cost(space.point([manifest["point"][knob.name] for knob in space.knobs]), "macs")
    assert cost == made.values_of(Phase.FINAL)["macs"] <= made.values["macs"] <= 141_062


def test_a_study_goes_on_from_its_own_start_only(searched, tmp_path):
    database, _ = searched
    with moved(database, tmp_path, "study.db.artifacts") as copy, open_store(copy, create=False) as store:
        config = StudyConfig.from_record(store.study("amc-digits").config)
        Study(store, config)  # the files moved along with the database
        file = tmp_path / "study.db.artifacts" / "amc-digits" / "sparse.safetensors"
        file.write_bytes(file.read_bytes()[:-4] + b"\0\0\0\1")
        with pytest.raises(StudyError, match="are not those that were recorded"):
            Study(store, config)
        file.unlink()
        with pytest.raises(StudyError, match="cannot be read"):
            Study(store, config)


def test_who_teaches_may_have_other_weights_than_what_is_cut():
    trained = problem("small_cnn")
    space = channel_space(trained.model, trained.example_inputs)
    plan, original = (
        space.plan(space.point(space.lowest.tolist())),
        channel_space(trained.model, trained.example_inputs),
    )
    with torch.no_grad():
        for parameter in space.original.parameters():
            parameter.mul_(0.5)
    (inputs, _) = trained.calibration[0]
    for teacher, expected in ((None, space.original), (original.original, original.original)):
        loss = distillation(trained, space, plan, DistillationOptions(), original=teacher)
        with torch.inference_mode():
            torch.testing.assert_close(loss.teacher(inputs)[0], expected(*inputs), atol=1e-4, rtol=1e-4)


def batches(seed: int) -> list[tuple[Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(seed)
    return [(torch.randn(48, 3, 8, 8, generator=generator), torch.randint(4, (48,), generator=generator))]


def usual_layers() -> tuple[nn.Module, ...]:
    return nn.Conv2d(3, 12, 3), nn.BatchNorm2d(12), nn.ReLU(), nn.Flatten(), nn.Linear(432, 4)


@pytest.fixture
def compressed(tmp_path, monkeypatch) -> Callable[..., automl.CompressionResult]:
    """Compresses a small network, these layers or others, with these sections."""
    monkeypatch.chdir(tmp_path)

    def run(
        *layers: nn.Module, learning_rate: float = 0.05, stages: int | dict | None = None, **sections
    ) -> automl.CompressionResult:
        torch.manual_seed(0)
        layers = layers or usual_layers()
        form = {"precision": "float32", "channels_last": True}
        training = {"epochs": 2, "batch_size": 16, **form, "learning_rate": learning_rate}
        finish = {"finalists": 1, "training": training}
        finish["stages"] = {"count": stages} if isinstance(stages, int) else stages
        return automl.compress(
            nn.Sequential(*layers),
            batches(0),
            batches(1),
            trials=2,
            agent="random",
            baselines=(),
            finish=finish,
            progress=False,
            **sections,
        )

    yield run
    assert list(tmp_path.iterdir()) == []


def test_one_stage_is_cutting_at_once_and_training(compressed):
    at_once, staged = compressed(), compressed(stages=1)
    assert at_once.plan == staged.plan
    for name, tensor in at_once.network.state_dict().items():
        assert torch.equal(tensor, staged.network.state_dict()[name]), name


@pytest.mark.parametrize("changes", [{"cut": "greedy"}, {"growing_decay": 0.5}])
def test_stages_keep_what_limits_the_budget_however_they_are_cut(compressed, changes):
    layers = nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(128, 4)
    budget = ["params <= 60%", "size <= 70%"]
    result = compressed(*layers, stages={"count": 2, **changes}, budget=budget)
    kept = {name: len(channels) for name, channels in kept_by(result.plan).items()}
    assert kept == dict(result.point) == result.manifest["point"]
    assert sum(p.numel() for p in result.network.parameters()) == result.measurements["params"].value
    assert result.measurements["params"].value <= 0.6 * result.base["params"].value
    assert result.measurements["size_bytes"].value <= 0.7 * result.base["size_bytes"].value
    assert {key: result.manifest["training"][key] for key in changes} == changes


@pytest.fixture
def early(tmp_path_factory) -> Path:
    """The weights of the usual layers as they were before."""
    torch.manual_seed(1)
    path = tmp_path_factory.mktemp("early") / "early.safetensors"
    safetensors.torch.save_file(nn.Sequential(*usual_layers()).state_dict(), path)
    return path


def test_stages_start_from_the_weights_that_they_are_rewound_to(compressed, early):
    stages = {"count": 2, "rewind_to": str(early)}
    result = compressed(stages=stages, learning_rate=1e-12)
    before, rows = safetensors.torch.load_file(early)["0.weight"], list(kept_by(result.plan)["0"])
    torch.testing.assert_close(result.network.get_parameter("0.weight"), before[rows], atol=1e-6, rtol=0)
    assert result.manifest["training"]["rewound_to"] is not None
    with pytest.raises(
        ModelError, match=r"finish.stages.rewind_to: the weights in .* do not fit Sequential: 0.weight has"
    ):
        compressed(nn.Conv2d(3, 8, 3), *usual_layers()[2:4], nn.Linear(288, 4), stages=stages)


def test_what_stages_are_rewound_to_may_lie_elsewhere_but_not_change(compressed, early):
    storage = early.with_name("study.db")
    first = compressed(stages={"count": 1, "rewind_to": str(early)}, storage=storage, name="s")
    moved_to = early.rename(early.with_name("moved.safetensors"))
    again = compressed(stages={"count": 1, "rewind_to": str(moved_to)}, storage=storage, name="s")
    assert again.measurements["loss"] == first.measurements["loss"]
    torch.manual_seed(2)
    safetensors.torch.save_file(nn.Sequential(*usual_layers()).state_dict(), moved_to)
    with pytest.raises(StudyError, match=r"early \(recorded '"):
        compressed(stages={"count": 1, "rewind_to": str(moved_to)}, storage=storage, name="s")
    with pytest.raises(StudyError, match=r"early \(recorded '.*', now None"):
        compressed(stages=1, storage=storage, name="s")


def test_a_network_whose_stages_diverge_stays_as_it_was(compressed):
    result = compressed(learning_rate=1e12, stages=2)
    assert result.measurements["accuracy"].value == result.measurements["refitted_accuracy"].value
    assert result.manifest["training"] is None


def test_what_starts_a_search_is_forgotten_with_its_study(compressed):
    short = {"epochs": 1, "batch_size": 16, "precision": "float32"}
    plain, started = compressed(), compressed(sparsify={"method": "group_decay", "training": short})
    assert {k: m.value for k, m in plain.base.items() if "latency" not in k} == {
        k: m.value for k, m in started.base.items() if "latency" not in k
    }
    assert plain.measurements["loss"].value != started.measurements["loss"].value
    assert plain.manifest["sparsify"] is None and started.manifest["sparsify"]["method"] == "group_decay"


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        ({"finish": {"stages": {"count": 3}}}, "set `finish.training` too"),
        ({"finish": {"stages": {"count": 0}, "training": {}}}, "finish.stages: count is a number of stages"),
        ({"finish": {"stages": {}, "training": {}}, "space": "depth"}, "out of a space of depth"),
        (
            {"finish": {"stages": {}, "training": {}}, "space": "weights", "budget": "params <= 50%"},
            "space of sparsity",
        ),
        ({"finish": {"stages": {"cut": "local"}, "training": {}}}, "expected one of point, greedy, got 'local'"),
        ({"finish": {"stages": {"growing_decay": 1.0}, "training": {}}}, "above 0 and below 1, got 1.0"),
        ({"finish": {"stages": {"growing_decay": 0.5}, "training": {"epochs": 1}}}, "needs at least 2, got 1"),
        ({"finish": {"stages": {"growing_decay": 0.5, "rewind_to": "f"}, "training": {}}}, "leave out one"),
        ({"sparsify": {}, "space": "weights", "budget": "params <= 50%"}, "sparsify presses whole channels"),
        ({"sparsify": {"strength": 0.0}}, "strength must be above 0"),
        ({"sparsify": {"method": "greg"}}, "expected one of group_lasso, group_decay, growl, got 'greg'"),
        ({"finish": {"training": {"rewind": 2.0}}}, "rewind is a part of the schedule, above 0 and at most 1"),
    ],
)
def test_sections_that_make_no_sense_are_refused_as_they_are_read(sections, message):
    with pytest.raises(ConfigError, match=message):
        StudyConfig.from_dict({"name": "s", "model": "m", "data": "d", "budget": "macs <= 50%", **sections})


def test_a_network_that_normalises_over_channels_is_cut_in_one_stage_only(compressed):
    layers = nn.Conv2d(3, 12, 3), nn.GroupNorm(1, 12), nn.ReLU(), nn.Flatten(), nn.Linear(432, 4)
    assert compressed(*layers, stages=1).manifest["training"]["stages"] == 1
    with pytest.raises(ConfigError, match="normalises over channels"):
        compressed(*layers, stages=2)


def test_weights_of_an_earlier_version_have_the_plan_of_their_point(tmp_path):
    content = safetensors.torch.save({"weight": torch.zeros(2)})
    (tmp_path / "old.safetensors").write_bytes(content)
    assert read_plan(tmp_path / "old.safetensors", hashlib.sha256(content).hexdigest()) is None


def test_a_stage_presses_for_a_part_of_its_epochs_and_always_tunes():
    assert StageOptions().epochs(5) == (0, 5)
    assert [StageOptions(growing_decay=part).epochs(10) for part in (0.01, 0.4, 0.99)] == [(1, 9), (4, 6), (9, 1)]


def test_stages_may_be_trained_as_every_trial_was():
    study = {"name": "s", "model": "m", "data": "d", "budget": "macs <= 50%"}
    read = StudyConfig.from_dict({**study, "evaluation": {"training": {}}, "finish": {"stages": {}}, "sparsify": {}})
    assert read.finish.stages is not None and read.finish.stages.count == 3 and read.sparsify == SparsifyOptions()
    assert StudyConfig.from_record(read.to_record()) == read

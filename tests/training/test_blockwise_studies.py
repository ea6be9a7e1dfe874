"""Studies whose finalists are tuned block by block: kept as tuned, and shipped as they were measured."""

from pathlib import Path

import pytest

from automl.config.study import StudyConfig
from automl.errors import ConfigError, StudyError
from automl.fit.layerwise import LayerByLayer
from automl.store import open_store
from automl.study.again import again
from automl.study.conclude import conclude
from automl.study.selection import WEIGHTS
from automl.study.study import Study
from automl.types import Phase
from tests.cli.conftest import automl as command
from tests.kits.studies import STUDY, exported, setup, trials, write

AGAIN = f"{STUDY}-finished"


def finished(database: Path, name: str) -> dict[str, dict[str, float]]:
    """Agent -> what its network was measured at in the end."""
    values = {t.agent: t.values_of(Phase.FINAL) for t in trials(database, name) if t.values_of(Phase.FINAL)}
    return {agent: final for agent, final in values.items() if agent != "base"}


def searched(database: Path, name: str) -> list[tuple]:
    """All that a search leaves, times apart."""
    phases = (Phase.SEARCH, Phase.AGENT)
    return [
        (t.agent, t.seed, t.number, t.point, t.state, t.finish_order, *(t.values_of(phase) for phase in phases))
        for t in trials(database, name)
    ]


def test_a_search_is_finished_again_block_by_block_and_what_comes_of_it_is_kept_and_shipped(tmp_path):
    """The second study has the first one's trials; the first is left as it was."""
    database = tmp_path / "study.db"
    file = write(tmp_path, "finish: {finalists: 1}", trials=4, baselines="", agent="random")
    assert (first := command("search", file, "--storage", database)).code == 0, first.err
    before = trials(database)
    ran = command("finish", STUDY, "--reconstruction", "blockwise", "--storage", database)
    assert ran.code == 0, ran.err
    assert trials(database) == before
    assert searched(database, AGAIN) == searched(database, STUDY)
    sequential, blockwise = finished(database, STUDY), finished(database, AGAIN)
    assert blockwise.keys() == sequential.keys() == {"random"}
    assert all(blockwise[agent]["divergence"] < sequential[agent]["divergence"] for agent in sequential)
    with open_store(database, create=False) as store:
        kept = [a for a in store.artifacts(store.study(AGAIN).id) if a.kind == WEIGHTS]
        assert store.study(AGAIN).environment["searched_as"] == STUDY
    _, told = exported(database, tmp_path / "winner", AGAIN)
    assert (told["reconstruction"], told["training"]) == ("blockwise", None)
    assert len(kept) == 1 and ", tuned block by block and counted: macs" in ran.out
    done = trials(database, AGAIN)
    assert command("finish", STUDY, "--reconstruction", "blockwise", "--storage", database).code == 0
    assert trials(database, AGAIN) == done, "what is done is not done again"


def test_a_search_that_is_not_done_or_was_finished_just_so_is_refused(tmp_path):
    config = StudyConfig.from_file(write(tmp_path))
    with open_store(tmp_path / "study.db") as store:
        Study(store, config)
        with pytest.raises(StudyError, match=r"has run 0 of 1 trials of base, seed 0: .*`automl resume amc-digits`"):
            again(store, STUDY, {"reconstruction": "blockwise"}, AGAIN)
        with pytest.raises(ConfigError, match="was finished just so"):
            again(store, STUDY, {"reconstruction": "sequential"}, AGAIN)
        with pytest.raises(ConfigError, match=r"finish.reconstruction: expected one of sequential, blockwise"):
            again(store, STUDY, {"reconstruction": "blocks"}, AGAIN)
        assert [study.name for study in store.studies()] == [STUDY]


@pytest.mark.parametrize(
    ("space", "limit"), [("weights", "params <= 40%"), ({"code": {"formats": ["int2"]}}, "size <= 40%")]
)
def test_weights_that_are_pruned_or_rounded_are_tuned_and_stay_so(space, limit):
    made = setup(space=space, budget=limit, objective="divergence")
    point, evaluator = made.space.point(made.space.lowest.tolist()), made.evaluator
    evaluator.prepare()
    careful = evaluator.finishing().network(point)
    tuned = evaluator.finishing(blockwise=True, steps=40).network(point)
    exact = ("params", "bops")  # a packed file is compressed: its bytes follow its values
    was, now = ({m.metric: m.value for m in evaluator.counts(n) if m.metric in exact} for n in (careful, tuned))
    assert now == was and any(not a.equal(b) for a, b in zip(careful.parameters(), tuned.parameters(), strict=True))
    evaluator.certify(tuned)
    outputs = [
        next(m.value for m in evaluator.measure_validation(n) if m.metric == "divergence") for n in (tuned, careful)
    ]
    assert outputs[0] < 1.2 * outputs[1], "of blocks that come no closer the weights are kept"


def test_a_network_is_fitted_once_while_its_study_is_concluded(tmp_path, monkeypatch):
    """Finished, certified, measured on the test data and timed: four uses of one network."""
    fitted: list[str] = []
    whole = LayerByLayer.apply

    def counted(self, *arguments):
        fitted.append("one")
        return whole(self, *arguments)

    monkeypatch.setattr(LayerByLayer, "apply", counted)
    with open_store(tmp_path / "study.db") as store:
        config = StudyConfig.from_file(write(tmp_path, trials=2, baselines="uniform", agent="random"))
        study = Study(store, config)
        study.run()
        fitted.clear()
        results = conclude(study)
        finished = [trial for trial in store.trials(study.record.id) if trial.values_of(Phase.FINAL)]
        assert len(fitted) == sum(trial.agent != "base" for trial in finished) >= 2
        assert results.network is conclude(study).network

"""Studies whose finalists are tuned block by block: kept as tuned, and shipped as they were measured."""

from pathlib import Path

import pytest

from automl.config.study import StudyConfig
from automl.errors import ConfigError
from automl.store import open_store
from automl.study.finishing import WEIGHTS
from automl.types import Phase
from tests.cli.conftest import automl as command
from tests.kits.studies import exported, trials, write


def test_finalists_are_tuned_kept_and_shipped(tmp_path):
    losses = {}
    for how in ("sequential", "blockwise"):
        (folder := tmp_path / how).mkdir()
        file = write(folder, f"finish: {{finalists: 1, reconstruction: {how}}}", baselines="uniform", agent="random")
        ran = command("search", file, "--storage", folder / "study.db")
        assert ran.code == 0, ran.err
        finished = [t for t in trials(folder / "study.db") if "loss" in t.values_of(Phase.FINAL) and t.agent != "base"]
        losses[how] = {t.agent: t.values_of(Phase.FINAL)["divergence"] for t in finished}
    assert all(losses["blockwise"][agent] < losses["sequential"][agent] for agent in losses["sequential"])
    database = tmp_path / "blockwise" / "study.db"
    with open_store(database, create=False) as store:
        kept = [a for a in store.artifacts(store.studies()[0].id) if a.kind == WEIGHTS]
    assert {Path(a.path).stem for a in kept} == {t.point.key for t in finished}
    _, told = exported(database, tmp_path / "winner")
    assert (told["reconstruction"], told["training"]) == ("blockwise", None)
    assert ", tuned block by block and counted: macs" in ran.out


def test_weights_that_were_removed_are_not_tuned_back():
    with pytest.raises(ConfigError, match="give removed weights back"):
        StudyConfig.from_dict(
            {
                "name": "s",
                "model": "small_cnn",
                "data": "digits",
                "budget": "params <= 50%",
                "space": "weights",
                "finish": {"reconstruction": "blockwise"},
            }
        )

"""The agent `gates` in studies: trained under the budget, on record, and not trained again."""

import pytest

import automl
from automl.errors import AutomlError
from automl.store import open_store
from automl.study.learnt_widths import LearntWidths, recorded
from automl.types import BASE, Phase
from automl.util.duration import duration
from search_spaces.pricing.metrics import PEAK
from tests.kits.digits import held_out, problem, train_batches

GATES = {"name": "gates", "steps": 40, "batch_size": 64, "gate_rate": 0.4, "dual_rate": 1.0}


def compress(storage, **changes):
    network = problem("small_cnn").model
    arguments = {"budget": ["macs <= 40%", "params <= 60%"], "agent": GATES, "baselines": ["uniform"], "trials": 2}
    return automl.compress(
        network, train_batches(0)[:4], held_out(), storage=storage, name="s", progress=False, **arguments | changes
    )


@pytest.mark.parametrize("learner", [{}, {"learner": "bernoulli", "gate_rate": 0.1}])
def test_what_gates_learn_is_searched_recorded_and_not_learnt_twice(tmp_path, monkeypatch, learner):
    agent = GATES | learner
    first = compress(tmp_path / "s.db", agent=agent)
    with open_store(tmp_path / "s.db") as store:
        study = store.study("s")
        base, gates = (store.trials(study.id, agent=agent, seed=0) for agent in (BASE, "gates"))
    learnt = recorded(base[0])[0]
    assert learnt.kept.keys() == gates[0].point.keys()
    assert all(0 <= kept <= 1 for kept in learnt.kept.values())
    assert min(learnt.kept.values()) < 1
    assert not [label for label in base[0].labelled() if label.startswith(Phase.GATES)]
    assert not list(tmp_path.rglob("*.checkpoint"))
    row = next(line for line in first.report.splitlines() if line.startswith("gates"))
    assert row.endswith(duration(gates[0].wall_s + learnt.seconds))

    monkeypatch.setattr(LearntWidths, "_trained", lambda *_: pytest.fail("trained again"))
    assert compress(tmp_path / "s.db", agent=agent).point == first.point


def test_ranked_channels_keep_three_budgets_at_once(tmp_path):
    """Peak memory, bytes and multiply-accumulates, as counted on the network that is reported."""
    budget = ["peak_memory <= 70%", "size <= 40%", "macs <= 50%"]
    found = compress(tmp_path / "s.db", budget=budget, agent=GATES | {"learner": "ranked"}, baselines=[])
    with open_store(tmp_path / "s.db") as store:
        study = store.study("s")
        base, gates = (store.trials(study.id, agent=agent, seed=0) for agent in (BASE, "gates"))
    assert gates[0].point == found.point
    assert min(recorded(base[0])[0].kept.values()) < 1
    counted, whole = gates[0].values_of(Phase.FINAL), base[0].values
    for metric, share in ((PEAK, 0.7), ("size_bytes", 0.4), ("macs", 0.5)):
        assert counted[metric] <= share * whole[metric]


def test_where_there_are_no_channels_to_gate(tmp_path):
    with pytest.raises(AutomlError, match="no operator channels"):
        compress(tmp_path / "s.db", space="sparsity", budget="params <= 40%")


def test_options_that_make_no_sense(tmp_path):
    for options, complaint in (
        ({"steps": 0}, "integer >= 1"),
        ({"dropout": 1.5}, "below 1"),
        ({"learner": "rank"}, "expected one of hard_concrete, bernoulli, ranked"),
        ({"gate_rate": 0}, "above 0"),
    ):
        with pytest.raises(AutomlError, match=complaint):
            compress(tmp_path / "s.db", agent=GATES | options)

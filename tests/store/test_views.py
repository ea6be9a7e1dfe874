"""The views say what the record holds, in both databases; every question of `docs/database.md` has its answer."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import sqlalchemy as sa

from automl.store import Rule, conclude_study, open_store
from automl.store.meanings import ITSELF, TABLES, VIEWS
from automl.store.schema import metadata
from automl.store.views import VIEWS as MADE
from automl.types import Measurement, Outcome, Phase
from search_spaces import Knob, Point

DOCS = (Path(__file__).resolve().parents[2] / "docs" / "database.md").read_text()
QUESTIONS = dict(re.findall(r"### ([^\n]*\?)\n\n```sql\n(.*?);\n```", DOCS, re.DOTALL))
KNOBS = (
    Knob("block:layer1", (0, 1), "block", kind="gate"),
    Knob("conv1", (4, 8, 16)),
    Knob("query:heads", (1, 2, 4)),
    Knob("rank:fc", (2, 8, 16), "of break-even", 16, labels=("12%", "50%", "whole")),
    Knob("fc.weight", (10, 40), "weights", 40),
    Knob("code:fc", (4, 8, 32), "bits", labels=("int4", "int8", "float32")),
    Knob("skip:a>b", (0, 1), "skip", kind="free"),
)
"""A knob of every kind that operators offer."""
ORIGINAL = {knob.name: knob.original for knob in KNOBS}
CONFIG = {
    "knobs": [knob.to_record() for knob in KNOBS],
    "goal": {"metric": "accuracy", "direction": "maximize"},
    "limits": {"macs": 50.0},
}


def searched(accuracy: float, macs: float) -> Outcome:
    steps = [Measurement("accuracy", accuracy / 2, step=1), Measurement("accuracy", accuracy, "", 100, 0.02, step=2)]
    return Outcome.done([*steps, Measurement("macs", macs, "MAC"), Measurement("params", macs / 10)], 2.0)


@pytest.fixture
def store(any_url):
    """A study in which the second best of the search is the best of what was finished."""
    with open_store(any_url) as store:
        study = store.create_study("my-study", CONFIG, code_version="1", environment={})

        def trial(agent, number, outcome, **levels):
            opened = store.open_trial(study.id, agent, 0, number, Point({**ORIGINAL, **levels}))
            return store.close_trial(opened.id, outcome)

        trial("base", 0, searched(0.9, 100))
        first = trial("random", 0, searched(0.8, 50), conv1=4)
        better = trial("amc", 0, searched(0.7, 40), conv1=8, **{"block:layer1": 0, "code:fc": 4, "skip:a>b": 1})
        trial("amc", 1, searched(0.6, 45))  # dominated
        trial("amc", 2, searched(0.5, 20))
        trial("amc", 3, Outcome.failed("out of memory"))
        lost = store.open_trial(study.id, "amc", 0, 4, Point({**ORIGINAL, "conv1": 4}))
        store.fail_attempt(lost.id, "its worker died", max_attempts=2)
        store.close_trial(
            lost.id, Outcome.infeasible("macs 60 > 50", [Measurement("accuracy", 0.99), Measurement("macs", 1)])
        )
        for record, accuracy in ((first, 0.75), (better, 0.85)):
            final = [Measurement("accuracy", accuracy, "", 400, 0.01), Measurement("macs", 49.0, "MAC")]
            store.add_measurements(
                record.id, [Measurement(m.metric, m.value, m.unit, m.n, m.spread, phase=Phase.FINAL) for m in final]
            )
        timed = [
            Measurement("latency_ms", 3.0, "ms", 15, 0.2, "cpu", phase=Phase.LATENCY),
            Measurement("latency_ratio", 0.5, "", 15, 0.02, "cpu", phase=Phase.LATENCY),
            Measurement("latency_ratio", 0.55, "", 30, 0.01, "cpu", phase=Phase.CERTIFICATE),
            Measurement("accuracy", 0.84, "", 1000, 0.012, phase=Phase.TEST),
            Measurement("own", 7.0, phase=Phase.TEST),
        ]
        store.add_measurements(better.id, timed)
        store.add_artifact(study.id, better.id, "onnx", "w/model.onnx", "a" * 64)
        conclude_study(store, first.id, ())
        conclude_study(store, better.id, [Rule("macs <= 50%", "macs", Phase.FINAL, "at most", 50.0, 49.0)])
        yield store


def ask(store, query: str) -> list[tuple]:
    return store.database.reading(lambda c: [tuple(row) for row in c.execute(sa.text(query))])


def test_the_winner_is_the_last_that_was_concluded_with_what_it_is_worth(store):
    (row,) = ask(
        store,
        "SELECT study, agent, number, searched, searched_spread, final, final_spread, test, macs, params, "
        "latency_ratio, latency_ms, certified_latency_ratio, accuracy, final_accuracy FROM winner",
    )
    assert row == ("my-study", "amc", 0, 0.7, 0.02, 0.85, 0.01, 0.84, 49.0, 4.0, 0.5, 3.0, 0.55, 0.7, 0.85)
    assert ask(store, "SELECT agent, number FROM trial_summary WHERE reported") == [("amc", 0)]


def test_a_trial_has_a_row_and_the_last_step_counts(store):
    rows = ask(store, "SELECT agent, number, state, searched, final, macs FROM trial_summary ORDER BY agent, number")
    assert rows == [
        ("amc", 0, "done", 0.7, 0.85, 49.0),
        ("amc", 1, "done", 0.6, None, 45.0),
        ("amc", 2, "done", 0.5, None, 20.0),
        ("amc", 3, "failed", None, None, None),
        ("amc", 4, "infeasible", 0.99, None, 1.0),
        ("base", 0, "done", 0.9, None, 100.0),
        ("random", 0, "done", 0.8, 0.75, 49.0),
    ]


def test_decisions_are_told_for_every_operator(store):
    rows = ask(
        store,
        "SELECT d.operator, d.site, d.unit, d.level, d.original, d.keep FROM decision AS d "
        "JOIN winner AS w ON w.trial_id = d.trial_id ORDER BY d.position",
    )
    assert rows == [
        ("depth", "layer1", "block", 0, 1, 0.0),
        ("channels", "conv1", "channels", 8, 16, 0.5),
        ("channels", "query:heads", "channels", 4, 4, 1.0),
        ("rank", "fc", "of break-even", 16, 16, 1.0),
        ("sparsity", "fc.weight", "weights", 40, 40, 1.0),
        ("code", "fc", "bits", 4, 32, 0.125),
        ("depth", "a>b", "skip", 1, 0, 0.0),
    ]
    told = {knob.name: knob for knob in KNOBS}
    for name, level, keep, original in ask(store, "SELECT knob, level, keep, original FROM decision"):
        assert keep == told[name].keep(level) and original == told[name].original


def test_the_front_is_of_what_is_done(store):
    front = ask(
        store, "SELECT phase, taken, value, agent, number FROM pareto WHERE cost = 'macs' ORDER BY phase, taken"
    )
    assert front == [
        ("final", 49.0, 0.85, "amc", 0),
        ("search", 20.0, 0.5, "amc", 2),
        ("search", 40.0, 0.7, "amc", 0),
        ("search", 50.0, 0.8, "random", 0),
    ]
    assert ask(store, "SELECT taken FROM pareto WHERE cost = 'latency_ms'") == [(3.0,)]


def test_the_best_so_far_never_falls_and_a_failure_is_passed_over(store):
    rows = ask(store, "SELECT finish_order, value, best FROM best_so_far WHERE agent = 'amc' ORDER BY finish_order")
    assert rows == [(1, 0.7, 0.7), (2, 0.6, 0.7), (3, 0.5, 0.7), (4, None, 0.7), (5, None, 0.7)]


def test_failures_and_attempts_say_why(store):
    rows = ask(store, "SELECT number, outcome, attempt, reason FROM failure ORDER BY number, attempt, outcome")
    assert rows == [
        (3, "failed", 1, "out of memory"),
        (4, "attempt", 1, "its worker died"),
        (4, "infeasible", 2, "macs 60 > 50"),
    ]


def test_less_is_better_where_the_study_says_so(store):
    config = {**CONFIG, "goal": {"metric": "loss", "direction": "minimize"}}
    study = store.create_study("small", config, code_version="1", environment={})
    for number, (loss, macs) in enumerate([(0.5, 30.0), (0.4, 40.0), (0.6, 50.0)]):
        opened = store.open_trial(study.id, "random", 0, number, Point(ORIGINAL))
        store.close_trial(opened.id, Outcome.done([Measurement("loss", loss), Measurement("macs", macs)]))
    assert ask(store, "SELECT best FROM best_so_far WHERE study = 'small' ORDER BY finish_order") == [
        (0.5,),
        (0.4,),
        (0.4,),
    ]
    assert ask(store, "SELECT value FROM pareto WHERE study = 'small' ORDER BY taken") == [(0.5,), (0.4,)]


def test_a_record_without_knobs_or_goal_has_rows_without_them(store):
    for name, config in (("bare", {}), ("odd", {"knobs": []})):
        study = store.create_study(name, config, code_version="1", environment={})
        opened = store.open_trial(study.id, "random", 0, 0, Point(ORIGINAL))
        store.close_trial(opened.id, searched(0.5, 1))
    rows = ask(store, "SELECT searched, accuracy, macs FROM trial_summary WHERE study IN ('bare', 'odd')")
    assert rows == [(None, 0.5, 1.0)] * 2
    for view in ("decision", "pareto"):
        assert ask(store, f"SELECT count(*) FROM {view} WHERE study IN ('bare', 'odd')") == [(0,)]


ANSWERS = {
    "Which network was reported": [("my-study", "amc", 0, 0, 0.7, 0.85, 0.01, 0.84, 0.012, 49.0, 4.0, None)],
    "Does it keep the budget": [("macs <= 50%", "macs", "at most", 50.0, 49.0, pytest.approx(0.02))],
    "Which files": [("onnx", "w/model.onnx", "a" * 64)],
    "After how many trials": [("amc", 0, 1), ("random", 0, 1)],
    "What is the trade-off": [(20.0, 0.5, "amc", 0, 2), (40.0, 0.7, "amc", 0, 0), (50.0, 0.8, "random", 0, 0)],
    "How fast": [
        ("amc", 0, 0, "latency", 3.0, 0.2, 0.5, 0.02, 15, "cpu"),
        ("amc", 0, 0, "certificate", None, None, 0.55, 0.01, 30, "cpu"),
    ],
    "What did a metric of my own": [
        ("amc", 0, 0, "accuracy", 0.84, 0.012, 1000),
        ("amc", 0, 0, "own", 7.0, None, 1),
    ],
}
"""How a question begins -> its answer here, times left out."""


@pytest.mark.parametrize("question", QUESTIONS)
def test_a_question_of_the_documentation_is_answered(store, question):
    rows = ask(store, QUESTIONS[question])
    assert rows
    known = next((answer for begin, answer in ANSWERS.items() if question.startswith(begin)), None)
    if known is not None:
        assert [row[: len(answer)] for row, answer in zip(rows, known, strict=True)] == known


def test_there_are_twelve_questions():
    assert len(QUESTIONS) == 12 and all(any(q.startswith(begin) for q in QUESTIONS) for begin in ANSWERS)


def test_every_column_is_described_and_no_other(store):
    for view in MADE:
        with store.database.read() as connection:
            there = list(connection.execute(sa.text(f"SELECT * FROM {view} LIMIT 0")).keys())
        assert set(there) == VIEWS[view].keys() - {ITSELF}, view
    assert {name: {c.name for c in table.c} for name, table in metadata.tables.items()} == {
        name: set(columns) - {ITSELF} for name, columns in TABLES.items()
    }


def test_the_documentation_lists_them():
    for name, columns in {**VIEWS, **TABLES}.items():
        section = DOCS.partition(f"### `{name}`\n")[2].partition("\n#")[0]
        assert f"A row: {columns[ITSELF]}.\n" in section, name
        listed = dict(re.findall(r"^\| `(\w+)` \| (.*) \|$", section, re.MULTILINE))
        assert listed == {column: meaning for column, meaning in columns.items() if column}, name


def test_postgresql_keeps_the_meanings(postgres_url):
    open_store(postgres_url).close()
    engine = sa.create_engine(postgres_url)
    with engine.connect() as connection:
        told = connection.execute(
            sa.text(
                "SELECT c.relname, a.attname, col_description(c.oid, a.attnum) FROM pg_class c "
                "JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 "
                "WHERE c.relnamespace = current_schema()::regnamespace"
                " AND c.relkind IN ('r', 'v')"
            )
        ).all()
    engine.dispose()
    meanings = {**TABLES, **VIEWS}
    assert {(name, column): meaning for name, column, meaning in told} == {
        (name, column): meaning for name, columns in meanings.items() for column, meaning in columns.items() if column
    }

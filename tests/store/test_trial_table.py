"""The trials as a table, and the formats in which it is written."""

import io
import json

import pandas as pd
import pytest

from automl.errors import ConfigError, ExportError
from automl.store import StudyNotFoundError, chosen, frame, open_store, read_trials, recorded_trials, write_trials
from automl.store.trial_table import readable
from automl.types import Measurement, Outcome, Phase
from tests.kits.stores import CONFIG, add_trial, new_study, outcome, point

KNOB_COLUMNS = ["keep:stem", "keep:block.conv1", "level:bits"]


@pytest.fixture
def store(sqlite_url):
    with open_store(sqlite_url) as store:
        yield store


@pytest.fixture
def table(store):
    study = new_study(store)
    first = add_trial(store, study, "amc", 1, 0, point(8, 16, 4), outcome(1 / 3, 123456789))
    add_trial(store, study, "amc", 0, 0, point(2, 8, 2), Outcome.failed('out of memory, "twice"\nü' + "x" * 100))
    again = store.open_trial(study.id, "random", 0, 0, point(8, 16, 4))
    store.close_trial(again.id, outcome(1 / 3, 123456789), repeat_of=first.id)
    store.open_trial(study.id, "random", 0, 1, point())
    reported = [Measurement("accuracy", 0.25, phase=Phase.TEST), Measurement("latency_ms", 1.25, phase=Phase.LATENCY)]
    store.add_measurements(first.id, reported)
    return frame(store, "digits")


@pytest.fixture
def rows(store, table):
    """The same before it is a DataFrame."""
    return recorded_trials(store, "digits")


def test_a_row_a_trial_and_a_column_a_fact(table):
    fixed = ["agent", "seed", "number", "state", "reason", "started", "finished", "wall_s", "finish_order", "repeated"]
    assert list(table.columns) == [*fixed, "accuracy", "macs", "test_accuracy", "latency_ms", *KNOB_COLUMNS]
    assert list(zip(table.agent, table.seed, table.number, strict=True)) == [
        ("amc", 0, 0),
        ("amc", 1, 0),
        ("random", 0, 0),
        ("random", 0, 1),
    ]
    assert list(table.state) == ["failed", "done", "done", "running"]
    assert list(table.repeated) == [False, False, True, False]
    assert table.accuracy.isna().tolist() == [True, False, False, True]
    assert table.accuracy[1] == 1 / 3 and table.macs[1] == 123456789 and table.latency_ms[1] == 1.25
    assert table.test_accuracy[1] == 0.25 and table.test_accuracy.isna().sum() == 3
    assert table[KNOB_COLUMNS].values.tolist() == [[0.25, 0.5, 2], [1, 1, 4], [1, 1, 4], [0.5, 3 / 16, 8]]
    assert str(table.started.dtype) == str(table.finished.dtype) == "datetime64[us, UTC]"
    assert table.finished.isna().tolist() == [False, False, False, True]
    assert table.finish_order.tolist()[:3] == [1, 1, 1]


def test_a_study_without_trials_has_the_same_columns(store, table):
    new_study(store, "empty")
    empty = frame(store, "empty")
    assert len(empty) == 0
    kept = [c for c in table.columns if c not in ("accuracy", "macs", "test_accuracy", "latency_ms")]
    assert list(empty.columns) == kept
    assert [empty[c].dtype for c in ("seed", "started", "wall_s")] == [
        table[c].dtype for c in ("seed", "started", "wall_s")
    ]


def test_a_metric_of_the_search_keeps_its_name_in_every_row(store):
    study = new_study(store)
    add_trial(store, study, "amc", 0, 0, result=Outcome.done([Measurement("test_accuracy", 0.5)]))
    tested = add_trial(store, study, "amc", 0, 1)
    store.add_measurements(tested.id, [Measurement("accuracy", 0.75, phase=Phase.TEST)])
    table = frame(store, "digits")
    assert table["test_accuracy"].fillna(0).tolist() == [0.5, 0]
    assert table["test:accuracy"].fillna(0).tolist() == [0, 0.75]


def test_a_config_without_knobs_shows_levels(store):
    add_trial(store, new_study(store, "bare", {}))
    row = frame(store, "bare").iloc[0]
    assert (row["level:stem"], row["level:block.conv1"], row["level:bits"]) == (4, 3, 8)


def test_a_size_in_the_config_counts(store):
    config = {**CONFIG, "knobs": [{**CONFIG["knobs"][0], "size": 16}, *CONFIG["knobs"][1:]]}
    add_trial(store, new_study(store, "sized", config), at=point(8))
    assert frame(store, "sized")["keep:stem"][0] == 0.5


def test_an_unknown_study_offers_the_nearest(store, table):
    with pytest.raises(StudyNotFoundError, match="did you mean 'digits'"):
        frame(store, "digit")


def test_csv_holds_everything(table, rows, tmp_path):
    write_trials(rows, "csv", tmp_path / "t.csv")
    read = pd.read_csv(tmp_path / "t.csv")
    assert list(read.columns) == list(table.columns)
    assert read.accuracy.tolist()[1:3] == [1 / 3] * 2 and read.reason[0] == table.reason[0]
    assert pd.to_datetime(read.started).tolist() == table.started.tolist()


def test_json_holds_everything(table, rows, tmp_path):
    write_trials(rows, "json", tmp_path / "t.json")
    read = json.loads((tmp_path / "t.json").read_text())
    assert [list(row) for row in read] == [list(table.columns)] * 4
    assert read[1]["accuracy"] == pytest.approx(1 / 3, abs=1e-14) and read[0]["accuracy"] is None
    assert read[0]["reason"] == table.reason[0] and read[1]["repeated"] is False
    assert [pd.Timestamp(row["started"]) for row in read] == list(table.started)


def test_parquet_holds_everything_with_its_types(table, rows, tmp_path):
    write_trials(rows, "parquet", tmp_path / "t.parquet")
    pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / "t.parquet"), table)


def test_the_table_is_for_reading(table, rows, capsysbinary):
    write_trials(rows, "table")
    text = capsysbinary.readouterr().out.decode()
    lines = text.splitlines()
    assert len(lines) == 6, "a title, a rule, one line a trial"
    assert "0.3333 ±0.01" in lines[3] and "123,456,789" in lines[3] and "amc" in lines[3]
    assert "out of memory" in lines[2] and "keep:" not in text and "nan" not in text.lower()


def test_the_table_of_no_trials_and_of_no_failures(store, capsysbinary):
    study = new_study(store, "empty")
    write_trials(recorded_trials(store, "empty"), "table")
    add_trial(store, study)
    write_trials(recorded_trials(store, "empty"), "table")
    assert b"reason" not in capsysbinary.readouterr().out.splitlines()[-2]


@pytest.mark.parametrize("format", ["csv", "json", "parquet"])
def test_standard_output_gets_the_same_bytes(table, rows, tmp_path, capsysbinary, format):
    write_trials(rows, format, tmp_path / "file")
    write_trials(rows, format)
    out = capsysbinary.readouterr().out
    assert out == (tmp_path / "file").read_bytes()
    if format == "parquet":
        assert len(pd.read_parquet(io.BytesIO(out))) == 4


def test_an_unknown_format_offers_the_nearest(table, rows):
    with pytest.raises(ConfigError, match="did you mean 'parquet'"):
        write_trials(rows, "parket")


def test_a_file_that_cannot_be_written_is_named(table, rows, tmp_path):
    with pytest.raises(ExportError, match=r"cannot write .*no such folder/t\.csv: No such file"):
        write_trials(rows, "csv", tmp_path / "no such folder" / "t.csv")


@pytest.mark.parametrize("width", [20, 40, 79, 160])
def test_a_table_is_never_wider_than_the_terminal_and_says_what_it_leaves_out(rows, width):
    text = readable(rows, width=width)
    assert max(map(len, text.splitlines())) <= width
    assert ("not shown:" in text) == (width < 160)


@pytest.mark.parametrize(
    ("where", "numbers"),
    [
        ("accuracy > 0.5", [1, 2]),
        ("accuracy > 50%", [1, 2]),
        ("macs <= 50%", [1]),
        ("macs<=500 and accuracy>=.6", [1]),
        ("macs <= 0.6k", [1, 2]),
        ("macs <= 50% or accuracy < 0.5", [0, 1, 3]),
        ("not (macs <= 50% or accuracy < 0.5) and agent = random", [2, 4]),
        ("agent != base and state = 'done' and number >= 2", [2, 3]),
        ('reason = "out of memory"', [4]),
        ("repeated = false and seed = 0 and keep:stem = 1", [0, 1, 2, 3]),
        ("accuracy > 1e-1 and number < 2 and agent = random", [1]),
    ],
)
def test_a_condition_chooses_trials(store, where, numbers):
    study = new_study(store)
    add_trial(store, study, "base", 0, 0, point(8), outcome(0.4, 1000))
    for number, (accuracy, macs) in enumerate([(0.6, 500), (0.7, 501), (0.3, 900)], start=1):
        add_trial(store, study, "random", 0, number, point(8), outcome(accuracy, macs))
    add_trial(store, study, "random", 0, 4, point(4), Outcome.failed("out of memory"))
    assert [row["number"] for row in chosen(recorded_trials(store, "digits"), where).rows] == numbers
    read = read_trials(store.url, "digits", where=where, sort="-accuracy,number")
    assert sorted(read.number) == numbers


def test_what_lacks_a_column_is_last_whatever_the_order(store, rows):
    for sort, accuracies in (("accuracy", [1 / 3, 1 / 3, None, None]), ("-accuracy,agent", [1 / 3, 1 / 3, None, None])):
        assert [row.get("accuracy") for row in chosen(rows, sort=sort).rows] == accuracies
    assert chosen(rows, sort="-number").rows[0]["number"] == 1


@pytest.mark.parametrize(
    ("where", "complaint"),
    [
        ("", "expected a column, got 'the end'"),
        ("accuracy", "expected one of < <= .* got 'the end'"),
        ("accuracy >", "expected a condition, got 'the end'"),
        ("accuracy > > 1", "expected a condition, got '>'"),
        ("(accuracy > 1", "a bracket is open"),
        ("accuracy > 1)", r"got '\)'"),
        ("accuracy > 1 macs < 2", "no unit 'macs'"),
        ("acuracy > 1", "no column 'acuracy'.*did you mean 'accuracy'"),
        ("accuracy > high", "'accuracy' is compared with a number, got 'high'"),
        ("macs <= 50%", "the original network has none on record"),
        ("macs <= 50 furlongs", "no unit 'furlongs'"),
        ("__import__('os').system('true') = 1", "no column|expected"),
        ("accuracy > '", 'got "\'"'),
    ],
)
def test_a_condition_that_is_none_gets_one_clear_error(rows, where, complaint):
    with pytest.raises(ConfigError, match=complaint):
        chosen(rows, where)


def test_columns_are_those_that_are_named(rows, tmp_path):
    write_trials(rows, "csv", tmp_path / "t.csv", ["number", "keep:stem", "accuracy"])
    assert (tmp_path / "t.csv").read_text().splitlines()[0] == "number,keep:stem,accuracy"
    with pytest.raises(ConfigError, match="no column 'size'"):
        write_trials(rows, "csv", tmp_path / "t.csv", ["size"])

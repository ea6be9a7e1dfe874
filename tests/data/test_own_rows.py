"""Tables and signals of the user's own: what is read of them, how they are divided, what is refused."""

import gzip

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.datasets import load_diabetes

from automl.config.model import DataConfig
from automl.data.held_rows import OwnRows, Rows, RowSplits
from automl.data.own_rows import rows_of
from automl.data.row_arrays import read_rows
from automl.data.table_file import read_table
from automl.errors import ConfigError, DataError
from automl.tasks.regression import SquaresInVariances
from automl.tasks.sample_form import SampleForm


def mixed(n=60):
    rng = np.random.default_rng(0)
    return pd.DataFrame(
        {
            "age": rng.integers(20, 60, n),
            "town": rng.choice(["Rome", "Oslo", "Lima"], n),
            "owner": rng.random(n) < 0.5,
            "income": rng.normal(3e4, 1e3, n).round(2),
            "kind": rng.choice(["b", "a"], n),
        }
    )


def test_a_table_becomes_numbers_and_says_what_they_are(tmp_path):
    table = mixed()
    table.to_csv(tmp_path / "t.csv", index=False)
    own = read_table(tmp_path / "t.csv", "kind", None, 0)
    assert own.classes == 2 and own.names["classes"] == ["a", "b"] and own.names["target"] == "kind"
    names = [f"{one['column']}={one['is']}" if "is" in one else one["column"] for one in own.names["inputs"]]
    assert names == ["age", "town=Lima", "town=Oslo", "town=Rome", "owner", "income"]
    assert (len(own.train), len(own.test)) == (50, 10)
    everything = torch.cat([own.train.x, own.test.x]), torch.cat([own.train.y, own.test.y])
    order = np.lexsort([everything[0][:, 5].numpy()])
    expected = table.sort_values("income")
    assert np.array_equal(everything[0][order, 0], expected["age"])
    assert np.array_equal(everything[0][order, 3], expected["town"] == "Rome")
    assert np.array_equal(everything[1][order], expected["kind"] == "b")


@pytest.mark.parametrize(
    ("values", "task", "classes"),
    [
        ([0, 1, 2], None, 3),
        ([10.0, 20.0], None, 2),
        ([True, False], None, 2),
        ([0.5, 1.5], None, None),
        (range(30), None, None),
        ([0, 1, 2], "regression", None),
        (range(30), "classification", 30),
    ],
)
def test_what_is_predicted_are_classes_or_numbers(values, task, classes, tmp_path):
    values = list(values)
    pd.DataFrame({"x": np.arange(60.0), "y": (values * 30)[:60]}).to_csv(tmp_path / "t.csv", index=False)
    own = read_table(tmp_path / "t.csv", "y", task, 0)
    assert own.classes == classes
    assert own.train.y.dtype == (torch.float32 if classes is None else torch.int64)
    assert own.train.y.shape == ((50, 1) if classes is None else (50,))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda t: t.assign(age=t.age.where(t.age > 30)), r"lacks values in age \(\d+ of 60 rows\): fill them in"),
        (lambda t: t.assign(town=[f"town {i}" for i in range(60)]), "'town' has 60 different texts, such as 'town 0'"),
        (lambda t: t.assign(income=1e300), "'income' has numbers that are not finite in float32"),
        (lambda t: t.rename(columns={"kind": "kinds"}), "no column 'kind' to predict.*kinds"),
        (lambda t: t.head(5), "5 rows, expected 12 or more"),
        (lambda t: t[["kind"]], "two columns or more"),
    ],
)
def test_a_table_that_no_network_can_learn_from_is_refused(change, words, tmp_path):
    change(mixed()).to_csv(tmp_path / "t.csv", index=False)
    with pytest.raises(DataError, match=words):
        read_table(tmp_path / "t.csv", "kind", None, 0)


def test_texts_are_no_numbers_and_a_file_must_be_there(tmp_path):
    path = tmp_path / "t.tsv.gz"
    path.write_bytes(gzip.compress(mixed().to_csv(index=False, sep="\t").encode()))
    assert read_table(path, "kind", None, 0).classes == 2
    with pytest.raises(DataError, match="'town' has texts, which are classes"):
        read_table(path, "town", "regression", 0)
    with pytest.raises(DataError, match="there is no file"):
        rows_of("table", str(tmp_path / "u.csv"), "y", None, 0)
    with pytest.raises(ConfigError, match="column of a table"):
        DataConfig("digits", target="y")
    with pytest.raises(ConfigError, match="column of a table"):
        DataConfig("table", root="t.csv")


def test_arrays_are_rows_signals_or_images(tmp_path):
    def read(task=None, **arrays):
        np.savez(tmp_path / "a.npz", **arrays)
        return read_rows(tmp_path / "a.npz", task)

    x, y = np.arange(24.0).reshape(12, 2), np.arange(12) % 3
    own = read(x=x, y=y)
    assert own.train.x.dtype == torch.float32 and own.classes == 3 and own.test is None
    assert read("regression", x=x, y=y).train.y.shape == (12, 1)
    signals = read(x_train=x.reshape(12, 1, 2), y_train=y / 7, x_test=x[:3].reshape(3, 1, 2), y_test=y[:3] / 7)
    assert signals.train.x.shape == (12, 1, 2) and signals.test.y.shape == (3, 1) and signals.classes is None
    assert read(x=np.zeros((12, 8, 8), np.uint8), y=y) is None
    for words, arrays in {
        r"x must be numbers \[n, columns\]": {"x": x[:, 0], "y": y},
        "x has NaN": {"x": np.where(x > 3, np.nan, x), "y": y},
        "one whole number from 0 for each of 12": {"x": x, "y": y[:5]},
        "not like those of training": {"x_train": x, "y_train": y, "x_test": x[:, :1], "y_test": y},
        "must hold": {"a": x},
    }.items():
        with pytest.raises(DataError, match=words):
            read(**arrays)


def test_splits_are_apart_and_have_their_share():
    x, y = (torch.tensor(part, dtype=torch.float32) for part in load_diabetes(return_X_y=True, scaled=False))
    rows = Rows(x, y[:, None])
    splits = RowSplits.of(OwnRows(rows), validation_size=73, calibration_size=1000, batch_size=50, split_seed=0)
    held = torch.cat([targets for _, targets in splits.validation])
    assert len(held) == 73 and len(splits.train) == 369 and len(splits.calibration[0][1]) <= 50
    assert abs(held.mean() - y.mean()) < 8 and abs(held.std() - y.std()) < 8
    epoch = torch.cat([inputs[0] for inputs, _ in splits.training(1, 32)])
    assert not torch.equal(epoch, splits.train.x)
    assert torch.equal(epoch.sum(1).sort()[0], splits.train.x.sum(1).sort()[0])
    seen = {tuple(row.tolist()) for row in splits.train.x}
    assert not any(tuple(row.tolist()) in seen for (inputs,), _ in splits.validation for row in inputs)
    with pytest.raises(DataError, match="leaves nothing of 442"):
        RowSplits.of(OwnRows(rows), validation_size=442, calibration_size=1, batch_size=50, split_seed=0)


def test_the_form_of_samples_has_their_scales():
    x = torch.tensor([[1.0, 5.0], [3.0, 5.0], [5.0, 5.0]]) + 1e4
    y = torch.tensor([[1.0], [2.0], [3.0]])
    form = SampleForm.of(x, y)
    (mean, std), (number, spread) = form.scales.inputs, form.scales.numbers
    assert mean == (10003.0, 10005.0) and np.allclose(std, (8 / 3) ** 0.5 * np.array([1, 0]) + [0, 1])
    assert number == (2.0,) and np.allclose(spread, (2 / 3) ** 0.5)
    assert form.cautions == ["column 1 (from 0) never changes in training: nothing is learnt of it"]
    assert form.told == "3 rows of 2 columns to learn from, 1 number to tell"
    batches = [((x[:2],), y[:2]), ((x[2:],), y[2:])]
    assert SampleForm.of_batches(batches) == form
    loss = form.judged["loss"]
    assert loss == SquaresInVariances(spread) and float(loss(torch.full((3, 1), 2.0), y)) == pytest.approx(1.0)
    n, k = loss.statistics(torch.full((3, 1), 2.0), y).sum(0).tolist()
    assert n / k == pytest.approx(1.0)
    with pytest.raises(DataError, match="one shape"):
        SampleForm.of_batches([((x,), y), ((x[:, :1],), y)])

"""Tables that others published are read from their files as spaces of choices, with their costs."""

import gzip
from itertools import product

import numpy as np
import pytest

from automl.benchmark import Table, judge, nas_bench_201, nas_bench_macro
from automl.benchmark.published import OPERATIONS, space_201
from automl.errors import TableError
from search_spaces import InfeasibleBudgetError


def macro_lines(wrong_cost=False, layers=3):
    """A made-up table of the form of NAS-Bench-Macro."""
    lines = ["arch,acc_run1,acc_run2,acc_run3,params,macs"]
    for digits in product(range(3), repeat=layers):
        accuracy = 50 + sum((1 + t) * digit for t, digit in enumerate(digits))
        macs = (
            100 + sum((10, 25, 70)[digit] * (t + 1) for t, digit in enumerate(digits)) + (wrong_cost and digits[0] * 3)
        )
        macs += 5 * wrong_cost * digits[0] * digits[1]
        lines.append(f"{''.join(map(str, digits))},{accuracy},{accuracy + 1},{accuracy - 2},{10 + sum(digits)},{macs}")
    return lines


@pytest.fixture
def macro(tmp_path):
    path = tmp_path / "macro.csv.gz"
    path.write_bytes(gzip.compress("\n".join(macro_lines()).encode()))
    return path


def test_a_table_is_searched_on_one_training_and_reported_by_the_others(macro):
    table = nas_bench_macro(macro)
    assert len(table) == 27 and table.optimum == 62
    outcome = table(table.space.point([2, 2, 2]))
    measured = {m.metric: m.value for m in outcome.measurements}
    assert measured == {"searched": 62, "reported": 61.5, "macs": 520, "params": 16}
    second = nas_bench_macro(macro, run=2)
    assert {m.metric: m.value for m in second(table.space.point([0, 0, 0])).measurements}["reported"] == 49


def test_a_budget_stands_as_a_wall_of_choices(macro):
    table = nas_bench_macro(macro).limited({"macs": 300})
    judged = judge("random", table, seeds=range(3), trials=12)
    assert (judged["state"] == "done").all() and judged["regret"].min() >= 0
    every = [table.space.cost_of_levels(np.array(row), "macs") for row in product(range(3), repeat=3)]
    assert table.space.least_costs({"macs": 300}) == {"macs": min(every)}
    with pytest.raises(InfeasibleBudgetError, match="the smallest has 160"):
        table.limited({"macs": 150})


def test_a_cost_that_is_no_sum_is_refused(tmp_path):
    path = tmp_path / "macro.csv"
    path.write_text("\n".join(macro_lines(wrong_cost=True)))
    with pytest.raises(TableError, match="expected macs to be a sum over knobs"):
        nas_bench_macro(path)


def test_a_network_that_is_missing_is_missed(tmp_path):
    path = tmp_path / "macro.csv"
    path.write_text("\n".join(macro_lines()[:-1]))
    with pytest.raises(TableError, match="expected each of 27 networks once, got 26"):
        nas_bench_macro(path)


def test_cells_are_read_by_the_names_of_their_operations(tmp_path):
    lines = ["arch,cellstr,cifar10-test,cifar10-val"]
    for i, ops in enumerate(product(OPERATIONS, repeat=2)):
        first, second = ops
        cell = f"|{first}~0|+|none~0|{second}~1|+|skip_connect~0|none~1|none~2|"
        lines.append(f"{i},{cell},{80 + i},{70 + i}")
    path = tmp_path / "201.csv"
    path.write_text("\n".join(lines))
    table = nas_bench_201(path)
    measured = {m.metric: m.value for m in table(table.space.point([3, 0, 2, 1, 0, 0])).measurements}
    assert (measured["searched"], measured["reported"]) == (87, 97)
    assert not table(table.space.point([0, 0, 0, 0, 0, 0])).measurements
    path.write_text(lines[0] + "\n0,|conv~0|+|none~0|none~1|+|none~0|none~1|none~2|,1,2")
    with pytest.raises(TableError, match="expected a cell of 6 operations out of none, skip_connect"):
        nas_bench_201(path)


def test_costs_of_201_are_those_published_for_its_largest_cell():
    space = space_201()
    largest = space.point([3] * 6)
    assert space.cost(largest, "params") == 1_531_546 and space.cost(largest, "macs") == 220_119_680


@pytest.mark.parametrize("text", [None, "", "a,b\n1,2\n"])
def test_what_is_no_such_table_is_refused(tmp_path, text):
    path = tmp_path / "macro.csv"
    if text is not None:
        path.write_text(text)
    with pytest.raises(TableError, match=r"cannot read a table|expected a table with columns arch"):
        nas_bench_macro(path)
    with pytest.raises(TableError, match="expected run 1, 2 or 3"):
        nas_bench_macro(path, run=4)


def test_a_published_table_is_not_written_again(macro, tmp_path):
    with pytest.raises(TableError, match="has its own file"):
        nas_bench_macro(macro).save(tmp_path / "table.npz")
    assert isinstance(nas_bench_macro(macro), Table)

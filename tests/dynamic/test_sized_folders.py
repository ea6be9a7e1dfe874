"""Folders of networks of many sizes: one ONNX file computes every size and no more, and what is read back is equal."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from automl.dynamic.latency_policy import LatencyTable, open_sizes, time_folder, time_sizes
from automl.dynamic.multi_exit import multi_exit
from automl.dynamic.sized_folder import ONNX_FILE, read_folder, write_folder
from automl.dynamic.slimmable import slimmable
from automl.dynamic.thresholds import leaving
from automl.errors import BudgetError, ExportError
from automl.measures.backends.intervals import Estimate
from automl.measures.backends.side_by_side import Effort
from tests.dynamic.test_slimmable import moved

X = torch.randn(5, 1, 8, 8, generator=torch.Generator().manual_seed(0))
QUICK = Effort(round_ms=0.5, rounds=10, seconds=0.5)


def small(seed: int = 0) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        layers = [nn.Conv2d(1, 8, 3, bias=False), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 8, 3), nn.ReLU()]
        return nn.Sequential(*layers, nn.Conv2d(8, 12, 2), nn.ReLU(), nn.Flatten(), nn.Linear(108, 10))


class Two(nn.Module):
    """Two inputs, of which the second is read late."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.third = nn.Linear(6, 8), nn.Linear(8, 8), nn.Linear(8, 8)
        self.last = nn.Linear(8, 3)

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        a = torch.relu(self.second(torch.relu(self.first(a))))
        return self.last(torch.relu(self.third(a)) * b)


PAIR = tuple(torch.randn(5, size, generator=torch.Generator().manual_seed(size)) for size in (6, 8))


@pytest.fixture(scope="module")
def widths(tmp_path_factory):
    made = slimmable(small(), (X,), (0.5, 0.75))
    moved(made)
    out = tmp_path_factory.mktemp("widths")
    write_folder(made.eval(), (X,), out, told={"right": {"0.5": 0.8}})
    return made, out


@pytest.fixture(scope="module")
def exits(tmp_path_factory):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        made = multi_exit(Two(), PAIR, 2, hidden=6)
    assert made.asked == [(0,), (), (1,)]
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.mul_(2)
    out = tmp_path_factory.mktemp("exits")
    write_folder(made.eval(), PAIR, out)
    return made, out


def test_one_file_takes_its_width(widths):
    """The widest that is not above what is asked for, or the narrowest."""
    made, out = widths
    session = open_sizes(out)
    for asked, width in ((0.1, 0.5), (0.5, 0.5), (0.7, 0.5), (0.75, 0.75), (1.0, 1.0), (3.0, 1.0)):
        (found,) = session.run(None, {"input_0": X.numpy(), "width": np.array(asked, dtype=np.float32)})
        with torch.no_grad():
            torch.testing.assert_close(torch.from_numpy(found), made.at(width, X), atol=1e-4, rtol=1e-4)


def test_one_file_takes_its_thresholds(exits):
    """One sample at a time leaves where `early` says; a batch once all of its samples are sure."""
    made, out = exits
    session = open_sizes(out)
    with torch.no_grad():
        confidence = torch.stack(made(*PAIR)).softmax(2).amax(2)
    first = float(confidence[0].sort(descending=True).values[1]) - 1e-6
    thresholds = [first, float(confidence[1, confidence[0] < first].median()) - 1e-6]
    scores, at = made.early(thresholds, *PAIR)
    assert set(at.tolist()) == {0, 1, 2} and torch.equal(at, leaving(confidence, thresholds))
    told = {"thresholds": np.array(thresholds, dtype=np.float32)}
    for i in range(5):
        one = {f"input_{j}": x[i : i + 1].numpy() for j, x in enumerate(PAIR)}
        found, exit_ = session.run(None, one | told)
        assert int(exit_) == at[i]
        torch.testing.assert_close(torch.from_numpy(found[0]), scores[i], atol=1e-4, rtol=1e-4)
    assert int(session.run(None, {f"input_{j}": x.numpy() for j, x in enumerate(PAIR)} | told)[1]) == 2


@pytest.mark.parametrize("kind", ["widths", "exits"])
def test_what_is_read_back_is_equal(kind, request):
    made, out = request.getfixturevalue(kind)
    read = read_folder(out, small(3) if kind == "widths" else Two())
    for name, tensor in made.state_dict().items():
        assert torch.equal(tensor, read.state_dict()[name]), name
    with torch.no_grad():
        if kind == "widths":
            assert read.norms == "private" and read.widths == (0.5, 0.75, 1.0)
            assert all(torch.equal(read.at(width, X), made.at(width, X)) for width in made.widths)
            assert json.loads((out / "manifest.json").read_text())["sizes"]["right"] == {"0.5": 0.8}
        else:
            assert all(torch.equal(a, b) for a, b in zip(read(*PAIR), made(*PAIR), strict=True))
    with pytest.raises(ExportError, match="does not fit the model given"):
        read_folder(out, nn.Sequential(nn.Conv2d(1, 4, 3), nn.Sigmoid(), nn.Flatten(), nn.Linear(144, 10)))


def test_files_that_are_not_those_described_are_refused(widths, tmp_path):
    _, out = widths
    for file in out.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    (tmp_path / ONNX_FILE).write_bytes(b"another")
    with pytest.raises(ExportError, match="is not the file the manifest describes"):
        open_sizes(tmp_path)
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    for sizes in (None, [], {"kind": "others"}):
        (tmp_path / "manifest.json").write_text(json.dumps({**manifest, "sizes": sizes}))
        for read in (lambda: read_folder(tmp_path, small()), lambda: open_sizes(tmp_path)):
            with pytest.raises(ExportError, match="holds no network of many sizes"):
                read()
    (tmp_path / "manifest.json").write_text(json.dumps({**manifest, "sizes": {"kind": "widths", "widths": 3}}))
    for read in (lambda: read_folder(tmp_path, small()), lambda: time_folder(tmp_path, (X,))):
        with pytest.raises(ExportError, match="does not"):
            read()


def test_a_folder_never_holds_two_networks(widths):
    made, out = widths
    with pytest.raises(ExportError, match="still holds sizes"):
        write_folder(made, (X,), out, onnx=False)


def test_every_size_is_timed_and_the_largest_that_fits_is_chosen(widths, exits):
    for (made, out), given, sizes in ((widths, (X,), [0.5, 0.75, 1.0]), (exits, PAIR, [0, 1, 2])):
        one = [x[:1] for x in given]
        for table in (time_sizes(made, one, effort=QUICK), time_folder(out, one, effort=QUICK)):
            assert list(table.times) == sizes and all(one.value > 0 for one in table.times.values())
            assert LatencyTable.from_record(json.loads(json.dumps(table.to_record()))) == table
            assert table.costs == tuple(sorted(table.costs)) and table.choose(1e9) == sizes[-1]


def test_the_upper_end_of_the_interval_must_fit():
    times = {w: Estimate(ms, ms - 0.1, ms + 0.1, 9, 0.1) for w, ms in ((0.5, 1.0), (0.75, 2.0), (1.0, 3.0))}
    table = LatencyTable(times, "onnxruntime", "a device")
    assert [table.choose(ms) for ms in (1.1, 2.0, 2.1, 3.05, 9.0)] == [0.5, 0.5, 0.75, 0.75, 1.0]
    with pytest.raises(BudgetError, match=r"no size takes at most 1 ms on onnxruntime .*the fastest takes 1.1 ms"):
        table.choose(1.0)

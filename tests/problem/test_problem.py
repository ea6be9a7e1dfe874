import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from automl.errors import DataError
from automl.tasks.classification import Classification, hits
from automl.tasks.custom import Custom
from automl.tasks.problem import Problem

X, Y = torch.randn(30, 4), torch.arange(30) % 3


def model():
    return nn.Sequential(nn.Linear(4, 3), nn.Dropout(0.5))


def batches(n=30, size=8):
    return [(X[i : i + size], Y[i : i + size]) for i in range(0, n, size)]


def test_takes_as_many_samples_as_asked_for():
    problem = Problem.from_iterables(model(), batches(), batches(), calibration_size=10, validation_size=20)
    assert [len(y) for _, y in problem.calibration] == [8, 2]
    assert [len(y) for _, y in problem.validation] == [8, 8, 4]
    assert torch.equal(problem.calibration[1][0][0], X[8:10])
    everything = Problem.from_iterables(model(), batches(), batches())
    assert sum(len(y) for _, y in everything.validation) == 30


def test_any_iterable_of_pairs_will_do():
    loader = DataLoader(TensorDataset(X, Y), batch_size=7)
    one_shot = (pair for pair in batches())
    problem = Problem.from_iterables(model(), loader, one_shot)
    assert sum(len(y) for _, y in problem.calibration) == sum(len(y) for _, y in problem.validation) == 30


def test_several_inputs():
    class Two(nn.Module):
        def forward(self, a, b):
            return torch.cat([a.sum(1, keepdim=True), b], 1)

    problem = Problem(Two(), [((X, X[:, :2]), Y)], [([X, X[:, :2]], Y)])
    assert [tuple(x.shape) for x in problem.example_inputs] == [(2, 4), (2, 2)]


def test_the_test_data_is_not_read_before_it_is_asked_for():
    read = []

    def test_data():
        read.append(1)
        yield X, Y

    problem = Problem.from_iterables(model(), batches(), batches(), test_data())
    assert not read
    assert len(problem.test()) == 1 and read


def test_the_callers_model_stays_as_it_is():
    network = model()
    problem = Problem(network, batches(), batches())
    assert network.training and not problem.model.training
    assert problem.model is not network


def test_example_is_two_samples_that_own_their_memory():
    problem = Problem(model(), batches(), batches())
    (x,) = problem.example_inputs
    assert torch.equal(x, X[:2]) and x.untyped_storage().nbytes() == 2 * 4 * 4
    lone = Problem(model(), [(X[:1], Y[:1])], batches())
    assert lone.example_inputs[0].shape == (2, 4)


def test_metrics_follow_from_outputs_and_targets():
    assert set(Problem(model(), batches(), batches()).metrics) == {"accuracy", "loss"}
    regression = Problem(nn.Linear(4, 3), [(X, X[:, :3])], [(X, X[:, :3])], loss=nn.functional.mse_loss)
    assert set(regression.metrics) == {"loss"}
    dense = Problem(nn.Conv2d(2, 5, 1), *[[(torch.randn(3, 2, 4, 4), torch.zeros(3, 4, 4).long())]] * 2)
    assert "accuracy" in dense.metrics
    own = Problem(model(), batches(), batches(), metrics={"top2": lambda out, y: (out.topk(2)[1] == y[:, None]).any(1)})
    assert set(own.metrics) == {"accuracy", "loss", "top2"}
    right = hits(torch.eye(3), torch.tensor([0, 1, 0]))[:, 0]
    assert torch.equal(right.float(), torch.tensor([1.0, 1.0, 0.0]))


def test_the_kind_of_task_follows_from_outputs_and_targets_alone():
    def summed(outputs, targets):
        return nn.functional.cross_entropy(outputs, targets, reduction="sum")

    own = Problem(model(), batches(), batches(), loss=summed)
    assert own.kind == Classification(summed) and list(own.metrics) == ["accuracy", "loss"]
    shares = [(X, torch.softmax(X[:, :3], 1))]
    of_shares = Problem(model(), shares, shares, metrics={"accuracy": lambda outputs, targets: outputs.new_ones(30)})
    assert of_shares.kind == Custom(), "the name of a metric makes no class scores"
    assert list(of_shares.metrics) == ["loss", "accuracy"] and of_shares.kind.headline == "loss"


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ([], "at least one batch"),
        (X, "iterable of"),
        (3, "iterable of"),
        ([X], "pair"),
        ([(X, Y, Y)], "tuple of 3"),
        ([(X.numpy(), Y)], "ndarray"),
        ([((), Y)], "no input"),
        ([(X, Y[:5])], "same number of samples"),
        ([(X[:0], Y[:0])], "at least 1"),
        ([(X / 0 * 0, Y)], "NaN"),
        ([(X[:, :3], Y)], r"forward must accept the training|forward must accept the calibration"),
        ([(X.double(), Y)], "float64"),
        ([(X, Y.float())], "loss must accept"),
        ([(X, Y + 7)], "loss must accept"),
    ],
)
def test_bad_data_is_one_clear_error(data, message):
    with pytest.raises(DataError, match=message):
        Problem.from_iterables(model(), data, batches())


def test_bad_validation_data_is_found_at_once():
    with pytest.raises(DataError, match="validation"):
        Problem.from_iterables(model(), batches(), [(X[:, :2], Y)])
    with pytest.raises(DataError, match="size of the validation data"):
        Problem.from_iterables(model(), batches(), batches(), validation_size=0)

"""Which networks a supernet trains, what their loss is, and that a training is a function of its seed."""

from __future__ import annotations

from collections import Counter

import pytest
import torch
import torch.nn.functional as F

from automl.config.supernet import SupernetOptions
from automl.config.training import TrainingOptions
from automl.evaluation.training_time import TrainingTime
from automl.sharing.path_loss import PathLoss
from automl.sharing.paths import SIZES, Paths
from automl.sharing.subnets import SubnetBuilder
from automl.sharing.supernet_training import train_supernet
from automl.tasks.classification import Classification
from automl.tasks.problem import Problem
from automl.training.methods.base import Course
from search_spaces import CellSpace, Frame, StageOptions, network_of, supernet
from tests.cells.test_cell_space import random_points
from tests.kits.digits import held_out, train_batches

LIMITS = {"params": 3000.0}


@pytest.fixture(scope="module")
def space():
    first = StageOptions(("plain", "separable"), (4, 8, 12, 16), (1, 2), kernel=(3, 5), excite=(False,))
    second = StageOptions(("mobile", "plain"), (8, 16), (1, 2, 3), ("stride",), (3,), (2, 3, 4), excite=(False,))
    return CellSpace(Frame(1, (8, 8), 10), (4, 8), [first, second])


@pytest.fixture(scope="module")
def problem(space):
    network = network_of(space.architecture(space.levels(space.reference(LIMITS))))
    return Problem.from_iterables(network.eval(), train_batches(0), held_out())


@pytest.fixture(scope="module")
def few():
    """A space of six networks, which learn the digits in seconds."""
    usual = {"kind": ("plain",), "expand": (3,), "excite": (False,)}
    first = StageOptions(**usual, width=(8,), depth=(1, 2), kernel=(3,))
    return CellSpace(Frame(1, (8, 8), 10), (8,), [first, StageOptions(**usual, width=(8, 16), depth=(1,))])


def sizes(space, point):
    return [level for knob, level in point.items() if knob.rpartition(":")[2] in SIZES]


def test_networks_are_drawn_evenly_within_the_budget_and_below_it_if_asked(space):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        drawn = [Paths(space, LIMITS).one() for _ in range(300)]
        below = [Paths(space, LIMITS, smaller=True).one() for _ in range(300)]
    kinds = Counter(point["stage0:kind"] for point in drawn)
    assert 120 < kinds[0] < 180 and 120 < Counter(point["stage1:kind"] for point in drawn)[0] < 180
    assert len(set(drawn)) > 50
    costs = [[space.cost(point, "params") for point in found] for found in (drawn, below)]
    assert max(map(max, costs)) <= 3000
    assert sum(costs[1]) / 300 < 0.75 * sum(costs[0]) / 300
    free = [Paths(space, {}).one() for _ in range(300)]
    assert 50 < Counter(point["stage0:width"] for point in free)[16] < 100


def test_a_sandwich_has_the_largest_of_its_kinds_first_then_the_smallest_and_some_between(space):
    torch.manual_seed(1)
    for limits in (LIMITS, {}):
        for _ in range(20):
            largest, smallest, *between = Paths(space, limits).sandwich(2)
            assert space.within(space.levels(largest), limits)
            for point in (smallest, *between):
                for what in ("stage0:kind", "stage1:kind"):
                    assert point[what] == largest[what]
                pairs = zip(sizes(space, smallest), sizes(space, point), sizes(space, largest), strict=True)
                assert all(low <= level <= high for low, level, high in pairs)
            assert {point["stage1:depth"] for point in (smallest,)} == {1}
            if not limits:
                assert (largest["stage0:width"], largest["stage0:kernel"], largest["stage1:depth"]) == (16, 5, 3)


def test_sizes_are_opened_one_after_the_other_from_the_largest(space):
    paths = Paths(space, {}, shrink=("kernel", "depth", "width"))

    def seen(progress, name):
        torch.manual_seed(2)
        return {paths.one(progress)[name] for _ in range(80)}

    names = ("stage0:kernel", "stage1:depth", "stage0:width")
    assert [seen(0.2, name) for name in names] == [{5}, {3}, {16}]
    assert [seen(0.3, name) for name in names] == [{3, 5}, {3}, {16}]
    assert [seen(0.55, name) for name in names] == [{3, 5}, {2, 3}, {16}]
    assert [seen(0.7, name) for name in names] == [{3, 5}, {1, 2, 3}, {16}]
    assert [seen(0.8, name) for name in names] == [{3, 5}, {1, 2, 3}, {12, 16}]
    assert [seen(0.99, name) for name in names] == [{3, 5}, {1, 2, 3}, {4, 8, 12, 16}]
    assert {paths.sandwich(0, 0.55)[1]["stage1:depth"] for _ in range(5)} == {2}


def loss_of(space, **options):
    return PathLoss(F.cross_entropy, Paths(space, LIMITS), SupernetOptions(**options), Classification.softened)


def test_a_step_of_single_path_trains_one_network_and_leaves_the_rest(space):
    weights, ((inputs, targets), *_) = supernet(space).train(), train_batches(0)
    torch.manual_seed(3)
    point = Paths(space, LIMITS).one()
    torch.manual_seed(3)
    loss = loss_of(space)(weights, inputs, targets)
    assert torch.equal(loss, F.cross_entropy(weights.at(point, *inputs), targets))
    loss.backward()
    learnt = {name.split("/")[3] for name, p in weights.shared.items() if p.grad is not None and "stages/0/" in name}
    assert learnt == {("plain", "separable")[point["stage0:kind"]]}


@pytest.mark.parametrize("done", [1, 8])
def test_a_sandwich_is_the_mean_of_its_losses_and_learns_from_its_largest_in_the_end(space, done):
    weights, ((inputs, targets), *_) = supernet(space).train(), train_batches(0)
    loss = loss_of(space, rule="sandwich", drawn=1, distil_from=0.5)
    loss.method.begin(Course(weights, torch.optim.SGD(weights.parameters(), 0.1), 10, done))
    torch.manual_seed(4)
    largest, *others = Paths(space, LIMITS).sandwich(1)
    torch.manual_seed(4)
    told = loss(weights, inputs, targets)
    outputs = [weights.at(point, *inputs) for point in (largest, *others)]
    teacher = outputs[0].detach().softmax(1)
    expected = F.cross_entropy(outputs[0], targets)
    for smaller in outputs[1:]:
        distilled = (teacher * (teacher.log() - smaller.log_softmax(1))).sum(1).mean()
        expected = expected + (distilled if done == 8 else F.cross_entropy(smaller, targets))
    torch.testing.assert_close(told, expected / len(outputs))
    gradients = [torch.autograd.grad(x, weights.shared["stem/body1/conv/weight"]) for x in (told, expected)]
    torch.testing.assert_close(gradients[0][0], gradients[1][0] / len(outputs))


class _KilledError(Exception):
    pass


@pytest.mark.parametrize("options", [{}, {"rule": "sandwich", "drawn": 1, "shrink": ("depth", "width")}])
def test_a_killed_training_goes_on_to_the_same_weights_and_its_networks_have_learnt(few, problem, options, tmp_path):
    form = {"precision": "float32", "channels_last": False}
    options = SupernetOptions(TrainingOptions(8, batch_size=64, learning_rate=0.1, **form), **options)

    def trained(checkpoint=None, say=lambda text: None):
        weights = supernet(few)
        train_supernet(weights, problem, {}, options, checkpoint=checkpoint, say=say)
        return weights

    def kill(text):
        raise _KilledError

    whole = trained()
    with pytest.raises(_KilledError):
        trained(tmp_path / "checkpoint", kill)
    broken = trained(tmp_path / "checkpoint")
    assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), broken.parameters(), strict=True))
    builder = SubnetBuilder(few, few.reference({}), whole, 512)
    builder.prepare(problem, torch.float32)
    ((inputs, targets),) = held_out()
    networks = [builder.build(point) for point in {*random_points(few, 20)}]
    right = [float((network(*inputs).argmax(1) == targets).float().mean()) for network in networks]
    assert sum(right) / len(right) > 0.4  # of ten classes


def test_seconds_are_divided_by_what_the_networks_of_a_step_take(space, problem):
    seen = {}
    for rule, steps in (("single_path", 1), ("sandwich", 4)):
        training = TrainingOptions(1000, seconds=0.5, batch_size=64, precision="float32", channels_last=False)
        predicted = TrainingTime((0.0, 0.0, 0.0, 0.0, 0.0, 1e-3), 1200, 0.0)  # a millisecond a sample, whatever network
        history = train_supernet(
            supernet(space), problem, LIMITS, SupernetOptions(training, rule=rule, drawn=2), predicted
        )
        seen[rule] = sum(epoch.samples for epoch in history.epochs)
        assert seen[rule] <= 0.5 / 1e-3 / steps * 1.2 + 64, rule
    assert seen["single_path"] >= 0.5 / 1e-3

"""A slimmable network is, at each width, what the surgery cuts out of it; the weights of all widths are one."""

from __future__ import annotations

import copy
from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from automl.config.training import TrainingOptions
from automl.dynamic.slimmable import slimmable
from automl.dynamic.width_loss import WidthLoss
from automl.errors import ConfigError
from automl.tasks.classification import Classification
from automl.training.methods.base import Course
from automl.training.trainer import train
from automl.zoo.resnet import ResNet
from search_spaces import SpaceError, rebuild, trace
from tests.kits.digits import train_batches
from tests.kits.random_networks import EVERY, RandomNetwork

WIDTHS = (0.25, 0.5, 0.75, 1.0)
X = torch.randn(4, 1, 8, 8, generator=torch.Generator().manual_seed(0))


def small(seed: int = 0) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return ResNet(1, 10, 1)


def moved(network: nn.Module, seed: int = 1) -> None:
    """Give everything of a network other values, its running statistics too."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for tensor in (*network.parameters(), *network.buffers()):
            if tensor.is_floating_point():
                tensor.add_(torch.rand(tensor.shape, generator=generator, dtype=tensor.dtype) * 0.1)


@pytest.mark.parametrize(("norms", "order"), [("private", "magnitude"), ("shared", "first")])
def test_each_width_is_what_surgery_cuts_out_of_the_whole(norms, order):
    """Of the weights as they are now; norms, where private, are the width's own."""
    made = slimmable(small(), (X,), WIDTHS, norms=norms, order=order)
    moved(made)
    made.double().eval()
    for width in WIDTHS:
        whole = copy.deepcopy(made.whole)
        cut = rebuild(trace(whole, (X.double(),)), made.plans[width])
        own = made.plain(width).state_dict()
        for name, tensor in cut.state_dict().items():
            if "bn" not in name or (norms == "shared" and not name.endswith(("mean", "var", "tracked"))):
                assert torch.equal(tensor, own[name]), (width, name)
        cut.load_state_dict(own)
        with torch.no_grad():
            assert torch.equal(made.at(width, X.double()), cut.eval()(X.double())), width
            assert torch.equal(made.at(width, X.double()), made.plain(width)(X.double())), width
    sizes = [made.plain(width).get_submodule("layer3.0.conv1").weight.shape[:2] for width in WIDTHS]
    assert sizes == [(16, 8), (32, 16), (48, 24), (64, 32)]


@pytest.mark.parametrize("seed", range(10))
def test_any_network_is_slimmable(seed):
    """Random joints: what is lent computes what the surgery makes, and the channels of widths are nested."""
    network = RandomNetwork(seed, EVERY).double()
    x = torch.randn(3, 3, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    try:
        made = slimmable(network, (x,), (0.3, 0.6)).eval()
    except SpaceError as error:
        assert "no channels" in str(error)  # every joint was tied into one
        return
    moved(made)
    with torch.no_grad():
        assert made.widths == (0.3, 0.6, 1.0)
        for width in made.widths:
            cut = rebuild(trace(made.whole, (x,)), made.plans[width])
            cut.load_state_dict(made.plain(width).state_dict())
            assert torch.equal(made.at(width, x), cut.eval()(x)), width
    kept = [plan.steps[0].kept for plan in made.plans.values()]
    for narrow, wide in pairwise(kept):
        assert all(set(narrow[name]) <= set(wide[name]) for name in narrow)


def test_gradients_are_those_of_the_widths_added_up():
    made = slimmable(small(), (X,), (0.5, 1.0)).double().train()
    x, y = X.double(), torch.tensor([0, 1, 2, 3])
    alone = {width: made.plain(width) for width in made.widths}
    WidthLoss(F.cross_entropy)(made, (x,), y).backward()
    for network in alone.values():
        F.cross_entropy(network.train()(x), y).backward()
    conv = alone[1.0].conv1.weight.grad / 2
    conv[:8] += alone[0.5].conv1.weight.grad / 2
    torch.testing.assert_close(made.whole.conv1.weight.grad, conv)
    torch.testing.assert_close(made.narrow["0_5"].bn1.weight.grad, alone[0.5].bn1.weight.grad / 2)
    assert len([n for n, _ in made.named_parameters() if "conv" in n]) == 7, "weights stand there once"


@pytest.mark.parametrize("order", ["first", "magnitude"])
def test_even_gradients_are_means_over_the_widths_that_have_the_weight(order):
    made = slimmable(small(), (X,), (0.25, 0.5), order=order).double().train()
    x, y = X.double(), torch.tensor([0, 1, 2, 3])
    alone = {width: made.plain(width) for width in made.widths}
    loss = WidthLoss(F.cross_entropy, even=True)
    loss(made, (x,), y).backward()
    loss.method.before_step(Course(made, torch.optim.SGD(made.parameters()), 1))
    for network in alone.values():
        F.cross_entropy(network.train()(x), y).backward()
    kept = {width: np.ix_(*(plan.steps[0].kept[name] for name in ("layer1.0.conv1", "conv1")))
            for width, plan in made.plans.items()}  # fmt: skip
    name = "layer1.0.conv1.weight"
    total, count = np.zeros((16, 16, 3, 3)), np.zeros((16, 16, 3, 3))
    for width, network in alone.items():
        total[kept[width]] += network.get_parameter(name).grad.numpy()
        count[kept[width]] += 1
    assert set(count.ravel()) == {1, 2, 3}
    torch.testing.assert_close(made.whole.get_parameter(name).grad, torch.from_numpy(total / count))
    for width, network in (("0_25", alone[0.25]), ("0_5", alone[0.5])):
        torch.testing.assert_close(made.narrow[width].bn1.bias.grad, network.bn1.bias.grad)
    torch.testing.assert_close(made.whole.bn1.bias.grad, alone[1.0].bn1.bias.grad)


def test_norms_of_one_width_are_nobody_elses():
    made = slimmable(small(), (X,), WIDTHS).train()
    before = {width: made.plain(width).state_dict()["bn1.running_mean"].clone() for width in WIDTHS}
    made.at(0.5, X)
    after = {width: made.plain(width).state_dict()["bn1.running_mean"] for width in WIDTHS}
    assert [torch.equal(before[width], after[width]) for width in WIDTHS] == [True, False, True, True]


def trained(until: int | None = None, checkpoint=None, **loss):
    made = slimmable(small(), (X,), (0.25, 0.5, 0.75), norms="shared")
    own = WidthLoss(F.cross_entropy, Classification.softened, **loss)
    options = TrainingOptions(epochs=2, samples=192, learning_rate=0.1, precision="float32", channels_last=True)
    train(made, train_batches, own, options, methods=[own.method], until=until, checkpoint=checkpoint)
    return made


def test_a_training_that_is_killed_goes_on_to_the_same_weights(tmp_path):
    """By the sandwich rule, distilled from the second half on."""
    loss = {"drawn": 1, "distil_from": 0.5}
    whole = trained(**loss)
    for until in (1, 2):
        cut = trained(until, tmp_path / "checkpoint", **loss)
    assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), cut.parameters(), strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(whole.parameters(), trained().parameters(), strict=True))


def test_the_narrow_learn_from_the_widest_from_the_second_half_on():
    made = slimmable(small(), (X,), (0.5, 1.0))
    y = torch.tensor([0, 1, 2, 3])
    loss = WidthLoss(F.cross_entropy, Classification.softened, distil_from=0.5)
    course = type("Course", (), {"progress": 0.25})
    loss.method.begin(course)
    made.eval()
    with torch.no_grad():
        hard = [F.cross_entropy(made.at(width, X), y) for width in (0.5, 1.0)]
        assert loss(made, (X,), y) == sum(hard) / 2
        course.progress = 0.5
        soft = F.kl_div(made.at(0.5, X).log_softmax(1), made(X).softmax(1), reduction="batchmean")
        torch.testing.assert_close(loss(made, (X,), y), (soft + hard[1]) / 2)


def test_the_sandwich_has_both_ends_and_what_is_drawn():
    loss = WidthLoss(F.cross_entropy, drawn=2)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        drawn = [loss._in_step((0.1, 0.2, 0.3, 0.4, 0.5)) for _ in range(60)]
    assert all(step[0] == 0.1 and len(step) == 3 and len(set(step)) == 3 for step in drawn)
    assert {width for step in drawn for width in step} == {0.1, 0.2, 0.3, 0.4, 0.5}


def test_statistics_are_estimated_anew_at_every_width():
    made = slimmable(small(), (X,), (0.5, 1.0), norms="shared").train()
    batches = train_batches(0)[:3]
    made.eval().recalibrate(batches)
    for width in made.widths:
        x = torch.cat([inputs[0] for inputs, _ in batches])
        network = made.plain(width).eval()
        maps = network.conv1(x)
        torch.testing.assert_close(network.bn1.running_mean, maps.mean((0, 2, 3)), atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize("widths", [(), (0.0, 1.0), (0.5, 1.5)])
def test_widths_that_are_none_are_refused(widths):
    with pytest.raises(ConfigError, match="widths are parts of the whole"):
        slimmable(small(), (X,), widths)


def test_a_width_that_is_not_there_and_options_that_cannot_be_are_refused():
    with pytest.raises(ConfigError, match=r"expected a width of 0.5, 1, got 0.3"):
        slimmable(small(), (X,), (0.5,)).at(0.3, X)
    for wrong in ({"distil_from": 2.0}, {"drawn": -1}, {"distil_from": 0.5, "softened": None}):
        with pytest.raises(ConfigError):
            WidthLoss(F.cross_entropy, **{"softened": Classification.softened, **wrong})

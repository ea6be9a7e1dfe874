"""Hints between a network and its pruned copy: where they are taken, what they measure, that they teach."""

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from automl.config.training import DistillationOptions
from automl.errors import ConfigError, ModelError
from automl.study.scratch import renewed
from automl.training.distillation import distillation
from automl.training.hints import HintLoss, Hints, attention, features, hint, node_of, stage_ends
from automl.training.teacher import Teacher, tapped
from search_spaces import channel_space
from tests.kits.digits import problem, train, train_batches

(X,), Y = train_batches(0)[0]


@pytest.fixture(scope="module", params=["small_cnn", "resnet8"])
def pruned(request):
    """A problem, its space, a plan of half of each group, and the network pruned to it."""
    trained = problem(request.param)
    space = channel_space(trained.model, trained.example_inputs)
    plan = space.plan(space.point([knob.nearest(0.5) for knob in space.knobs]))
    return trained, space, plan, space.build(plan)


def test_stages_end_before_each_downsampling():
    ends = {}
    for name in ("small_cnn", "resnet8"):
        trained = problem(name)
        network = channel_space(trained.model, trained.example_inputs).original
        nodes = {node.name: node for node in network.graph.nodes}
        ends[name] = [(nodes[end].target.__name__, nodes[end].meta["shape"][1:]) for end in stage_ends(network)]
    assert ends["small_cnn"] == [("relu", (12, 8, 8)), ("relu", (24, 4, 4))]
    assert ends["resnet8"] == [("relu", (16, 8, 8)), ("relu", (32, 4, 4)), ("relu", (64, 2, 2))]


def test_layers_are_named_as_modules_or_nodes(pruned):
    trained, space, plan, _ = pruned
    if trained.name != "resnet8":
        assert node_of(space.original, "conv1") == "conv1_1"  # the norm after the convolution is in the same module
        return
    assert node_of(space.original, "layer1.0.conv2") == "layer1_0_conv2"
    assert node_of(space.original, "layer2") == "layer2_0_bn2"
    assert node_of(space.original, "relu_2") == "relu_2"
    with pytest.raises(ConfigError, match=r"no layer 'layer2.0.bn3'.*'layer2.0.bn2'"):
        Hints(space, plan, "features", ["layer2.0.bn3"])
    with pytest.raises(ConfigError, match="compares feature maps"):
        Hints(space, plan, "attention", ["mean"])
    assert Hints(space, plan, "features", ["mean", "layer1"]).nodes == ("mean", "layer1_0_bn2")


def test_no_maps_means_layers_must_be_named():
    space = channel_space(nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 3)), (torch.randn(2, 4),))
    plan = space.plan(space.point([3]))
    with pytest.raises(ConfigError, match="name `layers`"):
        Hints(space, plan, "features")
    ours, theirs = space.build(plan), space.original
    hints = Hints(space, plan, "features", ["0"])
    x = torch.randn(8, 4)
    with torch.no_grad():
        own, other = ours.get_submodule("0")(x), theirs.get_submodule("0")(x)
    assert hints.compare([own], [other]) == pytest.approx(0, abs=1e-10)  # what was kept computes the same


def test_a_tapped_network_is_the_network(pruned):
    _, _, _, student = pruned
    student = copy.deepcopy(student).train()
    looked_into = tapped(student, ["relu", "relu_2"])
    ours = {name: id(parameter) for name, parameter in student.named_parameters()}
    assert {name: id(parameter) for name, parameter in looked_into.named_parameters()} == ours
    twin = copy.deepcopy(student)
    outputs, (first, second) = looked_into(X)
    torch.testing.assert_close(outputs, twin(X), rtol=0, atol=0)
    assert first.requires_grad and second.requires_grad
    for name, tensor in twin.state_dict().items():  # the batch norms have seen the batch
        assert torch.equal(tensor, student.state_dict()[name])
    with pytest.raises(ModelError, match="no node 'nothing'"):
        tapped(student, ["nothing"])
    with pytest.raises(ModelError, match="only a recorded network"):
        tapped(nn.Linear(2, 2), ["x"])


def test_terms_by_hand():
    torch.manual_seed(0)
    ours, theirs = torch.randn(3, 4, 5, 5), torch.randn(3, 6, 5, 5)
    maps = []
    for x in (ours, theirs):
        q = (x.abs() ** 2).sum(1).flatten(1)
        maps.append(q / (q**2).sum(1, keepdim=True).sqrt())
    torch.testing.assert_close(attention(ours, theirs), ((maps[0] - maps[1]) ** 2).mean() / 2)
    torch.testing.assert_close(attention(3 * ours, theirs), attention(ours, theirs))
    torch.testing.assert_close(hint(theirs * 0, theirs), (theirs.norm() ** 2) / theirs.numel() / 2)
    assert features(theirs, theirs) == 0
    torch.testing.assert_close(features(0 * theirs, theirs), torch.tensor(1.0))


def values(network, nodes):
    with torch.no_grad():
        return tapped(copy.deepcopy(network).eval(), nodes)(X)[1]


def test_features_compare_each_channel_with_its_own(pruned):
    _, space, plan, student = pruned
    hints = Hints(space, plan, "features")
    ours, theirs = values(student, hints.nodes), values(space.original, hints.nodes)
    kept = [space.kept_in_value(node, plan)[1] for node in hints.nodes]
    assert any(len(part) < other.shape[1] for part, other in zip(kept, theirs, strict=True))
    expected = sum(
        (own - other[:, part]).square().sum() / other[:, part].square().sum()
        for own, other, part in zip(ours, theirs, kept, strict=True)
    )
    torch.testing.assert_close(hints.compare(ours, theirs), expected)
    assert hints.compare([other[:, part] for other, part in zip(theirs, kept, strict=True)], theirs) == 0


def test_regressors_start_with_every_channel_in_its_place(pruned):
    _, space, plan, student = pruned
    state = torch.random.get_rng_state()
    hints = Hints(space, plan, "fitnets")
    assert torch.equal(state, torch.random.get_rng_state())
    ours, theirs = values(student, hints.nodes), values(space.original, hints.nodes)
    expected = 0.0
    for node, own, other in zip(hints.nodes, ours, theirs, strict=True):
        wide = torch.zeros_like(other)
        wide[:, space.kept_in_value(node, plan)[1]] = own
        expected = expected + (wide - other).square().mean() / 2
    torch.testing.assert_close(hints.compare(ours, theirs), expected)


@pytest.mark.parametrize("kind", ["fitnets", "attention", "features"])
def test_hints_are_added_to_the_loss_and_lessen(pruned, kind):
    trained, space, plan, student = pruned
    student = copy.deepcopy(student)
    with_hints = distillation(trained, space, plan, DistillationOptions(hints=kind, hint_weight=2.0))
    without = distillation(trained, space, plan, DistillationOptions())
    alone = with_hints.hint_loss
    assert isinstance(alone, HintLoss)
    looked_into = with_hints.begin(student)
    term = alone(looked_into, (X,), Y)
    total = without(student, (X,), Y) + 2 * term
    torch.testing.assert_close(with_hints(looked_into, (X,), Y), total, rtol=1e-4, atol=1e-4)
    assert len(list(with_hints.parameters())) == (2 * len(stage_ends(space.original)) if kind == "fitnets" else 0)
    before = [parameter.clone() for parameter in with_hints.parameters()]
    rate = {"fitnets": 0.05, "attention": 1.0, "features": 0.02}[kind]
    train(student, alone, 4, rate)
    with torch.no_grad():
        assert alone(looked_into, (X,), Y) < 0.7 * term
    assert all(not torch.equal(a, b) for a, b in zip(before, with_hints.parameters(), strict=True))


def test_hints_alone_leave_what_comes_later_alone(pruned):
    """The first stage of FitNets trains the network up to the guided layer."""
    _, space, plan, student = pruned
    student = copy.deepcopy(student)
    hints = Hints(space, plan, "fitnets", stage_ends(space.original)[:1])
    loss = HintLoss(Teacher(space.original, hints.nodes), hints)
    loss(loss.begin(student), (X,), Y).backward()
    assert student.get_parameter("linear.weight").grad is None
    first = next(iter(student.parameters())).grad
    assert first is not None and first.any()


def test_hints_make_a_student_like_its_teacher_inside():
    """From weights drawn anew, the same epochs: with features compared the last maps are nearer. Seeds are fixed."""
    trained = problem("small_cnn")
    space = channel_space(trained.model, trained.example_inputs)
    plan = space.plan(space.point([knob.nearest(0.75) for knob in space.knobs]))
    away = {}
    for kind in ("none", "features"):
        student = renewed(space.build(plan))
        train(student, distillation(trained, space, plan, DistillationOptions(hints=kind)), 4)
        hints = Hints(space, plan, "features")
        away[kind] = float(hints.compare(values(student, hints.nodes), values(space.original, hints.nodes)))
    assert away["features"] < 0.7 * away["none"]


def test_in_place_steps_and_shared_outputs():
    """A value that a later call changes in place is what it is in the end, in student and teacher alike."""

    class InPlace(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Conv2d(1, 6, 3, padding=1), nn.Conv2d(6, 6, 3, padding=1)
            self.linear = nn.Linear(6, 3)

        def forward(self, x):
            x = self.a(x)
            out = self.b(x)
            out += x
            out = F.relu(out, inplace=True)
            return self.linear(out.mean((2, 3)))

    torch.manual_seed(0)
    network = InPlace()
    space = channel_space(network, (X[:2],))
    plan = space.plan(space.point(space.highest.tolist()))
    nodes = [node.name for node in space.original.graph.nodes if len(node.meta.get("shape", ())) == 4][1:]
    assert len(nodes) >= 4
    hints = Hints(space, plan, "features", nodes)
    loss = HintLoss(Teacher(space.original, hints.nodes), hints)
    assert loss(loss.begin(space.build(plan)), (X,), Y).detach() < 1e-6

"""Distillation against its formulas by hand; the teacher's outputs, computed and remembered."""

import copy
import sys
from dataclasses import replace
from functools import partial
from types import ModuleType

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from automl.config.parse import Source, build
from automl.config.training import DistillationOptions
from automl.errors import ConfigError, ModelError
from automl.study.scratch import renewed
from automl.tasks.classification import Classification
from automl.tasks.problem import Problem
from automl.training.distillation import Distillation, distillation, regression_loss
from automl.training.own_teachers import own_teacher
from automl.training.teacher import CachedTeacher, Teacher
from automl.util.fingerprint import fingerprint
from search_spaces import channel_space
from tests.kits.digits import accuracy, hard, held_out, problem, train, train_batches
from tests.kits.studies import WEIGHTS_FILE, setup

(X,), Y = train_batches(0)[0]


@pytest.fixture(scope="module")
def pruned():
    """The small network's problem, its space, and a plan of half of each group."""
    trained = problem("small_cnn")
    space = channel_space(trained.model, trained.example_inputs)
    return trained, space, space.plan(space.point([knob.nearest(0.5) for knob in space.knobs]))


@torch.no_grad()
def plain(network, x=X):
    return copy.deepcopy(network).eval()(x)


def test_softened_loss_is_the_divergence_of_softened_probabilities():
    torch.manual_seed(0)
    ours, theirs = torch.randn(5, 7, requires_grad=True), torch.randn(5, 7)
    for temperature in (1.0, 3.0):
        p, q = (theirs / temperature).exp(), (ours / temperature).exp()
        p, q = p / p.sum(1, keepdim=True), q / q.sum(1, keepdim=True)
        by_hand = temperature**2 * (p * (p / q).log()).sum(1).mean()
        loss = Classification.softened(ours, theirs, temperature)
        torch.testing.assert_close(loss, by_hand)
        (gradient,) = torch.autograd.grad(loss, ours)
        torch.testing.assert_close(gradient, temperature * (q - p).detach() / 5)  # equation 2, times T^2
    assert Classification.softened(theirs, theirs, 2.0) == pytest.approx(0, abs=1e-6)


def test_at_high_temperature_it_regresses_centred_logits():
    """Hinton et al. 2015, equation 4: the gradient goes to (z - v) / N for logits of mean zero."""
    torch.manual_seed(0)
    ours, theirs = (torch.randn(4, 6, dtype=torch.float64) for _ in range(2))
    ours, theirs = (z - z.mean(1, keepdim=True) for z in (ours, theirs))
    ours.requires_grad_(True)
    z = ours.double()
    loss = (
        1e4**2
        * F.kl_div(F.log_softmax(z / 1e4, 1), F.log_softmax(theirs / 1e4, 1), reduction="none", log_target=True)
        .sum(1)
        .mean()
    )
    (limit,) = torch.autograd.grad(loss, ours)
    torch.testing.assert_close(limit, (ours - theirs).detach() / 6 / 4, rtol=1e-3, atol=1e-6)
    (warm,) = torch.autograd.grad(Classification.softened(ours, theirs, 50.0), ours)
    torch.testing.assert_close(warm, limit, rtol=0.1, atol=1e-3)


def test_regression_and_dense_outputs():
    torch.manual_seed(0)
    ours, theirs = torch.randn(3, 4), torch.randn(3, 4)
    torch.testing.assert_close(regression_loss(ours, theirs), (ours - theirs).norm(dim=1).square().mean() / 2)
    assert regression_loss(torch.tensor([1.0, 3.0]), torch.zeros(2)) == 2.5
    maps, others = torch.randn(2, 4, 3, 3), torch.randn(2, 4, 3, 3)
    rows, other_rows = (x.movedim(1, -1).reshape(-1, 4) for x in (maps, others))
    for loss in (regression_loss, lambda a, b: Classification.softened(a, b, 2.0)):
        torch.testing.assert_close(loss(maps, others), loss(rows, other_rows))


def test_teacher_computes_what_the_original_computes_and_leaves_it_alone(pruned):
    _, space, _ = pruned
    teacher = Teacher(space.original, ["relu_2", "relu_4"])
    outputs, (inner, last) = teacher((X,))
    torch.testing.assert_close(outputs, plain(space.original), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(last.mean((2, 3)) @ space.original.linear.weight.T + space.original.linear.bias, outputs)
    assert not outputs.requires_grad and inner.shape == (64, 12, 8, 8)
    assert all(parameter.requires_grad for parameter in space.original.parameters())
    with torch.autocast("cpu", torch.bfloat16):  # as in a training at low precision
        under, _ = teacher((X,))
    assert torch.equal(under, outputs)


def test_the_mixture_of_the_two_losses(pruned):
    trained, space, plan = pruned
    student = space.build(plan)
    outputs = student(X)
    soft, with_labels = Classification.softened(outputs, plain(space.original), 3.0), F.cross_entropy(outputs, Y)
    for weight in (0.0, 0.3, 1.0):
        loss = distillation(trained, space, plan, DistillationOptions(weight=weight, temperature=3.0))
        expected = weight * soft + (1 - weight) * with_labels
        torch.testing.assert_close(loss(student, (X,), Y), expected, rtol=1e-4, atol=1e-5)
    loss = distillation(trained, space, plan, DistillationOptions(outputs="regression", weight=1.0))
    torch.testing.assert_close(loss(student, (X,), Y), regression_loss(outputs, plain(space.original)))
    assert list(loss.parameters()) == []


def test_cached_outputs_belong_to_their_samples_in_any_order(pruned):
    _, space, _ = pruned
    cached = CachedTeacher(Teacher(space.original))
    for seed in range(3):  # another order, other batches, another layout
        for (x,), _ in train_batches(seed, size=50 + 10 * seed):
            x = x.contiguous(memory_format=torch.channels_last) if seed == 1 else x
            torch.testing.assert_close(cached((x,))[0], plain(space.original, x), rtol=1e-4, atol=1e-4)
    distinct = len({row.numpy().tobytes() for (x,), _ in train_batches(0) for row in x})
    assert distinct <= cached.computed <= 1200
    flipped = X.flip(3)  # as augmentation might
    torch.testing.assert_close(cached((flipped,))[0], plain(space.original, flipped), rtol=1e-4, atol=1e-4)
    half = torch.cat([X[:20], X[:20] + 1])
    torch.testing.assert_close(cached((half,))[0], plain(space.original, half), rtol=1e-4, atol=1e-4)


def test_a_full_cache_still_answers(pruned):
    _, space, _ = pruned
    cached = CachedTeacher(Teacher(space.original), limit_bytes=40 * 10 * 4)
    for x in (X[:30], X[30:], X):
        torch.testing.assert_close(cached((x,))[0], plain(space.original, x), rtol=1e-4, atol=1e-4)
    assert cached.computed == 30 + 34 + 34


def test_outputs_are_remembered_only_where_samples_come_again_and_nothing_inside_is_wanted(pruned):
    trained, space, plan = pruned

    def teacher(options, repeats):
        loss = distillation(replace(trained, repeats=repeats), space, plan, options)
        for _ in range(3):
            loss(loss.begin(space.build(plan)), (X,), Y)
        return loss.teacher

    remembering = teacher(DistillationOptions(), repeats=True)
    assert isinstance(remembering, CachedTeacher) and remembering.computed == 64
    assert isinstance(teacher(DistillationOptions(), repeats=False), Teacher)
    assert isinstance(teacher(DistillationOptions(hints="attention"), repeats=True), Teacher)


def test_it_teaches():
    """A student drawn anew, given no labels: only the teacher can have told it. 0.9 against a chance of 0.1."""
    trained = problem("small_cnn")
    space = channel_space(trained.model, trained.example_inputs)
    plan = space.plan(space.point(space.highest.tolist()))
    for outputs in ("softened", "regression"):
        student = renewed(space.build(plan))
        before = accuracy(student)
        loss = distillation(trained, space, plan, DistillationOptions(outputs=outputs, weight=1.0))
        rate = 0.05 if outputs == "softened" else 0.01
        train(student, lambda network, x, y, loss=loss: loss(network, x, torch.zeros_like(y)), 5, rate)
        x = held_out()[0][0][0]
        agreement = plain(student, x).argmax(1) == plain(space.original, x).argmax(1)
        assert before < 0.4 and accuracy(student) > 0.85 and agreement.float().mean() > 0.85


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"weight": 1.5}, r"in \[0, 1\], got 1.5"),
        ({"temperature": 0.0}, "above 0"),
        ({"hints": "attention", "hint_weight": -1.0}, "hint_weight must be above 0"),
        ({"layers": ("conv1",)}, "set `hints`"),
        ({"hints": "fitnet"}, "expected one of none, fitnets"),
        ({"hints": "fitnets", "temprature": 2.0}, "did you mean 'temperature'"),
    ],
    ids=str,
)
def test_bad_options(wrong, says):
    with pytest.raises(ConfigError, match=says):
        build(DistillationOptions, wrong, Source())


def test_options_from_a_study_file():
    raw = {"weight": 1, "hints": "features", "layers": "conv1", "hint_weight": None}
    assert build(DistillationOptions, raw, Source()) == DistillationOptions(
        weight=1.0, hints="features", layers=("conv1",)
    )


def test_outputs_that_are_no_classes():
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(1, 6, 3), nn.ReLU(), nn.Flatten(), nn.Linear(6 * 36, 1))
    batches = [((X,), torch.randn(64, 1))]
    regression = Problem(network, batches, batches, loss=F.mse_loss)
    space = channel_space(regression.model, regression.example_inputs)
    plan = space.plan(space.point([3]))
    with pytest.raises(ConfigError, match="set `outputs: regression`"):
        distillation(regression, space, plan, DistillationOptions())
    loss = distillation(regression, space, plan, DistillationOptions(outputs="regression", weight=0.5))
    student = space.build(plan)
    expected = 0.5 * F.mse_loss(student(X), batches[0][1]) + 0.25 * (student(X) - plain(space.original)).square().mean()
    torch.testing.assert_close(loss(student, (X,), batches[0][1]), expected, rtol=1e-4, atol=1e-5)


def test_a_teacher_of_several_outputs_is_an_error():
    class Two(nn.Module):
        def forward(self, x):
            return x, x

    with pytest.raises(ModelError, match="a single tensor"):
        Distillation(Teacher(Two()), F.cross_entropy, regression_loss, DistillationOptions())(nn.Identity(), (X,), Y)


def test_training_leaves_the_original_as_it_was(pruned):
    trained, space, plan = pruned
    before = {name: tensor.clone() for name, tensor in space.original.state_dict().items()}
    loss = distillation(trained, space, plan, DistillationOptions(hints="features"))
    train(space.build(plan), loss, 1)
    assert all(torch.equal(before[name], tensor) for name, tensor in space.original.state_dict().items())
    assert train(space.build(plan), hard, 1) > 0


class Shifted(nn.Module):
    """The small network with something added to its outputs."""

    def __init__(self, network, shift):
        super().__init__()
        self.network, self.shift = network, shift

    def forward(self, x):
        return self.network(x) + self.shift


def test_several_teachers_are_learnt_from_by_their_mean(pruned, monkeypatch):
    trained, space, plan = pruned
    torch.manual_seed(0)
    shifts = torch.randn(2, 10)
    own = ModuleType("own_teachers_of_a_test")
    own.one, own.other = (partial(Shifted, trained.model, shift) for shift in shifts)
    own.wide, own.nothing, own.number = (lambda: nn.Sequential(nn.Flatten(), nn.Linear(64, 11))), (lambda x: x), int
    monkeypatch.setitem(sys.modules, own.__name__, own)

    def teachers(*names, **more):
        return DistillationOptions(teachers=tuple(f"{own.__name__}:{name}" for name in names), weight=1.0, **more)

    student, said = space.build(plan), plain(trained.model)
    for options, by_hand in (
        (teachers("one"), said + shifts[0]),
        (teachers("one", "other", outputs="regression"), said + shifts.mean(0)),
        (teachers("one", "other"), 4 * ((said[:, None] + shifts) / 4).softmax(-1).mean(1).log()),
    ):
        loss = distillation(trained, space, plan, options, original=own_teacher(options, trained))
        soft = regression_loss if options.outputs == "regression" else partial(Classification.softened, temperature=4.0)
        expected = soft(student(X), by_hand)
        torch.testing.assert_close(loss(student, (X,), torch.zeros_like(Y)), expected, rtol=1e-4, atol=1e-5)
    assert own_teacher(DistillationOptions(), trained) is None
    for name, says in (("wide", "classes must be the same"), ("nothing", "without arguments"), ("number", "got int")):
        with pytest.raises(ConfigError, match=says):
            own_teacher(teachers(name), trained)
    with pytest.raises(ConfigError, match="leave `hints` out"):
        teachers("one", hints="fitnets")
    with pytest.raises(ConfigError, match="`module:function`, got 'resnet56'"):
        DistillationOptions(teachers=("resnet56",))


def test_a_study_learns_from_its_own_teacher_and_is_bound_to_it(tmp_path, monkeypatch):
    (tmp_path / "mine.py").write_text(
        "import torch\nfrom automl.zoo import load_model\n"
        f"def large():\n    network = load_model('small_cnn', {{}}, {WEIGHTS_FILE!r})\n"
        "    return torch.nn.Sequential(network, torch.nn.Flatten())\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    training = {"epochs": 1, "distillation": {"teachers": ["mine:large"]}}
    made = setup(finish={"training": training})
    assert made.to_record()["teachers"] == [fingerprint(nn.Sequential(made.problem.model, nn.Flatten()))]
    assert "teachers" not in setup(finish={"training": {"epochs": 1, "distillation": {}}}).to_record()

"""Weights in few bits are trained and stay so: in every format, killed or not, by the formulas of the papers."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from agents import Goal
from automl.config.training import DistillationOptions
from automl.errors import ConfigError
from automl.export import export, load
from automl.store import open_store
from automl.study.conclude import conclude
from automl.study.finishing import reported_plan
from automl.study.study import Study
from automl.testing.method_kit import batches, network, plain
from automl.training.loss import SupervisedLoss
from automl.training.methods.base import Course
from automl.training.methods.few_bits import FewBits
from automl.training.trainer import train
from automl.training.unsettled import unsettle_norms
from automl.types import Phase
from search_spaces import NetworkSpace
from search_spaces.codecs.entropy import fits
from search_spaces.codecs.integers import integers_of
from search_spaces.codecs.number_formats import ALL_FORMATS
from search_spaces.graph.inputs import QuantizedInput
from tests.kits.studies import setup

FORMATS = ("binary", "ternary", "int2", "int4", "int8", "coded2", "shared2")
LAYERS = ("0", "4")
LOSS = SupervisedLoss(F.cross_entropy)


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)


def rounded(form):
    """The kit's network in a format, rounded by nothing but its weights."""
    space = NetworkSpace(network().eval(), (torch.zeros(2, 1, 8, 8),), {"code": {"formats": [form]}})
    return space.build(space.plan(space.point(space.lowest.tolist())))


def method(form, **more):
    return FewBits(dict.fromkeys(LAYERS, ALL_FORMATS[form]), pruned=more.get("pruned", False))


def require_format(made, form):
    for name in LAYERS:
        layer, kind = made.get_submodule(name), ALL_FORMATS[form]
        if kind.centroids:
            assert set(layer.weight.flatten().tolist()) <= set(layer.weight_codebook.tolist())
            continue
        integers = integers_of(layer.weight, layer.weight_scale)
        assert integers is not None and integers.abs().max() <= kind.highest and (layer.weight_scale > 0).all()
        assert not kind.coded or fits(integers.float(), kind)
        assert kind.has_zero or (integers % 2 != 0).all()


def loss_of(made):
    (x,), y = batches(7)[0]
    with torch.no_grad():
        return float(F.cross_entropy(made.eval()(x), y))


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_a_network_learns_and_ends_in_its_format(form, optimizer):
    made = rounded(form)
    adam = optimizer == "adamw"
    options = plain(optimizer=optimizer, learning_rate=0.01 if adam else 0.05, ema=0.5 if adam else None)
    before, tables = loss_of(made), {name: tensor.clone() for name, tensor in made.named_buffers()}
    train(made, batches, LOSS, options, methods=[method(form)])
    require_format(made, form)
    # Signs turn slowly; and weights that keep their places in a book drawn at random can learn little.
    assert loss_of(made) < (0.97 if form in ("binary", "shared2") else 0.2) * before
    told = [name for name in tables if name.endswith(("weight_scale", "weight_codebook"))]
    assert len(told) == 2 and not any(torch.equal(tables[name], made.get_buffer(name)) for name in told)


@pytest.mark.parametrize("form", ["int2", "coded2", "shared2"])
def test_a_training_that_is_killed_goes_on_to_the_same_weights(form, tmp_path):
    whole = rounded(form)
    train(whole, batches, LOSS, plain(), methods=[method(form)])
    for until in (1, 2, 4):
        cut = rounded(form)
        train(cut, batches, LOSS, plain(), methods=[method(form)], checkpoint=tmp_path / "c", until=until)
        require_format(cut, form)
    for name, tensor in whole.state_dict().items():
        assert torch.equal(tensor, cut.state_dict()[name]), name


def test_what_is_validated_is_in_its_format_and_training_is_the_same_for_it():
    seen = []

    def validate(made):
        require_format(made, "int2")
        seen.append([p.detach().clone() for p in made.parameters()])
        return {"worth": (0.2, 0.9, 0.3, 0.1)[len(seen) - 1]}

    def trained(**more):
        made = rounded("int2")
        history = train(made, batches, LOSS, plain(keep=more.pop("keep", "last")), methods=[method("int2")], **more)
        return made, history

    goal = Goal("worth", "maximize")
    looked, unseen = trained(validate=validate, goal=goal)[0], trained()[0]
    assert all(map(torch.equal, looked.parameters(), unseen.parameters()))
    del seen[:]
    best, history = trained(validate=validate, goal=goal, keep="best")
    assert history.kept == 2 and all(map(torch.equal, best.parameters(), seen[1]))


class One(nn.Module):
    """A layer of 2 outputs, on a grid of steps 0.5 and 0.25."""

    def __init__(self, weight):
        super().__init__()
        self.layer = nn.Linear(weight.shape[1], 2, bias=False)
        self.layer.weight.data = weight
        self.layer.register_buffer("weight_scale", torch.tensor([0.5, 0.25]))


def one_step(form, weight, gradient):
    """What the passes see, and the gradients of weight and steps, of weights that have left the grid."""
    made = One(torch.tensor([[0.5, -0.5, 0.5], [0.25, 0.25, -0.25]]))
    course = Course(made, torch.optim.SGD(made.parameters(), 0.0), 1)
    held = FewBits({"layer": ALL_FORMATS[form]}, pruned=False)
    held.begin(course)
    made.layer.weight.data = weight.clone()
    seen = []

    def closure():
        seen.append(made.layer.weight.detach().clone())
        made.layer.weight.grad = gradient.clone()
        return torch.zeros(())

    held.gradients(course, closure)
    assert torch.equal(made.layer.weight.detach(), weight), "they are put back"
    (step,) = course.optimizer.param_groups[-1]["params"]
    passed = made.layer.weight.grad
    held.after_step(course)
    return seen[0], passed, step.grad, made.layer.weight.detach()


def test_gradients_are_those_of_learned_step_size_quantization():
    """Equations 3 and 5, with Q = 1 below and above (ternary), a step for each output."""
    weight = torch.tensor([[0.2, -0.7, 0.35], [0.1, 0.3, -0.2]])
    gradient = torch.tensor([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]])
    seen, passed, of_steps, after = one_step("ternary", weight, gradient)
    torch.testing.assert_close(seen, torch.tensor([[0.0, -0.5, 0.5], [0.0, 0.25, -0.25]]))
    torch.testing.assert_close(passed, torch.tensor([[1.0, 0.0, 3.0], [4.0, 0.0, 6.0]]))
    first = 1.0 * (0 - 0.4) + 2.0 * -1 + 3.0 * (1 - 0.7)
    second = 4.0 * (0 - 0.4) + 5.0 * 1 + 6.0 * (-1 + 0.8)
    torch.testing.assert_close(of_steps, torch.tensor([first, second]) / math.sqrt(3))
    assert torch.equal(after, weight), "of several levels none is clipped"


def test_binary_weights_are_signs_and_are_clipped_as_by_binary_connect():
    weight = torch.tensor([[0.01, -0.01, -3.0], [0.25, 0.1, -0.1]])
    seen, passed, _, after = one_step("binary", weight, torch.ones(2, 3))
    torch.testing.assert_close(seen, torch.tensor([[0.5, -0.5, -0.5], [0.25, 0.25, -0.25]]))
    assert passed.tolist() == [[1, 1, 0], [1, 1, 1]] and after[0, 2] == -0.5


def test_numbers_of_a_codebook_have_the_sum_of_their_gradients():
    made = One(torch.tensor([[0.5, -0.5, 0.5], [0.25, 0.25, 0.5]]))
    made.layer.register_buffer("weight_codebook", torch.tensor([-0.5, 0.25, 0.5, 9.0]))
    course = Course(made, torch.optim.SGD(made.parameters(), 0.1), 1)
    held = FewBits({"layer": ALL_FORMATS["shared2"]}, pruned=False)
    held.begin(course)

    def closure():
        made.layer.weight.grad = torch.tensor([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]])
        return torch.zeros(())

    held.gradients(course, closure)
    (book,) = course.optimizer.param_groups[-1]["params"]
    torch.testing.assert_close(book.grad, torch.tensor([2.0, 9.0 / math.sqrt(2), 10.0 / math.sqrt(3), 0.0]))
    assert made.layer.weight.grad is None, "a weight stays at its place"


def test_weights_that_were_pruned_stay_zero_also_where_the_format_has_none():
    made = rounded("binary")
    with torch.no_grad():
        made.get_submodule("4").weight[:, ::3] = 0.0
    train(made, batches, LOSS, plain(), methods=[method("binary", pruned=True)])
    weight = made.get_submodule("4").weight
    assert not weight[:, ::3].any() and weight[:, 1::3].all()


def test_gradients_pass_inputs_of_8_bits_in_training_alone():
    layer, x = QuantizedInput(), torch.linspace(-12, 12, 4001).requires_grad_()
    there = layer.train()(x)
    assert torch.equal(there, layer.eval()(x))
    (gradient,) = torch.autograd.grad(layer.train()(x).sum(), x)
    within = (x >= -8) & (x <= 127 / 16)
    assert torch.equal(gradient, within.float())


def test_norms_that_were_settled_compute_the_same_on_batches_as_they_are_trained_on():
    """With the statistics of a batch a norm that multiplies by 1 would make another network."""
    space = NetworkSpace(network().eval(), (torch.zeros(2, 1, 8, 8),), {"code": {"formats": ["int4"]}})
    made = space.build(space.plan(space.point(space.lowest.tolist()))).eval()
    (x,), _ = batch = batches(3)[0]
    with torch.no_grad():
        before = made(x)
        unsettle_norms(made, [batch])
        torch.testing.assert_close(made(x), before, rtol=1e-4, atol=1e-4)
        made.get_submodule("1").train()
        torch.testing.assert_close(made(x), before, rtol=1e-4, atol=1e-4)


def test_a_network_that_was_fitted_in_binary_weights_is_nearer_to_its_original_once_it_is_trained():
    made = setup(space={"code": {"formats": ["binary"]}}, budget="size <= 60%")
    point = made.space.point(made.space.lowest.tolist())
    made.evaluator.prepare()
    finisher = made.evaluator.finishing()
    trained = finisher.network(point)
    fitted = copy.deepcopy(trained)
    finisher.train(trained, point, plain(batch_size=32, learning_rate=0.02, distillation=DistillationOptions()))
    before, after = (finisher.measure(made_of, made.problem.validation) for made_of in (fitted, trained))
    losses = [next(m.value for m in measured if m.metric == "loss") for measured in (before, after)]
    assert losses[1] < 0.8 * losses[0]
    scales = [module.weight_scale for module in trained.modules() if hasattr(module, "weight_scale")]
    assert len(scales) == 5 and all(torch.equal(scale, scale.bfloat16().float()) for scale in scales)


def test_a_study_trains_its_winner_within_its_bits(tmp_path):
    """In binary weights, with an original that teaches; what is exported is what was judged."""
    training = {"epochs": 1, "batch_size": 32, "learning_rate": 0.02, "precision": "float32", "distillation": {}}
    config = setup(
        space={"code": {"formats": ["binary"], "inputs": "int8"}},
        budget="bops <= 3%",
        agent="uniform",
        baselines=[],
        trials=1,
        finish={"finalists": 1, "training": training},
    ).config
    with open_store(tmp_path / "study.db") as store:
        study = Study(store, config)
        study.run()
        results = conclude(study)
        assert results.winner.values_of(Phase.FINAL)["bops"] <= study.setup.limits["bops"]
        assert "accuracy" in results.winner.values_of(Phase.REFITTED), "it has been trained"
        x = study.setup.problem.validation[0][0][0]
        export(
            results.network,
            (x[:2],),
            reported_plan(study, results.winner.point),
            tmp_path,
            ["safetensors"],
            manifest={},
        )
        with torch.no_grad():
            assert torch.equal(load(tmp_path, study.setup.problem.model)(x), results.network(x))


def test_methods_that_bring_zeros_are_refused_beside_it():
    training = {"epochs": 1, "method": "gradual"}
    with pytest.raises(ConfigError, match="leave out the operator code"):
        setup(space={"sparsity": {}, "code": {}}, budget="size <= 30%", finish={"training": training})

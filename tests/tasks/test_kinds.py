"""Kinds of task: what every kind promises, and the formulas of each against plain PyTorch."""

import pickle

import pytest
import torch
from torch.nn import functional as F

from automl.errors import NotFiniteError
from automl.tasks.classification import Classification
from automl.tasks.custom import Custom
from automl.tasks.drawn_values import DrawnValues
from automl.tasks.kinds import KINDS, NAMED, kind_of
from automl.tasks.label_free import Embedding, Unlabelled
from automl.tasks.losses import BinaryCrossEntropy
from automl.tasks.metric import Metric
from automl.tasks.regression import Regression
from automl.tasks.segmentation import Segmentation

N = 6


def examples(seed):
    """A kind with outputs and targets of its own, in float64, for each of the kinds and its variants."""
    torch.manual_seed(seed)
    labels, maps = torch.randint(0, 4, (N,)), torch.randint(0, 4, (N, 3, 5))
    return {
        "classes": (Classification(), torch.randn(N, 4).double(), labels),
        "dense classes": (Classification(), torch.randn(N, 4, 3, 5).double(), maps),
        "classes with a loss of one's own": (Classification(F.multi_margin_loss), torch.randn(N, 4).double(), labels),
        "pixels": (Segmentation(), torch.randn(N, 4, 3, 5).double(), maps),
        "a mask": (Segmentation(BinaryCrossEntropy()), torch.randn(N, 1, 3, 5).double(), (maps > 1)[:, None].double()),
        "measured numbers": (Regression(), torch.randn(N, 2).double(), torch.randn(N, 2).double()),
        "values of a signal": (DrawnValues(), torch.rand(N, 3).double(), torch.rand(N, 3).double()),
        "directions": (Embedding(), torch.randn(N, 4).double(), torch.randn(N, 4).double()),
        "numbers": (Custom(F.mse_loss), torch.randn(N, 2).double(), torch.randn(N, 2).double()),
        "shares of classes": (Custom(), torch.randn(N, 4).double(), torch.softmax(torch.randn(N, 4).double(), 1)),
    }


@pytest.fixture(params=examples(0))
def example(request):
    return examples(0)[request.param]


def generator():
    return torch.Generator().manual_seed(0)


def test_the_kind_is_told_by_outputs_and_targets(example):
    kind, outputs, targets = example
    name = next(name for name, one in NAMED.items() if isinstance(one(), type(kind)))
    assert kind_of(outputs, targets, kind.loss, name) == kind
    if isinstance(kind, Classification | Custom):
        assert kind_of(outputs, targets, kind.loss) == kind
    assert any(isinstance(one(), type(kind)) for one in KINDS)
    assert pickle.loads(pickle.dumps(kind)) == kind


def test_metrics_are_means_over_samples_and_the_headline_is_one(example):
    kind, outputs, targets = example
    assert kind.headline in kind.metrics and all(isinstance(metric, Metric) for metric in kind.metrics.values())
    assert kind.metrics["loss"].direction == "minimize"
    assert kind.metrics["loss"].of(outputs, targets) == pytest.approx(float(kind.loss(outputs, targets)))
    for metric in kind.metrics.values():
        assert metric.unit != "%" or 0 <= metric.of(outputs, targets) <= 1


def test_outputs_agree_with_themselves_and_are_no_distance_away(example):
    kind, outputs, _ = example
    assert (kind.agreement(outputs, outputs) == 1).all()
    if kind.divergence is None:
        return
    assert kind.divergence(outputs, outputs).abs().max() < 1e-12
    each = kind.divergence(outputs, outputs.flip(0))
    assert len(each) == N and (each > 0).all()


def test_the_drawn_loss_is_repeatable_and_reaches_all_outputs(example):
    kind, outputs, targets = example
    outputs.requires_grad_(True)
    loss, again = (kind.drawn_loss(outputs, targets, generator()) for _ in range(2))
    assert loss.ndim == 0 and torch.equal(loss, again)
    (gradient,) = torch.autograd.grad(loss, outputs)
    assert gradient.isfinite().all() and (gradient != 0).all()


def test_softening_is_for_probabilities(example):
    kind, outputs, _ = example
    if kind.softened is None:
        return
    loss = kind.softened(outputs, outputs.flip(0), 2.0)
    if outputs.shape[1] == 1:  # of a mask: the scores of no and yes
        outputs = torch.cat([torch.zeros_like(outputs), outputs], 1)
    classes = outputs.shape[1]
    theirs, ours = (
        torch.softmax(x.float().movedim(1, -1).reshape(-1, classes) / 2, 1) for x in (outputs.flip(0), outputs)
    )
    torch.testing.assert_close(loss, 4 * F.kl_div(ours.log(), theirs, reduction="batchmean"), check_dtype=False)


def test_class_scores_are_judged_by_accuracy_and_compared_by_kl():
    (kind, outputs, targets), others = examples(0)["dense classes"], examples(1)["dense classes"][1]
    assert kind.headline == "accuracy"
    assert (kind.metrics["accuracy"].direction, kind.metrics["accuracy"].unit) == ("maximize", "%")
    right = torch.stack([outputs[:, c] for c in range(4)]).max(0).indices == targets
    assert kind.metrics["accuracy"].of(outputs, targets) == float(right.double().mean())
    ours, theirs = (torch.distributions.Categorical(logits=x.movedim(1, -1)) for x in (outputs, others))
    torch.testing.assert_close(kind.divergence(outputs, others), torch.distributions.kl_divergence(theirs, ours))
    nudged = outputs.clone()
    nudged[0, :, 0, 0] = torch.tensor([0.0, 9.0, 0.0, 0.0])
    outputs[0, :, 0, 0] = torch.tensor([9.0, 0.0, 0.0, 0.0])
    agreement = kind.agreement(outputs, nudged)
    assert agreement.shape == (N, 3, 5) and agreement.sum() == agreement.numel() - 1 and agreement[0, 0, 0] == 0


@pytest.mark.parametrize("shape", [(40_000,), (40, 25, 40)])
def test_squared_gradients_of_the_drawn_loss_are_the_fisher_information(shape):
    """For logits with probabilities p the Fisher matrix has p (1 - p) on its diagonal."""
    p = torch.tensor([0.6, 0.3, 0.1], dtype=torch.float64)
    logits = p.log().view(1, 3, *[1] * (len(shape) - 1)).expand(shape[0], 3, *shape[1:]).clone().requires_grad_(True)
    loss = Classification().drawn_loss(logits, torch.zeros(shape).long(), generator())
    (gradient,) = torch.autograd.grad(loss, logits)
    torch.testing.assert_close(gradient.movedim(1, 0).flatten(1).square().mean(1), p * (1 - p), rtol=0.05, atol=0)
    entropy = torch.distributions.Categorical(probs=p).entropy()
    torch.testing.assert_close(loss / logits[:, 0].numel(), entropy, rtol=0.05, atol=0)


def test_nothing_is_drawn_from_scores_that_are_not_finite():
    with pytest.raises(NotFiniteError):
        Classification().drawn_loss(torch.full((2, 3), torch.nan), torch.zeros(2).long(), generator())


def test_a_task_of_ones_own_has_its_loss_and_nothing_else():
    kind, outputs, targets = examples(0)["numbers"]
    assert list(kind.metrics) == [kind.headline] == ["loss"]
    assert kind.divergence is None and kind.softened is None
    expected = N * (outputs - targets).square().mean()
    torch.testing.assert_close(kind.drawn_loss(outputs, targets, generator()), expected)
    assert kind.agreement({"boxes": outputs}, {"boxes": targets}) == 1


def test_the_drawn_gradients_are_the_curvature_of_the_loss():
    """Of regression 2 / d for each of d numbers; of the cosine (I - u u') / |x|^2, with the original's direction u."""
    x = torch.tensor([[3.0, -1.0, 2.0, 0.5]], dtype=torch.float64).expand(40_000, 4).clone().requires_grad_(True)
    (gradient,) = torch.autograd.grad(Regression().drawn_loss(x, x, generator()), x)
    torch.testing.assert_close(gradient.square().mean(0), torch.full((4,), 2 / 4).double(), rtol=0.05, atol=0)
    (gradient,) = torch.autograd.grad(Embedding().drawn_loss(x, x, generator()), x)
    one = x[:1].detach()
    hessian = torch.autograd.functional.hessian(lambda y: (1 - F.cosine_similarity(y, one)).sum(), one)[0, :, 0]
    torch.testing.assert_close(gradient.mT @ gradient / 40_000, hessian, rtol=0.05, atol=2e-3)


def test_a_signal_is_judged_in_decibels():
    kind, outputs, targets = examples(0)["values of a signal"]
    expected = -10 * torch.log10((outputs - targets).square().mean())
    assert kind.metrics["psnr"].of(outputs, targets) == pytest.approx(float(expected))
    assert kind.metrics["psnr"].direction == "maximize" and kind.metrics["psnr"].of(targets, targets) == 200


def test_without_labels_only_the_divergence_is_known():
    outputs, targets = torch.randn(N, 4), torch.empty(N, 0)
    kind = kind_of(outputs, targets, None)
    assert kind == Unlabelled(Regression()) and list(kind.metrics) == [kind.headline] == ["divergence"]
    assert kind_of(outputs, targets, None, "classification") == Unlabelled(Classification())
    assert pickle.loads(pickle.dumps(kind)) == kind and kind.loss(outputs, outputs) == 0
    others = outputs.flip(0)
    assert kind.metrics["divergence"].of(outputs, others) == pytest.approx(float(F.mse_loss(outputs, others)))

"""Every figure is the plain PyTorch computation over the whole split, whatever the batches, and has its spread."""

import math
import random
from functools import partial

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from agents import Goal
from automl.errors import ConfigError, NotFiniteError
from automl.evaluation.racing import estimates, hopeless
from automl.tasks.classification import Classification
from automl.tasks.custom import Custom
from automl.tasks.losses import BinaryCrossEntropy, is_cross_entropy, loss_metric
from automl.tasks.metric import Metric, as_metric, direction_of
from automl.tasks.regression import Regression
from automl.tasks.scores import Scores, measure_metrics
from automl.tasks.segmentation import Segmentation
from automl.training.loss import smoothed

SEEDS = range(12)
WHOLE = nn.Identity()
"""Its outputs are its inputs."""


def split(outputs, targets, sizes):
    return [((x,), y) for x, y in zip(outputs.split(sizes), targets.split(sizes), strict=True)]


def batches(outputs, targets, seed):
    """The samples in batches of random sizes."""
    rng, sizes, left = random.Random(seed), [], len(outputs)
    while left:
        sizes.append(min(left, rng.randint(1, 9)))
        left -= sizes[-1]
    return split(outputs, targets, sizes)


def measured(metrics, outputs, targets, seed):
    return {m.metric: m for m in measure_metrics(WHOLE, batches(outputs, targets, seed), metrics)}


def classes(seed, ignored, dense=False):
    """Class scores, and labels of which a part is ignored, in some seeds whole samples."""
    torch.manual_seed(seed)
    shape = (30, 5, 6) if dense else (30,)
    labels = torch.randint(0, 4, shape)
    labels[torch.rand(shape) < 0.3] = ignored
    labels[: seed % 3] = ignored
    return torch.randn(30, 4, *shape[1:]), labels


@pytest.mark.parametrize("dense", [False, True])
@pytest.mark.parametrize("seed", SEEDS)
def test_the_loss_of_labels_is_the_mean_over_what_counts(seed, dense):
    rng = random.Random(seed)
    ignored = rng.choice([-100, 255])
    options = {"ignore_index": ignored, "label_smoothing": rng.choice([0.0, 0.1])}
    if rng.random() < 0.6:
        options["weight"] = torch.rand(4) + 0.1
    outputs, labels = classes(seed, ignored, dense)
    for loss in (partial(F.cross_entropy, **options), nn.CrossEntropyLoss(**options)):
        found = measured(Classification(loss).metrics, outputs, labels, seed)
        assert found["loss"].value == pytest.approx(float(loss(outputs, labels)), rel=1e-5)
        counts = labels != ignored
        assert found["accuracy"].value == float((outputs.argmax(1) == labels)[counts].double().mean())
    if not options["label_smoothing"]:
        del options["label_smoothing"]
        likelihoods = outputs.log_softmax(1)
        found = measured({"loss": loss_metric(nn.NLLLoss(**options))}, likelihoods, labels, seed)
        assert found["loss"].value == pytest.approx(float(F.nll_loss(likelihoods, labels, **options)), rel=1e-5)


@pytest.mark.parametrize(
    "loss",
    [
        F.mse_loss,
        nn.L1Loss(),
        partial(F.huber_loss, delta=0.3),
        F.binary_cross_entropy_with_logits,
        nn.BCEWithLogitsLoss(pos_weight=torch.tensor([2.0, 0.5, 1.0])),
        nn.KLDivLoss(reduction="batchmean"),
        F.cross_entropy,
    ],
    ids=["mse", "l1", "huber", "bce", "weighted bce", "kl", "cross-entropy"],
)
def test_any_loss_of_pytorch_is_that_over_the_whole_split(loss):
    torch.manual_seed(0)
    outputs, targets = torch.randn(31, 3), torch.rand(31, 3).softmax(1)
    found = measured(Custom(loss).metrics, outputs, targets, 1)["loss"]
    assert found.value == pytest.approx(float(loss(outputs, targets)), rel=1e-5)


def test_a_loss_that_is_summed_is_told_by_the_sample_and_one_without_reduction_is_averaged():
    outputs, labels = classes(3, -100)
    total = float(F.cross_entropy(outputs, labels, reduction="sum"))
    for seed in SEEDS:
        summed = measured({"loss": loss_metric(nn.CrossEntropyLoss(reduction="sum"))}, outputs, labels, seed)["loss"]
        assert summed.value == pytest.approx(total / 30, rel=1e-5)
        each = measured({"loss": loss_metric(nn.CrossEntropyLoss(reduction="none"))}, outputs, labels, seed)["loss"]
        assert each.value == pytest.approx(float(F.cross_entropy(outputs, labels)), rel=1e-5)


def test_labels_that_are_all_ignored_have_no_mean():
    outputs, labels = classes(0, -100)
    with pytest.raises(NotFiniteError, match="accuracy"):
        measured(Classification().metrics, outputs, torch.full_like(labels, -100), 0)


@pytest.mark.parametrize("seed", SEEDS)
def test_the_root_mean_square_is_over_the_whole_split(seed):
    torch.manual_seed(seed)
    outputs, targets = torch.randn(40, 3), torch.randn(40, 3)
    found = measured(Regression().metrics, outputs, targets, seed)
    assert found["rmse"].value == pytest.approx(float(F.mse_loss(outputs, targets).sqrt()), rel=1e-6)
    assert found["loss"].value == pytest.approx(float(F.mse_loss(outputs, targets)), rel=1e-6)


def plain_miou(predicted, labels, n, ignored):
    """Class by class over all pixels, as it is defined."""
    counts = labels != ignored
    found = []
    for c in range(n):
        a, b = (predicted == c) & counts, (labels == c) & counts
        if (a | b).any():
            found.append(float((a & b).sum() / (a | b).sum()))
    return sum(found) / len(found)


@pytest.mark.parametrize("seed", SEEDS)
def test_the_mean_overlap_is_that_of_the_whole_split(seed):
    outputs, labels = classes(seed, 255, dense=True)
    labels[labels == seed % 4] = 255  # a class that no label has
    kind = Segmentation(partial(F.cross_entropy, ignore_index=255))
    found = measured(kind.metrics, outputs, labels, seed)
    assert found["miou"].value == pytest.approx(plain_miou(outputs.argmax(1), labels, 4, 255), rel=1e-6)
    counts = labels != 255
    assert found["pixel_accuracy"].value == float((outputs.argmax(1) == labels)[counts].double().mean())
    assert found["loss"].value == pytest.approx(float(kind.loss(outputs, labels)), rel=1e-5)


@pytest.mark.parametrize("seed", range(4))
def test_one_channel_is_two_classes(seed):
    torch.manual_seed(seed)
    outputs, labels = torch.randn(20, 1, 5, 6), torch.randint(0, 2, (20, 5, 6))
    labels[torch.rand(labels.shape) < 0.2] = 255
    kind = Segmentation(BinaryCrossEntropy(255), 255)
    counts, predicted = labels != 255, (outputs[:, 0] > 0).long()
    expected = F.binary_cross_entropy_with_logits(outputs[:, 0][counts], labels[counts].float())
    for targets in (labels, labels[:, None].float()):
        found = measured(kind.metrics, outputs, targets, seed)
        assert found["miou"].value == pytest.approx(plain_miou(predicted, labels, 2, 255), rel=1e-6)
        assert found["loss"].value == pytest.approx(float(expected), rel=1e-5)
        assert float(kind.loss(outputs, targets)) == pytest.approx(float(expected), rel=1e-5)
    p, q = outputs.sigmoid(), outputs.flip(0).sigmoid()
    divergence = q * (q / p).log() + (1 - q) * ((1 - q) / (1 - p)).log()
    torch.testing.assert_close(kind.divergence(outputs, outputs.flip(0)), divergence[:, 0], rtol=1e-3, atol=1e-5)


def correlation(sums):
    n, x, y, xx, yy, xy = sums.tolist()
    return (n * xy - x * y) / math.sqrt((n * xx - x * x) * (n * yy - y * y))


def moments(outputs, targets):
    x, y = outputs.double(), targets.double()
    return torch.stack([torch.ones_like(x), x, y, x * x, y * y, x * y], 1)


CORRELATION = Metric(direction="maximize", statistics=moments, value=correlation)


def test_a_metric_of_ones_own_sums_has_the_spread_of_the_bootstrap():
    torch.manual_seed(0)
    x = torch.randn(400)
    y = 0.7 * x + 0.5 * torch.randn(400)
    found = measured({"r": CORRELATION}, x, y, 5)["r"]
    assert found.value == pytest.approx(float(torch.corrcoef(torch.stack([x, y]))[0, 1]), rel=1e-5)
    rng = np.random.default_rng(0)
    drawn = [rng.integers(0, 400, 400) for _ in range(300)]
    spread = np.std([np.corrcoef(x.numpy()[i], y.numpy()[i])[0, 1] for i in drawn])
    assert found.spread == pytest.approx(spread, rel=0.2)


def test_a_metric_of_sums_can_be_raced_about():
    torch.manual_seed(1)
    labels = torch.randint(0, 3, (200, 4, 4))
    truth = F.one_hot(labels, 3).permute(0, 3, 1, 2).float()
    good, bad = truth + 0.4 * torch.randn(truth.shape), truth + 2.0 * torch.randn(truth.shape)
    metrics, goal = Segmentation().metrics, Goal("miou", "maximize")

    def scored(outputs, first):
        scores = Scores()
        for batch in split(outputs[:first], labels[:first], 10):
            scores.add(WHOLE, batch, metrics)
        return scores

    rival = scored(good, 200)
    assert hopeless(scored(bad, 50), rival, goal, 0.99) and not hopeless(scored(good, 50), rival, goal, 0.99)
    estimated = {m.metric: m for m in estimates(scored(bad, 100), rival)}["miou"]
    whole = {m.metric: m for m in scored(bad, 200).measurements()}["miou"]
    assert abs(estimated.value - whole.value) < 4 * estimated.spread and estimated.n == 100


class Account:
    """The protocol of torchmetrics: the largest error."""

    higher_is_better = False

    def __init__(self):
        self.largest = torch.tensor(0.0)

    def update(self, outputs, targets):
        self.largest = torch.maximum(self.largest, (outputs - targets).abs().max())

    def compute(self):
        return self.largest

    def reset(self):
        self.largest = torch.tensor(0.0)


def test_an_object_that_keeps_its_own_account_is_asked_for_the_whole():
    outputs, targets = torch.randn(30), torch.randn(30)
    account = Account()
    metric = as_metric("largest", account)
    for seed in range(3):
        found = measured({"largest": metric}, outputs, targets, seed)["largest"]
        assert found.value == float((outputs - targets).abs().max()) and found.spread is None and found.n == 30
    assert account.largest == 0, "the user's own stays as it is"
    assert direction_of("largest", {"largest": account}) == metric.direction == "minimize"


def test_what_is_no_metric_is_refused():
    for wrong in (
        {},
        {"score": F.mse_loss, "accumulator": Account()},
        {"statistics": moments},
        {"score": 1, "value": 2},
    ):
        with pytest.raises(ConfigError, match="a metric is"):
            Metric(**wrong)
    with pytest.raises(ConfigError, match="must be a function"):
        as_metric("f1", 0.5)


def test_smoothing_in_training_keeps_the_options_of_a_cross_entropy():
    outputs, labels = classes(5, 255)
    expected = F.cross_entropy(outputs, labels, ignore_index=255, label_smoothing=0.1)
    for loss in (nn.CrossEntropyLoss(ignore_index=255), partial(F.cross_entropy, ignore_index=255)):
        assert is_cross_entropy(loss) and smoothed(loss, 0.1)(outputs, labels) == expected
        assert smoothed(loss, 0.0) is loss
    for other in (nn.NLLLoss(), F.mse_loss, type("Own", (nn.CrossEntropyLoss,), {})()):
        with pytest.raises(ConfigError, match="label_smoothing is for cross-entropy"):
            smoothed(other, 0.1)

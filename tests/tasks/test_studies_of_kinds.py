"""Studies of each kind of task on tiny networks: objective, guarantee, race, distillation and table speak of it."""

import dataclasses
import pickle
from collections import UserDict

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import automl
from automl.errors import AutomlError, ConfigError, DataError
from automl.tasks.flattery import flattery
from automl.tasks.metric import Metric
from automl.tasks.problem import Problem
from automl.tasks.scores import measure_metrics
from tests.tasks.test_whole_split import plain_miou

QUICK = {
    "trials": 2,
    "agent": "random",
    "baselines": (),
    "progress": False,
    "space": {"name": "channels", "round_to": 1},
}


def pixels(seed, n=24, void=True):
    """Images whose classes are where they are bright, batch by batch."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(n, 2, 6, 6, generator=generator)
    labels = (x[:, 0] > 0).long() + (x[:, 1] > 0.5).long()
    if void:
        labels[:, :1] = 255
    return [(x[i : i + 7], labels[i : i + 7]) for i in range(0, n, 7)]


def segmenter(classes=3):
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(2, 8, 1), nn.ReLU(), nn.Conv2d(8, 6, 1), nn.ReLU(), nn.Conv2d(6, classes, 1))


def numbers(seed, n=24):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(n, 4, generator=generator)
    return [(x[i : i + 7], x[i : i + 7, :2] * 2 - 1) for i in range(0, n, 7)]


def mlp(outputs=2):
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 8), nn.ReLU(), nn.Linear(8, outputs))


def together(batches, network):
    """All samples of a split as one."""
    x, y = (torch.cat(part) for part in zip(*batches, strict=True))
    with torch.no_grad():
        return network(x), y


def compress(model, train, validation, budget="macs <= 60%", **more):
    return automl.compress(model, train, validation, budget, **{**QUICK, **more})


def judged(model, train, validation, **more):
    """A problem of these data, and what the network is worth in it."""
    problem = Problem.from_iterables(model, train, validation, **more)
    return problem, {m.metric: m for m in measure_metrics(problem.model, problem.validation, problem.metrics)}


@pytest.fixture(scope="module")
def segmented():
    return compress(
        segmenter(),
        pixels(0),
        pixels(1),
        test_data=pixels(2),
        task={"name": "segmentation", "ignore_index": 255},
        objective="miou",
        guarantee="miou drop <= 90%",
        finish={"finalists": 1, "training": {"epochs": 1, "distillation": {}}},
    )


def test_a_segmentation_is_judged_by_its_overlap_over_the_whole_split(segmented):
    for network, measured in ((segmenter(), segmented.base), (segmented.network, segmented.measurements)):
        outputs, labels = together(pixels(1), network)
        assert measured["miou"].value == pytest.approx(plain_miou(outputs.argmax(1), labels, 3, 255), rel=1e-4)
        assert measured["loss"].value == pytest.approx(
            float(F.cross_entropy(outputs, labels, ignore_index=255)), rel=1e-4
        )
        assert measured["miou"].spread > 0
    assert segmented.measurements["macs"].value <= 0.6 * segmented.base["macs"].value


def test_the_table_has_its_metric(segmented):
    report = segmented.table()
    assert " miou " in report and "test miou" in report and "accuracy" not in report.replace("pixel_accuracy", "")
    assert "% where 'miou drop <= 90%' is guaranteed" in report and " %" in report


def test_dense_class_scores_without_a_name_are_classification_in_which_void_is_not_wrong():
    _, base = judged(segmenter(), pixels(0), pixels(1), loss=nn.CrossEntropyLoss(ignore_index=255))
    outputs, labels = together(pixels(1), segmenter())
    right = (outputs.argmax(1) == labels)[labels != 255].double().mean()
    assert base["accuracy"].value == pytest.approx(float(right), rel=1e-9)


def test_one_channel_without_a_loss_is_refused_with_the_loss_to_give():
    masks = [(x, (y > 0).long()) for x, y in pixels(0, void=False)]
    for train in (masks, [(x, y[:, None].float()) for x, y in masks], [(x, torch.zeros_like(y)) for x, y in masks]):
        with pytest.raises(DataError, match="binary_cross_entropy_with_logits"):
            compress(segmenter(1), train, train)
    with pytest.raises(DataError, match="loss that depends on the outputs"):
        shares = [(x, y[:, None].float()) for x, y in masks]
        compress(segmenter(1), shares, shares, loss=F.cross_entropy)


def test_a_mask_is_segmented_by_one_channel():
    masks = [[(x, (y > 0).long()) for x, y in pixels(seed, void=False)] for seed in (0, 1)]
    _, base = judged(segmenter(1), *masks, task="segmentation")
    outputs, labels = together(masks[1], segmenter(1))
    plain = F.binary_cross_entropy_with_logits(outputs[:, 0], labels.float())
    assert base["loss"].value == pytest.approx(float(plain), rel=1e-5)
    floats = [[(x, y[:, None].float()) for x, y in part] for part in masks]
    _, own = judged(segmenter(1), *floats, task="segmentation", loss=F.binary_cross_entropy_with_logits)
    assert own["loss"].value == pytest.approx(float(plain), rel=1e-5)
    assert own["miou"].value == pytest.approx(base["miou"].value, rel=1e-9)


def test_numbers_for_numbers_are_a_regression():
    result = compress(mlp(), numbers(0), numbers(1), guarantee="rmse rise <= 500%", evaluation={"race": 0.9})
    for network, measured in ((mlp(), result.base), (result.network, result.measurements)):
        outputs, targets = together(numbers(1), network)
        assert measured["rmse"].value == pytest.approx(float(F.mse_loss(outputs, targets).sqrt()), rel=1e-4)
    assert " rmse " in result.table() and "where 'rmse rise <= 500%' is guaranteed" in result.table()
    with pytest.raises(ConfigError, match="less is better"):
        compress(mlp(), numbers(0), numbers(1), guarantee="rmse drop <= 5%")
    with pytest.raises(AutomlError, match=r"no trial of study .* keeps 'rmse <= 0.001': the best has"):
        compress(mlp(), numbers(0), numbers(1), guarantee="rmse <= 0.001")
    with pytest.raises(DataError, match="unsqueeze"):
        wrong = [(x, y[:, 0]) for x, y in numbers(0)]
        compress(mlp(1), wrong, wrong, task="regression")


def test_embeddings_are_judged_by_the_cosine_to_the_original_and_trained_without_labels():
    alone = [[x for x, _ in numbers(seed)] for seed in (0, 1)]
    training = {"finalists": 1, "training": {"epochs": 1, "batch_size": 8}}
    result = compress(mlp(5), *alone, test_data=alone[1], task="embedding", finish=training)
    x = torch.cat(alone[1])
    with torch.no_grad():
        plain = F.cosine_similarity(result.network(x), mlp(5)(x)).mean()
    assert result.measurements["cosine"].value == pytest.approx(float(plain), rel=1e-4)
    assert result.base["cosine"].value == pytest.approx(1) and "flatter" not in result.table()
    assert "test cosine" in result.table()


def test_without_labels_outputs_are_compared_with_the_originals():
    alone = [[x for x, _ in numbers(seed)] for seed in (0, 1)]
    result = compress(mlp(), *alone, test_data=alone[1], objective="divergence")
    x = torch.cat(alone[1])
    with torch.no_grad():
        plain = (result.network(x) - mlp()(x)).square().mean()
    assert result.measurements["divergence"].value == pytest.approx(float(plain), rel=1e-3)
    assert "test divergence" in result.table()
    with pytest.raises(ConfigError, match=r"inputs alone, without targets.*Set `objective: divergence`"):
        compress(mlp(), *alone, objective="loss")
    with pytest.raises(DataError, match="a loss needs targets"):
        compress(mlp(), *alone, loss=F.mse_loss)
    with pytest.raises(DataError, match="all calibration and validation batches must have targets, or none"):
        compress(mlp(), alone[0], numbers(1))
    problem, base = judged(mlp(), *alone, task="classification")
    assert base["divergence"].value == pytest.approx(0, abs=1e-6) and problem.kind.softened is not None


def most(outputs, targets):
    return (outputs - targets).abs().amax(1)


def spread(outputs, targets):
    return outputs.std()


def test_a_metric_of_ones_own_is_an_objective_once_its_direction_is_known():
    metrics = {"most": most, "spread": spread}
    result = compress(mlp(), numbers(0), numbers(1), metrics=metrics, objective="most", direction="minimize")
    outputs, targets = together(numbers(1), result.network)
    assert result.measurements["most"].value == pytest.approx(float(most(outputs, targets).mean()), rel=1e-4)
    assert " most " in result.table() and "spread: a mean over batches" in result.table()
    with pytest.raises(ConfigError, match="direction is missing"):
        compress(mlp(), numbers(0), numbers(1), metrics=metrics, objective="most")
    with pytest.raises(ConfigError, match="to maximize, and the study says"):
        told = {"most": Metric(most, "maximize")}
        compress(mlp(), numbers(0), numbers(1), metrics=told, objective="most", direction="minimize")
    with pytest.raises(ConfigError, match="is not measured here"):
        compress(mlp(), numbers(0), numbers(1), objective="most", direction="minimize")


@dataclasses.dataclass
class Said:
    logits: torch.Tensor
    hidden: torch.Tensor


class Tagger(nn.Module):
    """Takes its inputs by name, one of them optional, and says more than is asked."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.embedding = nn.Embedding(9, 8)
        self.inner = nn.Linear(8, 12)
        self.head = nn.Linear(12, 3)

    def forward(self, ids, bias=None, mask=None, labels=None):
        x = self.embedding(ids) * mask[..., None]
        hidden = F.relu(self.inner(x.mean(1)))
        return Said(hidden=hidden, logits=self.head(hidden))


class Encoding(UserDict):
    """As transformers has it."""


@dataclasses.dataclass
class Record:
    mask: torch.Tensor
    ids: torch.Tensor
    labels: torch.Tensor | None = None


def tokens(seed, form):
    generator = torch.Generator().manual_seed(seed)
    ids, mask = torch.randint(0, 9, (16, 5), generator=generator), torch.ones(16, 5)
    labels = torch.randint(0, 3, (16,), generator=generator)
    parts = [slice(0, 8), slice(8, 16)]
    return [form({"mask": mask[part], "ids": ids[part]}, labels[part]) for part in parts]


FORMS = {
    "a mapping with labels": lambda x, y: {**x, "labels": y},
    "a mapping beside targets": lambda x, y: (x, y),
    "an encoding": lambda x, y: Encoding({**x, "label": y}),
    "a dataclass": lambda x, y: Record(**x, labels=y),
}


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_batches_whose_parts_have_names_reach_the_forward(form):
    _, base = judged(Tagger(), tokens(0, form), tokens(1, form))
    right = []
    for x, y in tokens(1, lambda x, y: (x, y)):
        with torch.no_grad():
            right.append((Tagger()(**x).logits.argmax(1) == y).double())
    assert base["accuracy"].value == float(torch.cat(right).mean())


def test_training_and_test_data_are_read_in_the_same_form():
    form = FORMS["an encoding"]
    finish = {"finalists": 1, "training": {"epochs": 1, "batch_size": 8}}
    result = compress(Tagger(), tokens(0, form), tokens(1, form), test_data=tokens(2, form), finish=finish, trials=1)
    assert "test accuracy" in result.table()


def test_a_name_that_the_forward_does_not_have_is_named():
    with pytest.raises(DataError, match=r"got 'idz'; did you mean 'ids'"):
        compress(Tagger(), tokens(0, lambda x, y: {"idz": x["ids"], "mask": x["mask"], "y": y}), [])
    with pytest.raises(DataError, match="targets in one place"):
        compress(Tagger(), tokens(0, lambda x, y: {**x, "y": y, "labels": y}), [])
    with pytest.raises(DataError, match="same form"):
        compress(Tagger(), tokens(0, FORMS["a dataclass"]), tokens(1, lambda x, y: (x["ids"], y)))


class Nested(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = mlp()

    def forward(self, pair, more):
        return {"out": self.net(pair[0] + pair[1] + more)}


def test_nested_inputs_and_outputs_by_name():
    nested = [[(((x, x), x), y) for x, y in numbers(seed)] for seed in (0, 1)]
    problem, base = judged(Nested(), *nested)
    outputs, targets = together([(3 * x, y) for x, y in numbers(1)], mlp())
    assert base["rmse"].value == pytest.approx(float(F.mse_loss(outputs, targets).sqrt()), rel=1e-4)
    again = pickle.loads(pickle.dumps(dataclasses.replace(problem)))
    assert again.kind == problem.kind and again.model(*again.example_inputs).shape == (2, 2)


def test_validation_data_that_flatter_are_named():
    result = compress(mlp(), numbers(0), numbers(0), trials=1)
    assert "flatter, as the training data hold the same samples" in result.table()
    by_itself = [[(x, mlp()(x).argmax(1)) for x, _ in numbers(seed)] for seed in (0, 1)]
    problem, base = judged(mlp(), *by_itself)
    assert "the original has accuracy 100 %" in flattery(problem, base["accuracy"].value)
    assert flattery(problem, 0.99) is None


def test_a_last_batch_of_one_sample_does_not_break_batch_norm():
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(4, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 2))
    (x, y) = (torch.cat(part) for part in zip(*numbers(0), strict=True))
    loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(x[:17], y[:17]), batch_size=8)
    finish = {"finalists": 1, "training": {"epochs": 1}}
    assert compress(network, loader, numbers(1), finish=finish, trials=1).measurements["rmse"].value > 0


def test_a_copy_of_a_problem_has_the_kind_of_the_problem_unless_its_loss_is_changed():
    alone = [[x for x, _ in numbers(seed)] for seed in (0, 1)]
    for data, more in (
        ([numbers(0), numbers(1)], {}),
        (alone, {}),
        (alone, {"task": "embedding"}),
        ([pixels(0), pixels(1)], {"task": "segmentation", "void": 255}),
    ):
        problem, _ = judged(segmenter() if more.get("void") else mlp(), *data, **more)
        again = dataclasses.replace(problem, validation=problem.validation[:1])
        assert again.kind == problem.kind and again.metrics.keys() == problem.metrics.keys()
        ours, theirs = again.validation[0][1], problem.validation[0][1]
        torch.testing.assert_close(ours, theirs)
    plain, _ = judged(mlp(3), *[[(x, torch.arange(len(x)) % 3) for x, _ in numbers(seed)] for seed in (0, 1)])
    assert dataclasses.replace(plain, loss=F.multi_margin_loss).kind.loss is F.multi_margin_loss

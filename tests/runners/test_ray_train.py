"""Trainings by two workers of Ray Train: killed, failing, and as they are without Ray."""

import os
import signal
import time

import pytest
import torch
from torch import distributed as dist
from torch import nn
from torch.nn import functional as F

from automl.config.method import MethodOptions
from automl.config.training import DistillationOptions, TrainingOptions
from automl.errors import DataError
from automl.runners.ray_train import train_together
from automl.training.trainer import train
from search_spaces import SparsityStep
from tests.kits.studies import setup

OPTIONS = {"epochs": 4, "precision": "float32", "channels_last": False, "learning_rate": 0.05}


pytestmark = pytest.mark.usefixtures("ray_cluster")


def network() -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 3))


def data(seed):
    generator = torch.Generator().manual_seed(seed)
    for size in (16, 16, 7):
        x = torch.randn(size, 6, generator=generator)
        yield (x,), x.argmax(1) % 3


def loss(network, inputs, targets):
    return F.cross_entropy(network(*inputs), targets)


def test_a_training_of_which_a_worker_is_killed_goes_on_to_the_same_weights(tmp_path):
    def deadly(seed):
        """The data, until the second worker has begun its third epoch for the first time."""
        with (tmp_path / f"begun-{dist.get_rank()}").open("a") as file:
            file.write(f"{seed}\n")
        lines = (tmp_path / f"begun-{dist.get_rank()}").read_text().split()
        if dist.get_rank() == 1 and len(lines) == 4:  # the first pass counts batches
            os.kill(os.getpid(), signal.SIGKILL)
        return data(seed)

    said = []
    killed, whole = network(), network()
    options = TrainingOptions(workers=2, **OPTIONS)
    told = {"validate": lambda network: {"norm": float(network[0].weight.detach().norm())}, "say": said.append}
    history = train_together(killed, deadly, loss, options, checkpoint=tmp_path / "checkpoint", **told)
    begun = (tmp_path / "begun-1").read_text().split()
    assert begun[-2] == begun[3], "it went on from the second epoch's end"
    assert [line.split(":")[0] for line in said] == [f"epoch {i} of 4" for i in (1, 2, 3, 4)]
    assert history.epochs[-1].validation["norm"] == float(killed[0].weight.detach().norm())
    alone = train(whole, data, loss, TrainingOptions(**OPTIONS))
    for one, other in zip(killed.parameters(), whole.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-6, atol=1e-6)
    assert [epoch.loss for epoch in history.epochs] == pytest.approx([epoch.loss for epoch in alone.epochs], rel=1e-6)
    assert not killed.training and history.kept == 4


def test_an_error_of_the_training_is_told_as_it_is_and_no_worker_is_started_again(tmp_path):
    def wrong(seed):
        """Labels of no class, all in the second worker's part of the last batch."""
        (tmp_path / str(os.getpid())).touch()
        return [((x,), torch.where(torch.arange(len(y)) == 6, y + 3 * (len(y) == 7), y)) for (x,), y in data(seed)]

    before = network()
    found = network()
    with pytest.raises(DataError, match="Labels must be whole numbers"):
        train_together(found, wrong, loss, TrainingOptions(workers=2, **OPTIONS))
    assert all(torch.equal(a, b) for a, b in zip(found.parameters(), before.parameters(), strict=True))
    assert len(list(tmp_path.iterdir())) == 2


def test_ctrl_c_ends_it_and_is_heard_as_before_afterwards():
    """Ray Train would end the whole process, and leave a handler that calls workers which are gone."""

    def slow(seed):
        time.sleep(0.5)
        return data(seed)

    heard = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        train_together(
            *(network(), slow, loss, TrainingOptions(workers=2, **{**OPTIONS, "epochs": 1000})),
            say=lambda line: os.kill(os.getpid(), signal.SIGINT) if line.startswith("epoch 1 ") else None,
        )
    assert signal.getsignal(signal.SIGINT) is heard


def test_a_finalist_is_trained_by_two_workers_with_all_that_a_study_asks_for():
    """The loss has a teacher, epochs are compared, zeros come by a method: all of it travels to the workers."""
    made = setup(space={"channels": {}, "sparsity": {}}, budget="params <= 30%")
    point = made.space.point(made.space.lowest.tolist())
    more = {"method": MethodOptions("gradual", every=5), "distillation": DistillationOptions(hints="features")}
    options = TrainingOptions(**{**OPTIONS, "epochs": 2}, batch_size=32, keep="best", ema=0.9, workers=2, **more)
    found = made.evaluator.network(point)
    history = made.evaluator.train(found, point, options)
    worth = {m.metric: m.value for m in made.evaluator.measure(found, made.problem.validation)}["accuracy"]
    assert worth == history.epochs[history.kept - 1].validation["accuracy"]
    step = made.evaluator.plan(point).get(SparsityStep)
    assert all(int(found.get_parameter(name).count_nonzero()) <= count for name, count in step.counts.items())

"""Two processes that train one network together, beside one process with the same batches."""

import multiprocessing

import pytest
import torch
from torch import distributed as dist
from torch import nn
from torch.nn import functional as F

from automl.config.method import MethodOptions
from automl.config.training import TrainingOptions
from automl.errors import ConfigError
from automl.training.methods.registry import method_of
from automl.training.methods.target import Target
from automl.training.team import ALONE, Group
from automl.training.trainer import train

SIZES = (16, 16, 7, 3)
"""Of the batches of an epoch: the last two are no multiples, the last is too small to be shared."""
METHODS = ("gradual", "l0", "cram", "rigl")
"""Zeros by the schedule, by random gates, by two gradients a step, and by gradients and chance."""


def data(seed):
    generator = torch.Generator().manual_seed(seed)
    for size in SIZES:
        x = torch.randn(size, 1, 6, 6, generator=generator)
        yield (x,), (x.flatten(1) @ torch.linspace(-1, 1, 36) > 0).long()


def network(*, norm: bool = False, dropout: float = 0.0) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        norms = [nn.BatchNorm2d(4)] if norm else []
        layers = [nn.Conv2d(1, 4, 3), *norms, nn.ReLU(), nn.Flatten(), nn.Dropout(dropout), nn.Linear(64, 2)]
        return nn.Sequential(*layers)


class Loss:
    """Cross-entropy, with a note of all that it was given."""

    def __init__(self):
        self.seen = []

    def __call__(self, network, inputs, targets):
        self.seen.append(inputs[0][:, 0, 0, 0])
        return F.cross_entropy(network(*inputs), targets)


def trained(team, found, *, method="", workers=None, **more):
    """(weights and statistics after a training, its course, what the loss was given)."""
    checkpoint, until = more.pop("checkpoint", None), more.pop("until", None)
    settings = {"epochs": 3, "precision": "float32", "channels_last": False, "learning_rate": 0.05, **more}
    options = TrainingOptions(workers=workers or team.size, **settings)
    methods = [method_of(MethodOptions(method), Target({"4.weight": 40}))] if method else []
    if method == "rigl":  # which moves the zeros that are there
        found[4].weight.data.flatten()[40:] = 0
    loss = Loss()
    history = train(found, data, loss, options, methods=methods, team=team, checkpoint=checkpoint, until=until)
    tensors = {name: tensor.clone() for name, tensor in found.state_dict().items()}
    return tensors, [epoch.loss for epoch in history.epochs], loss.seen


def cases(team, folder):
    """Name -> what a training comes to."""
    found = {"plain": trained(team, network())}
    found["all"] = trained(team, network(), accumulate=2, clip=0.5, ema=0.9)
    for method in METHODS:
        found[method] = trained(team, network(), method=method)
    found["float16"] = trained(team, network(), precision="float16")
    for name, made in (("norms", {"norm": True}), ("dropout", {"dropout": 0.5})):
        found[name] = trained(team, network(**made))
        file = folder / f"{name}-{team.size}"
        trained(team, network(**made), checkpoint=file, until=1)
        found[f"{name} in parts"] = trained(team, network(**made), checkpoint=file)
    return found


def member(rank, folder, queue):
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder / 'meeting'}", rank=rank, world_size=2)
    torch.save(cases(Group(), folder), folder / f"{rank}.pt")
    queue.put(rank)
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def together(tmp_path_factory):
    """What both processes of two came to."""
    folder, context = tmp_path_factory.mktemp("team"), multiprocessing.get_context("spawn")
    queue = context.Queue()
    processes = [context.Process(target=member, args=(rank, folder, queue)) for rank in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(300)
    assert [process.exitcode for process in processes] == [0, 0]
    return [torch.load(folder / f"{rank}.pt") for rank in range(2)]


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    torch.set_num_threads(1)
    return cases(ALONE, tmp_path_factory.mktemp("alone"))


@pytest.mark.parametrize("name", ["plain", "all", *METHODS])
def test_two_processes_come_to_what_one_comes_to(together, alone, name):
    tensors, losses, _ = together[0][name]
    for key, tensor in alone[name][0].items():
        torch.testing.assert_close(tensors[key], tensor, rtol=1e-6, atol=1e-6)
    assert losses == pytest.approx(alone[name][1], rel=1e-6)


def test_both_processes_have_the_same_weights_to_the_bit(together):
    for name, (tensors, losses, _) in together[0].items():
        other = together[1][name]
        assert all(torch.equal(tensor, other[0][key]) for key, tensor in tensors.items()), name
        assert losses == other[1]


def test_each_process_sees_its_part_of_each_batch(together, alone):
    first, second, whole = together[0]["plain"][2], together[1]["plain"][2], alone["plain"][2]
    assert [len(x) for x in first[:4]] == [8, 8, 3, 3] and [len(x) for x in second[:3]] == [8, 8, 4]
    rest = iter(second)
    for mine, batch in zip(first, whole, strict=True):
        theirs = next(rest) if len(batch) > 3 else mine[:0]
        assert torch.equal(torch.cat([mine, theirs]), batch)


@pytest.mark.parametrize("name", ["norms", "dropout"])
def test_a_training_that_was_broken_off_goes_on_to_the_same_weights(together, name):
    whole, parts = together[0][name][0], together[0][f"{name} in parts"][0]
    assert all(torch.equal(tensor, parts[key]) for key, tensor in whole.items())


def test_norms_on_a_cpu_see_their_own_part(together, alone):
    found, whole = together[0]["norms"][0], alone["norms"][0]
    assert not torch.allclose(found["0.weight"], whole["0.weight"], atol=1e-6)
    assert torch.allclose(found["1.running_mean"], whole["1.running_mean"], atol=0.05)


def test_norms_are_joined_on_cuda_and_are_what_they_were_afterwards():
    made = network(norm=True)
    before, tensors = made[1], dict(made.named_parameters())
    group = Group.__new__(Group)
    with group.joined_norms(made, torch.device("cuda")):
        assert isinstance(made[1], nn.SyncBatchNorm) and made[1].running_mean is before.running_mean
        assert all(tensor is tensors[name] for name, tensor in made.named_parameters())
    assert made[1] is before


def test_workers_where_there_is_no_team_are_refused():
    with pytest.raises(ConfigError, match="workers is 2, and this is a training by 1: leave workers out"):
        trained(ALONE, network(), workers=2)

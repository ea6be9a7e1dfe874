"""The loop: what it minimises, what it leaves alone, and that a kill costs nothing."""

from __future__ import annotations

import copy
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from agents import Goal
from automl.config.study import StudyConfig
from automl.config.training import TrainingOptions
from automl.errors import ConfigError, DataError, NotFiniteError, StudyError
from automl.training.loss import SupervisedLoss
from automl.training.methods.base import Method
from automl.training.methods.keep_zeros import KeepZeros
from automl.training.schedules import learning_rate
from automl.training.trainer import train
from search_spaces import channel_space
from tests.training.conftest import accuracy

ROOT = Path(__file__).resolve().parents[2]
PLAIN = {"batch_size": 64, "precision": "float32", "channels_last": False}
LOSS = SupervisedLoss(F.cross_entropy)


def options(**changes) -> TrainingOptions:
    return TrainingOptions(**{"epochs": 2, **PLAIN, **changes})


def epochs(digits, size=64):
    return lambda seed: digits.training(seed, size)


def same(a: nn.Module, b: nn.Module) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True))


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_network_learns_the_digits(digits, small_cnn, precision):
    network = small_cnn(16)
    said: list[str] = []
    history = train(
        network,
        epochs(digits),
        LOSS,
        options(epochs=12, learning_rate=0.2, precision=precision, channels_last=True, ema=0.9),
        validate=lambda network: {"accuracy": accuracy(network, digits.validation)},
        say=said.append,
    )
    assert accuracy(network, digits.validation) > 0.97
    assert history.epochs[-1].validation["accuracy"] == accuracy(network, digits.validation)
    assert history.epochs[-1].loss < 0.2 < history.epochs[0].loss
    assert [epoch.samples for epoch in history.epochs] == [897] * 12
    assert not network.training and all(p.is_contiguous() and p.device.type == "cpu" for p in network.parameters())
    assert len(said) == 12 and "left" in said[0] and said[-1].startswith("epoch 12 of 12: loss 0.")


def test_an_epoch_can_end_before_the_data_do_and_takes_others_each_time(digits, small_cnn):
    seen = []

    def watched(seed):
        for inputs, targets in digits.training(seed, 64):
            seen.append(targets)
            yield inputs, targets

    history = train(small_cnn(), watched, LOSS, options(epochs=2, samples=100))
    assert [epoch.samples for epoch in history.epochs] == [120, 120]
    assert not torch.equal(torch.cat(seen[-4:-2]), torch.cat(seen[-2:]))
    whole, cut = small_cnn(16), small_cnn(16)
    train(whole, epochs(digits), LOSS, options(epochs=1))
    train(cut, epochs(digits), LOSS, options(epochs=1, samples=897))
    assert same(whole, cut)
    with pytest.raises(ConfigError, match="samples is a whole number of at least 1, or none, got 0"):
        options(samples=0)


def test_the_network_of_a_space_is_trained_like_any_other(digits, small_cnn):
    (images,), _ = digits.calibration[0]
    space = channel_space(small_cnn(), (images[:2],))
    traced = space.build(space.plan(space.point(space.highest.tolist())))
    plain = small_cnn()
    for network in (traced, plain):
        train(network, epochs(digits), LOSS, options(epochs=1))
    torch.testing.assert_close(traced(images), plain(images), atol=1e-4, rtol=1e-4)


def test_one_step_is_that_of_the_paper_formula(digits):
    """SGD with Nesterov momentum, worked out by hand: weights decay, biases do not; the rate is the warm-up's."""
    x, y = torch.randn(8, 3, generator=torch.Generator().manual_seed(0)), torch.arange(8) % 2
    network = nn.Linear(3, 2)
    expected = copy.deepcopy(network)
    chosen = options(epochs=1, learning_rate=0.1, weight_decay=0.5, warmup=0.0)
    train(network, lambda seed: [((x,), y), ((x,), y)], LOSS, chosen)
    momentum: dict[str, torch.Tensor] = {}
    for step in range(2):
        rate = learning_rate(chosen, (step + 0.5) / 2)
        gradients = torch.autograd.grad(F.cross_entropy(expected(x), y), list(expected.parameters()))
        with torch.no_grad():
            for (name, p), g in zip(expected.named_parameters(), gradients, strict=True):
                g = g + (0.5 * p if name == "weight" else 0)
                momentum[name] = g if step == 0 else 0.9 * momentum[name] + g
                p -= rate * (g + 0.9 * momentum[name])
    torch.testing.assert_close(network.weight, expected.weight)
    torch.testing.assert_close(network.bias, expected.bias)


def test_the_learning_rate_rises_and_falls_to_nothing():
    chosen = options(learning_rate=0.4, warmup=0.2)
    assert [learning_rate(chosen, p) for p in (0, 0.1, 0.2)] == pytest.approx([0, 0.2, 0.4])
    assert learning_rate(chosen, 0.6) == pytest.approx(0.2) and learning_rate(chosen, 1.0) == pytest.approx(0)
    assert learning_rate(options(learning_rate=0.4, warmup=0.0), 0.0) == 0.4


def test_the_learning_rate_is_rewound_to_the_last_part_of_its_schedule():
    whole, back = options(learning_rate=0.4), options(learning_rate=0.4, rewind=0.25)
    assert [learning_rate(back, p) for p in (0, 0.5, 1)] == [learning_rate(whole, p) for p in (0.75, 0.875, 1)]
    assert learning_rate(options(rewind=1.0), 0.3) == pytest.approx(learning_rate(options(), 0.3))
    assert learning_rate(options(learning_rate=0.4, warmup=0.2, rewind=0.9), 0) == pytest.approx(0.2)
    for wrong in (0.0, 1.01):
        with pytest.raises(ConfigError, match="rewind is a part of the schedule"):
            options(rewind=wrong)


def test_a_rewound_training_takes_the_steps_that_ended_the_whole_one(digits, small_cnn, tmp_path):
    """Without momentum a step depends on the weights, the rate and the batch alone."""
    batches = list(digits.training(0, 64))[:4]
    plain = {"momentum": 0.0, "warmup": 0.0, "learning_rate": 0.1}
    whole, half = small_cnn(), small_cnn()
    kept = tmp_path / "checkpoint"
    with pytest.raises(KeyboardInterrupt):  # as if it was killed after two of four epochs
        train(whole, lambda seed: batches, LOSS, options(epochs=4, **plain), checkpoint=kept, say=stop_after(2))
    half.load_state_dict(torch.load(kept)["network"])
    train(whole := small_cnn(), lambda seed: batches, LOSS, options(epochs=4, **plain), checkpoint=kept)
    train(half, lambda seed: batches, LOSS, options(epochs=2, rewind=0.5, **plain))
    for name, tensor in whole.state_dict().items():
        torch.testing.assert_close(half.state_dict()[name], tensor, atol=1e-6, rtol=1e-5)


def stop_after(epochs: int) -> Callable[[str], None]:
    """What is told of epochs, and ends the training after some."""
    told: list[str] = []

    def say(text: str) -> None:
        told.append(text)
        if len(told) == epochs:
            raise KeyboardInterrupt

    return say


def test_a_training_is_a_function_of_its_seed_and_leaves_the_random_state_alone(digits):
    start = nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.ReLU(), nn.Dropout(0.5), nn.Linear(32, 10))
    networks = []
    for seed in (0, 0, 1):
        torch.rand(3)  # whatever has been drawn before
        state = torch.get_rng_state()
        networks.append(copy.deepcopy(start))
        train(networks[-1], epochs(digits), LOSS, options(seed=seed))
        assert torch.equal(torch.get_rng_state(), state)
    assert same(networks[0], networks[1]) and not same(networks[0], networks[2])


def test_auto_takes_what_a_few_steps_found_and_changes_nothing_else(digits, small_cnn):
    network = small_cnn()
    state = torch.get_rng_state()
    history = train(network, epochs(digits), LOSS, options(epochs=1, precision="auto", channels_last="auto"))
    chosen = history.options
    assert chosen.precision in ("float32", "bfloat16") and isinstance(chosen.channels_last, bool)
    assert torch.equal(torch.get_rng_state(), state)
    again = small_cnn()
    train(again, epochs(digits), LOSS, chosen)
    assert same(network, again)


@pytest.mark.parametrize(("inputs", "last"), [(6, False), (16, True)])
def test_a_layer_whose_gradient_would_be_wrong_in_channels_last_is_not_trained_so(digits, inputs, last):
    """A strided 1 x 1 convolution of few channels: oneDNN writes past its memory (its issue 6035)."""
    shortcut = nn.Conv2d(inputs, 8, 1, stride=2)
    network = nn.Sequential(nn.Conv2d(1, inputs, 3), shortcut, nn.ReLU(), nn.Flatten(), nn.Linear(72, 10))
    seen: list[bool] = []
    shortcut.register_forward_pre_hook(
        lambda conv, args: seen.append(args[0].is_contiguous(memory_format=torch.channels_last))
    )
    pixels = [
        (tuple(x.permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2) for x in xs), y)
        for xs, y in digits.training(0, 64)
    ]
    history = train(network, lambda seed: pixels, LOSS, options(epochs=1, channels_last=True))
    assert history.options.channels_last is last
    assert set(seen) == {last}


def test_a_form_that_lacks_an_operator_is_passed_over(digits):
    class Float32Only(nn.Linear):
        def forward(self, x):
            if torch.is_autocast_enabled("cpu"):
                raise RuntimeError("no kernel")
            return super().forward(x.flatten(1))

    history = train(Float32Only(64, 10), epochs(digits), LOSS, options(epochs=1, precision="auto"))
    assert history.options.precision == "float32"


def test_the_average_is_what_is_kept(digits, small_cnn):
    """Against an average worked out beside the loop, from the weights that a method sees at every step."""
    network, seen = small_cnn(), []

    class Watch(Method):
        def before_step(self, course):
            seen.append([p.detach().clone() for p in course.network.parameters()])

    first = [p.detach().clone() for p in network.parameters()]
    train(network, epochs(digits), LOSS, options(epochs=1, ema=0.8), methods=[Watch()])
    last = small_cnn()
    train(last, epochs(digits), LOSS, options(epochs=1))
    states = [*seen[1:], [p.detach() for p in last.parameters()]]
    mean = first
    for steps, state in enumerate(states, start=1):
        keep = min(0.8, (1 + steps) / (10 + steps))
        mean = [keep * m + (1 - keep) * s for m, s in zip(mean, state, strict=True)]
    for got, expected in zip(network.parameters(), mean, strict=True):
        torch.testing.assert_close(got.detach(), expected, atol=1e-6, rtol=1e-4)
    counters = [m.num_batches_tracked.item() for m in network.modules() if isinstance(m, nn.BatchNorm2d)]
    assert set(counters) == {len(seen)}, "what counts is not averaged"


def test_fixed_norms_keep_their_statistics_and_learn_all_the_same(digits):
    torch.manual_seed(0)
    norm, dropout = nn.BatchNorm2d(4), nn.Dropout(0.5)
    network = nn.Sequential(nn.Conv2d(1, 4, 3), norm, nn.ReLU(), nn.Flatten(), dropout, nn.Linear(144, 10))
    norm.running_mean.uniform_(-1, 1)
    norm.running_var.uniform_(0.5, 2)
    before = copy.deepcopy(norm.state_dict())
    modes = []
    dropout.register_forward_hook(lambda module, *_: modes.append(module.training))
    history = train(network, epochs(digits), LOSS, options(norms="fixed", learning_rate=0.05))
    assert all(modes) and history.epochs[-1].loss < history.epochs[0].loss
    after = norm.state_dict()
    assert [name for name in before if torch.equal(before[name], after[name])] == [
        *("running_mean", "running_var", "num_batches_tracked")
    ]


@pytest.mark.parametrize("section", ["evaluation", "finish", "evaluation.supernet"])
def test_new_weights_have_no_statistics_to_keep(section):
    first, *rest = section.split(".")
    inner = {"training": {"epochs": 1, "norms": "fixed"}}
    settings = {"name": "x", "space": {"cells": {}}, "budget": "macs <= 1M", first: {rest[0]: inner} if rest else inner}
    with pytest.raises(ConfigError, match=rf"{section}\.training\.norms: fixed keeps .* new weights have none"):
        StudyConfig.from_dict({**settings, "data": {"name": "digits"}})


def test_zeros_stay_zero(digits, small_cnn):
    network = small_cnn()
    with torch.no_grad():
        weight = network.conv3[0].weight
        weight[weight.abs() < weight.abs().median()] = 0
    zeros = weight == 0
    train(network, epochs(digits), LOSS, options(ema=0.9, clip=1.0), methods=[KeepZeros(["conv3.0.weight"])])
    assert bool((weight[zeros] == 0).all()) and bool((weight[~zeros] != 0).all()) and zeros.sum() > 500


def test_gradients_are_clipped_before_methods_change_them(digits, small_cnn):
    norms = []

    class Watch(Method):
        def before_step(self, course):
            norms.append(torch.stack([p.grad.norm() for p in course.network.parameters()]).norm().item())

    train(small_cnn(), epochs(digits), LOSS, options(epochs=1, clip=0.01), methods=[Watch()])
    assert max(norms) <= 0.01 * (1 + 1e-4) and len(norms) == 15


class WithRegressor:
    """A loss with a parameter of its own, which is called with a module that it has made."""

    def __init__(self) -> None:
        self.scale = nn.Parameter(torch.ones(1))
        self.made: list[nn.Module] = []

    def parameters(self):
        return [self.scale]

    def begin(self, network: nn.Module) -> nn.Module:
        self.made.append(nn.Sequential(network))
        return self.made[-1]

    def __call__(self, network, inputs, targets):
        assert network is self.made[-1]
        return F.cross_entropy(network(*inputs) * self.scale, targets)


@pytest.mark.parametrize("ema", [None, 0.9])
def test_the_best_epoch_can_be_kept(digits, small_cnn, tmp_path, ema):
    """Of four epochs the third is the last of the best; broken off after any of them, it is the best so far."""
    chosen = options(epochs=4, ema=ema, keep="best")
    path, worth = tmp_path / "checkpoint", [0.5, 0.7, 0.7, 0.6]
    kept, said = [], []
    for until in (1, 2, 3, 4):  # each goes on from where the one before was broken off
        network = small_cnn()
        history = train(
            network,
            epochs(digits),
            LOSS,
            chosen,
            validate=lambda network, i=until - 1: {"worth": worth[i]},
            goal=Goal("worth", "maximize"),
            checkpoint=path,
            until=until,
            say=said.append,
        )
        kept.append((history.kept, network))
    assert [number for number, _ in kept] == [1, 2, 3, 3] and said[-1] == "the weights of epoch 3 are kept"
    assert same(kept[2][1], kept[3][1]) and not same(kept[1][1], kept[2][1])
    third, fewest = small_cnn(), small_cnn()
    assert train(third, epochs(digits), LOSS, options(epochs=4, ema=ema), until=3).kept == 3
    assert same(third, kept[3][1]), "what is kept is the network as it was then, validated or not"
    falling = iter([0.5, 0.4, 0.6, 0.7])
    how = {"validate": lambda network: {"loss": next(falling)}, "goal": Goal("loss", "minimize")}
    assert train(fewest, epochs(digits), LOSS, chosen, **how).kept == 2
    with pytest.raises(ConfigError, match="nothing is validated to tell by"):
        train(small_cnn(), epochs(digits), LOSS, chosen)


def test_a_loss_may_bring_parameters_and_make_the_module_that_it_is_called_with(digits, small_cnn):
    loss, network = WithRegressor(), small_cnn()
    train(network, epochs(digits), loss, options(epochs=1))
    assert loss.scale.item() != 1 and loss.made[0][0] is network and len(loss.made) == 1


def tiny() -> nn.Module:
    """A convolution, a norm and a linear layer: each operation more is a kernel more to compile."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(nn.Conv2d(1, 4, 3, 2), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(36, 10))


@pytest.mark.skipif(not shutil.which("g++"), reason="torch.compile needs a C++ compiler")
def test_a_compiled_training_is_the_same_training(digits, tmp_path, monkeypatch):
    """With a last batch that is smaller, an average, and a break."""
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "inductor"))
    plain, chosen = tiny(), options(epochs=2, ema=0.9)
    expected = train(plain, epochs(digits), LOSS, chosen)
    for until in (1, 2):
        quick, path = tiny(), tmp_path / "checkpoint"
        history = train(quick, epochs(digits), LOSS, replace(chosen, compile=True), checkpoint=path, until=until)
    for ours, theirs in zip(quick.state_dict().values(), plain.state_dict().values(), strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-3, rtol=1e-3)
    assert history.epochs[-1].loss == pytest.approx(expected.epochs[-1].loss, rel=1e-3)
    assert type(quick) is type(plain) and quick.state_dict().keys() == plain.state_dict().keys()


def test_a_network_that_cannot_be_compiled_is_one_error(digits, small_cnn, tmp_path, monkeypatch):
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "inductor"))
    monkeypatch.setattr("torch._inductor.config.cpp.cxx", (None, "/no/compiler"))
    with pytest.raises(ConfigError, match=r"cannot be compiled here: .*compiler.*Leave `compile` out"):
        train(small_cnn(), epochs(digits), LOSS, options(epochs=1, compile=True))


def test_a_loss_that_is_not_finite_is_one_error_and_the_network_comes_back(digits, small_cnn):
    network = small_cnn()
    with pytest.raises(NotFiniteError, match=r"by step 1 of epoch 1.*lower learning_rate"):
        train(network, epochs(digits), lambda n, x, y: n(*x).sum() * float("nan"), options())
    assert not network.training


def test_what_cannot_be_trained_is_one_clear_error(digits, small_cnn, tmp_path):
    with pytest.raises(DataError, match="no batch"):
        train(small_cnn(), lambda seed: [], LOSS, options())
    with pytest.raises(ConfigError, match="requires a gradient"):
        train(small_cnn().requires_grad_(False), epochs(digits), LOSS, options())
    with pytest.raises(ConfigError, match="label_smoothing is for cross-entropy"):
        SupervisedLoss(F.mse_loss, 0.1)
    if not torch.cuda.is_available():
        with pytest.raises(ConfigError, match="device is cuda"):
            train(small_cnn(), epochs(digits), LOSS, options(device="cuda"))
    path = tmp_path / "checkpoint"
    train(small_cnn(), epochs(digits), LOSS, options(), checkpoint=path)
    with pytest.raises(StudyError, match="its options are others"):
        train(small_cnn(), epochs(digits), LOSS, options(seed=1), checkpoint=path)
    with pytest.raises(StudyError, match="it began with other weights"):
        train(small_cnn(seed=1), epochs(digits), LOSS, options(), checkpoint=path)
    path.write_bytes(b"garbage")
    with pytest.raises(StudyError, match="not the checkpoint of a training"):
        train(small_cnn(), epochs(digits), LOSS, options(), checkpoint=path)


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"epochs": 0}, "epochs is a whole number of at least 1"),
        ({"learning_rate": 0.0}, "learning_rate is above 0"),
        ({"warmup": 1.0}, "warmup is a fraction"),
        ({"ema": 1.0}, "ema is a decay"),
        ({"clip": 0.0}, "clip is a norm above 0"),
    ],
)
def test_options_that_cannot_be(change, complaint):
    with pytest.raises(ConfigError, match=complaint):
        TrainingOptions(**change)


CHILD = """
import sys, time, torch
from pathlib import Path
from torch.nn import functional as F
from automl import zoo
from automl.data import load
from automl.training.loss import SupervisedLoss
from automl.config.training import TrainingOptions
from automl.training.trainer import train
from safetensors.torch import save_file
from torch import nn

torch.set_num_threads(1)
with torch.random.fork_rng():
    torch.manual_seed(0)
    network = nn.Sequential(zoo.create("small_cnn", width=8), nn.Dropout(0.2))
digits = load("digits", validation_size=400, calibration_size=256)
options = TrainingOptions(epochs=6, batch_size=32, ema=0.95, clip=5.0, precision="bfloat16", channels_last=True)
wait = float(sys.argv[3])
train(network, lambda seed: digits.training(seed, 32), SupervisedLoss(F.cross_entropy), options,
      checkpoint=Path(sys.argv[1]), say=lambda text: (print(text, flush=True), time.sleep(wait)))
save_file(network.state_dict(), sys.argv[2])
"""


def test_a_training_that_is_killed_ends_as_one_that_ran_through(tmp_path, monkeypatch, capsys):
    def arguments(name: str, wait: float) -> list[str]:
        return [str(tmp_path / f"{name}.checkpoint"), str(tmp_path / f"{name}.safetensors"), str(wait)]

    def run_here(name: str) -> str:
        monkeypatch.setattr(sys, "argv", ["-c", *arguments(name, 0)])
        exec(CHILD, {"__name__": "child"})
        return capsys.readouterr().out

    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", CHILD, *arguments("cut", 0.5)]
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
    for _ in range(2):
        assert process.stdout.readline().startswith("epoch")
    time.sleep(0.55)  # within the third epoch, or just after it
    process.send_signal(signal.SIGKILL)
    told, _ = process.communicate()
    assert "epoch 6" not in told
    assert run_here("whole").startswith("epoch 1")
    assert run_here("cut").startswith(("epoch 3", "epoch 4")), "it began where it was killed"
    assert (tmp_path / "cut.safetensors").read_bytes() == (tmp_path / "whole.safetensors").read_bytes()
    assert not list(tmp_path.glob("*.partial"))

"""Meta-learning over signals: the loops against gradient descent written out, what is learnt against what is not."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.func import functional_call

from automl.errors import NotFiniteError
from automl.signals.gated_updates import GATES, GatedUpdates
from automl.signals.learnt_start import WholeStart, before_learning
from automl.signals.meta import Learnt, MetaOptions, Tensors, adapted_to, learn, loss
from automl.signals.meta_pruning import learn_sparse_start, masked, pruned
from automl.signals.modulations import LATENT, MAP, Modulated, hidden_biases
from automl.signals.signal import coordinates
from automl.signals.siren import Siren

POINTS = coordinates((6, 6))


def waves(signals: int, seed: int = 0) -> torch.Tensor:
    """Signals that are alike: waves of one direction, of other phase and height. [signals, 36, 1]"""
    drawn = torch.rand(signals, 2, generator=torch.Generator().manual_seed(seed))
    return (0.5 + 0.4 * drawn[:, 1:] * torch.sin(3 * POINTS[:, 0] + 6 * drawn[:, :1]))[:, :, None]


def small(width: int = 8, depth: int = 2, seed: int = 0) -> Siren:
    torch.manual_seed(seed)
    return Siren(2, 1, width, depth)


def own(network: Siren) -> Tensors:
    return {name: p.detach().clone() for name, p in network.named_parameters()}


def left(form, learnt: Learnt, values: torch.Tensor) -> float:
    """The mean squared error after the inner steps."""
    after = adapted_to(form, learnt, POINTS, values)
    rows = [{name: tensor[i] for name, tensor in after.items()} for i in range(len(values))]
    return float(
        torch.stack([loss(form, learnt.shared, r, {}, POINTS, v) for r, v in zip(rows, values, strict=True)]).mean()
    )


def test_the_inner_loop_is_gradient_descent_on_each_signal_by_itself():
    network, values = small().double(), waves(3).double()
    rates = {name: torch.rand(2, *p.shape, dtype=torch.float64) * 0.01 for name, p in network.named_parameters()}
    found = adapted_to(WholeStart(network), Learnt(own(network), rates), POINTS.double(), values)
    for number, value in enumerate(values):
        now = own(network)
        for step in range(2):
            leaves = {name: tensor.requires_grad_() for name, tensor in now.items()}
            error = (functional_call(network, leaves, (POINTS.double(),)) - value).square().mean()
            slopes = torch.autograd.grad(error, list(leaves.values()))
            now = {n: (t - rates[n][step] * s).detach() for (n, t), s in zip(leaves.items(), slopes, strict=True)}
        for name, tensor in now.items():
            torch.testing.assert_close(found[name][number], tensor)


@pytest.mark.parametrize("second_order", [True, False])
def test_the_outer_gradient_goes_through_the_inner_steps_if_asked(second_order):
    """Against differences of the loss that is left: the second order agrees with them, the first does not."""
    network, values = small(4, 1).double(), waves(2).double()
    form, points = WholeStart(network), POINTS.double()
    rates = {name: torch.full((3,), 0.05, dtype=torch.float64) for name, _ in network.named_parameters()}

    def after(start: Tensors) -> torch.Tensor:
        adapted = adapted_to(form, Learnt(start, rates), points, values, second_order=second_order)
        rows = [{name: tensor[i] for name, tensor in adapted.items()} for i in range(2)]
        return torch.stack([loss(form, start, row, {}, points, v) for row, v in zip(rows, values, strict=True)]).mean()

    start = {name: tensor.requires_grad_() for name, tensor in own(network).items()}
    (slope,) = torch.autograd.grad(after(start), start["layers.0.weight"])
    step, expected = 1e-6, torch.zeros_like(slope)
    for place in range(slope.numel()):
        shift = torch.zeros(slope.numel(), dtype=torch.float64)
        shift[place] = step
        low, high = (
            {**start, "layers.0.weight": start["layers.0.weight"] + sign * shift.view_as(slope)} for sign in (-1, 1)
        )
        expected.view(-1)[place] = (after(high) - after(low)).detach() / (2 * step)
    assert torch.allclose(slope, expected, rtol=1e-4, atol=1e-9) == second_order


def test_a_learnt_start_fits_new_signals_better_and_learnt_rates_better_still():
    network, seen, new = small(), waves(40), waves(20, seed=1)
    form = WholeStart(network)
    untouched = Learnt(own(network), {name: torch.full((2,), 1e-2) for name, _ in network.named_parameters()})
    errors = [left(form, untouched, new)]
    for learn_rates in (False, True):
        options = MetaOptions(2, 1e-2, 60, 3e-3, 8, learn_rates=learn_rates)
        learnt = learn(form, own(network), POINTS, seen, options)
        assert len(learnt.losses) == 60 and learnt.losses[-1] < learnt.losses[0]
        errors.append(left(form, learnt, new))
    assert errors[0] > 4 * errors[1] and errors[1] > 1.2 * errors[2]


def test_learning_repeats_and_what_is_handed_in_stays():
    network, seen = small(), waves(10)
    start = own(network)
    options = MetaOptions(outer_steps=3, points=20, learn_rates=True)
    one, two = (learn(WholeStart(network), start, POINTS, seen, options) for _ in range(2))
    assert one.losses == two.losses and all(torch.equal(one.rates[n], two.rates[n]) for n in one.rates)
    assert all(torch.equal(start[name], tensor) for name, tensor in own(network).items())
    other = learn(WholeStart(network), start, POINTS, seen, MetaOptions(outer_steps=3, points=20, seed=1))
    assert other.losses != one.losses


def test_a_loss_that_is_no_number_is_said():
    network = small()
    with pytest.raises(NotFiniteError, match="take lower rates"):
        learn(WholeStart(network), own(network), POINTS, waves(4), MetaOptions(inner_rate=1e38, outer_steps=2))


def test_a_latent_of_zeros_is_the_shared_network_and_others_shift_hidden_units():
    network = small(5, 2)
    form = Modulated(network, 3)
    shared = form.first(torch.Generator().manual_seed(0))
    assert shared[MAP].shape == (10, 3) and list(hidden_biases(network)) == ["layers.0.bias", "layers.1.bias"]
    still = form.parameters(shared, form.begin(shared), {})
    torch.testing.assert_close(functional_call(network, still, (POINTS,)), network(POINTS) + 0.5)
    latent = torch.randn(3)
    moved = functional_call(network, form.parameters(shared, {LATENT: latent}, {}), (POINTS,))
    shift, values = shared[MAP] @ latent, POINTS
    for number in range(2):
        values = torch.sin(30 * (network.layers[number](values) + shift[5 * number : 5 * number + 5]))
    torch.testing.assert_close(moved, network.layers[2](values) + 0.5)


def test_latents_tell_signals_apart():
    form, seen, new = Modulated(small(), 4), waves(40), waves(20, seed=1)
    learnt = learn(
        form, form.first(torch.Generator().manual_seed(0)), POINTS, seen, MetaOptions(3, 0.1, 150, 1e-2, batch=8)
    )
    latents = adapted_to(form, learnt, POINTS, new)[LATENT]
    assert latents.shape == (20, 4) and (latents.std(0) > 0).all()
    mean = (new - seen.mean(0)).square().mean()
    assert left(form, learnt, new) < 0.5 * mean  # of what the mean of all signals leaves


@settings(max_examples=30, deadline=None)
@given(part=st.floats(0.05, 0.9), rounds=st.integers(1, 4), ranking=st.sampled_from(["magnitude", "random"]))
def test_pruning_takes_its_part_of_what_is_left_and_never_gives_back(part, rounds, ranking):
    start, masks, there = own(small()), {}, 8 * 2 + 8 * 8 + 8
    generator = torch.Generator().manual_seed(0)
    for _ in range(rounds):
        before, masks = masks, pruned(start, masks, part, ranking, generator)
        there -= int(there * part)
        assert sum(int(mask.sum()) for mask in masks.values()) == there
        assert all((masks[name] <= before[name]).all() for name in before)
        assert masks.keys() == {f"layers.{n}.weight" for n in range(3)}
    if ranking == "magnitude":
        kept = torch.cat([start[name][masks[name] == 1].abs() for name in masks])
        gone = torch.cat([start[name][masks[name] == 0].abs() for name in masks])
        assert kept.min() >= gone.max()


def test_a_sparse_start_stays_sparse_while_it_is_learnt_and_adapted():
    network, told = small(), []
    options = MetaOptions(2, 1e-2, 10, 3e-3, batch=4)
    learnt, masks = learn_sparse_start(
        network, POINTS, waves(20), options, 2, part=0.5, told=lambda done, *_: told.append(done)
    )
    assert told == [0, 1, 2] and sum(int(mask.sum()) for mask in masks.values()) == 22
    form = WholeStart(network, masks)
    after = adapted_to(form, learnt, POINTS, waves(3))
    for name, mask in masks.items():
        assert (learnt.shared[name][mask == 0] == 0).all() and (after[name][:, mask == 0] == 0).all()
        assert (masked(own(network), masks)[name][mask == 0] == 0).all()


def test_gates_open_where_an_update_helps_most_and_their_price_closes_them():
    network = small()
    form = GatedUpdates(network, density=0.2)
    shared = form.first()
    begun = form.begin(shared)
    assert all(
        torch.equal(form.parameters(shared, begun, {})[name], tensor)
        for name, tensor in before_learning(network).items()
    )
    rates = {name: torch.full((3,), 1e-2) for name in begun}
    after = adapted_to(form, Learnt(shared, rates), POINTS, waves(1))
    slopes = torch.cat([after[name][0].abs().reshape(-1) for name in own(network)])
    moved = torch.cat([after[GATES + name][0].reshape(-1) for name in own(network)])
    assert moved[slopes.argsort()[-20:]].mean() > 10 * moved[slopes.argsort()[:20]].mean().abs()
    assert float(form.penalty(shared, begun)) == 0
    many = {name: torch.stack([tensor, tensor]) for name, tensor in begun.items()}
    form.see(shared, many)  # one time in two each gate is open
    assert float(form.penalty(shared, begun)) > 0
    form.see(shared, {name: tensor - 100.0 * name.startswith(GATES) for name, tensor in many.items()})
    assert float(form.penalty(shared, begun)) == 0

"""Block-wise reconstruction: closer to the original than least squares, on images that it has not seen; and tidy."""

import copy

import pytest
import torch

from automl.fit.blockwise import BlockReconstruction, samples_a_step
from automl.fit.layerwise import LayerByLayer
from automl.fit.segments import segment
from automl.fit.sequential import SequentialReconstruction
from search_spaces import channel_space
from search_spaces.graph.trace import trace
from tests.kits import digits


def narrowed(name, keep=0.4):
    """A network sliced, its space, and what is left of each layer."""
    problem = digits.problem(name)
    space = channel_space(problem.model, problem.example_inputs)
    plan = space.plan(space.point([knob.nearest(keep) for knob in space.knobs]))
    return problem, space, space.build(plan).eval(), space.slices(plan)


def blocks(space, problem, **options):
    """A tuning of blocks that begins with the weights of the fit layer after layer."""
    refit = LayerByLayer(SequentialReconstruction(space.original, problem.calibration))
    return BlockReconstruction(space.original, problem.calibration, refit, **options)


def distance(network, space):
    """Mean square between what it and the original make of images held out."""
    ((inputs, _),) = digits.held_out()
    with torch.no_grad():
        return float((network(*inputs) - space.original.eval()(*inputs)).square().mean())


@pytest.mark.parametrize("name", ["resnet8", "small_cnn"])
def test_a_tuned_network_is_closer_to_the_original_than_a_refitted_one(name):
    """Residual blocks one by one, and a chain of convolutions without any shortcut two layers at a time."""
    problem, space, network, slices = narrowed(name)
    tuned = copy.deepcopy(network)
    SequentialReconstruction(space.original, problem.calibration).apply(network, slices)
    blocks(space, problem, steps=300).apply(tuned, slices)
    assert distance(tuned, space) < 0.9 * distance(network, space)


def test_it_is_a_function_of_network_samples_and_seed_and_leaves_the_rest_alone():
    problem, space, network, slices = narrowed("resnet8")
    original = copy.deepcopy(space.original.state_dict())
    for parameter in network.parameters():
        parameter.requires_grad_(False)
    state = torch.get_rng_state()
    twins = [copy.deepcopy(network) for _ in range(3)]
    for twin, seed in zip(twins, (0, 0, 1), strict=True):
        blocks(space, problem, steps=5, seed=seed).apply(twin, slices)
    first, second, other = (twin.state_dict() for twin in twins)
    assert all(torch.equal(first[key], second[key]) for key in first)
    assert not all(torch.equal(first[key], other[key]) for key in first)
    assert all(torch.equal(original[key], value) for key, value in space.original.state_dict().items())
    assert torch.equal(torch.get_rng_state(), state)
    assert not any(p.requires_grad or p.grad is not None for p in twins[0].parameters())
    assert all(value.is_contiguous() for value in first.values())


def test_a_whole_network_stays_what_it_is():
    """Its blocks make what they are to make already, and noise alone must not move them."""
    problem, space, *_ = narrowed("resnet8")
    whole = space.plan(space.point(space.highest.tolist()))
    network = space.build(whole).eval()
    blocks(space, problem, steps=20).apply(network, space.slices(whole))
    assert distance(network, space) < 1e-6


def test_every_layer_belongs_to_a_block():
    problem, space, network, slices = narrowed("resnet8")
    tuned = copy.deepcopy(network)
    SequentialReconstruction(space.original, problem.calibration).apply(network, slices)
    blocks(space, problem, steps=30).apply(tuned, slices)
    before, after = network.state_dict(), tuned.state_dict()
    for name, module in network.named_modules():
        if not list(module.children()) and list(module.parameters()):
            assert not torch.equal(before[f"{name}.weight"], after[f"{name}.weight"]), name
    assert all(torch.equal(before[key], after[key]) for key in after if "running" in key)


@pytest.mark.parametrize(
    ("channels", "side", "samples"),
    [
        (16, 32, 64),  # a residual block of ResNet-56 on CIFAR-10
        (16, 128, 8),  # large maps say much each
        (128, 14, 10),  # large blocks take long
        (256, 4, 64),  # small maps say little, however large the block
    ],
)
def test_a_step_has_as_many_samples_as_are_worth_it(channels, side, samples):
    convolutions = [torch.nn.Conv2d(channels, channels, 3, padding=1) for _ in range(2)]
    x = torch.zeros(2, channels, side, side)
    network = trace(torch.nn.Sequential(*convolutions).eval(), (x,))
    end = next(node for node in reversed(network.graph.nodes) if node.op == "call_module")
    assert samples_a_step(segment(network, None, end)) == samples

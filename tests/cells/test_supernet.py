"""Networks of a supernet compute what the plain networks with copies of its weights compute, to the last bit."""

import copy

import numpy as np
import pytest
import torch

from search_spaces import CellSpace, Frame, SpaceError, StageOptions, channel_space, supernet
from search_spaces.cells.shared_parts import shared_parts
from tests.cells.test_cell_space import TRIED, bare, padded, random_points, rows, signals, space, stage

__all__ = ["bare", "padded", "rows", "signals", "space"]
SPACES = ("space", "bare", "padded", "signals", "rows")


def shaken(made):
    """A supernet whose numbers are all different, those that begin as ones and zeros too."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter += 0.05 * torch.randn(parameter.shape, generator=generator)
    return made


@pytest.mark.parametrize("name", SPACES)
def test_extracted_it_computes_the_same_and_its_gradients_are_those_of_the_shared_weights(name, request):
    space = request.getfixturevalue(name)
    made = shaken(supernet(space)).train()
    for i, point in enumerate(random_points(space, max(TRIED // 2, 1), seed=2)):
        x = torch.randn(4, space.frame.channels, *space.frame.size, generator=torch.Generator().manual_seed(i))
        plain = made.plain(point).train()
        outputs = []
        for network in (lambda x, point=point: made.at(point, x), plain):
            torch.manual_seed(i)  # dropout
            outputs.append(network(x))
        assert torch.equal(*outputs)
        made.zero_grad()
        for each in outputs:
            each.square().sum().backward()
        learnt = {name: float(p.grad.abs().sum()) for name, p in plain.named_parameters()}
        parts = list(shared_parts(space.architecture(space.levels(point))))
        assert {part.name for part in parts} == learnt.keys() and len(parts) == len(learnt)
        for part in parts:
            if part.key not in made.kernels:
                total = float(made.shared[part.key].grad.abs().sum())
                assert total == pytest.approx(learnt[part.name], rel=1e-4, abs=1e-5), part
        unused = made.shared.keys() - {part.key for part in parts}
        assert all(made.shared[key].grad is None for key in unused if "to" not in key.rpartition("/")[2])


def test_networks_share_first_channels_first_blocks_and_the_middle_of_kernels():
    options = StageOptions(("separable",), (8, 16), (1, 2), kernel=(3, 5, 7), excite=(False,))
    space = CellSpace(Frame(size=(8, 8)), (8,), [options])
    made = shaken(supernet(space))

    def weights(**levels):
        usual = {"stage0:width": 16, "stage0:depth": 2, "stage0:kernel": 7, **levels}
        return dict(made.plain(space.point([usual[knob.name] for knob in space.knobs])).named_parameters())

    whole, narrow, shallow = weights(), weights(**{"stage0:width": 8}), weights(**{"stage0:depth": 1})
    pointwise = "stages.0.block0.body.1.conv.weight"
    assert torch.equal(whole[pointwise][:8], narrow[pointwise])
    assert shallow.keys() < whole.keys() and all(torch.equal(whole[name], shallow[name]) for name in shallow)
    depthwise = "stages.0.block1.body.0.conv.weight"
    (key,) = [key for key in made.kernels if "block1" in key]
    with torch.no_grad():
        for small, large in ((3, 5), (5, 7)):
            made.shared[f"{key}/{large}to{small}"].copy_(torch.eye(small**2))
    assert torch.equal(weights(**{"stage0:kernel": 3})[depthwise], whole[depthwise][..., 2:5, 2:5])
    with torch.no_grad():
        made.shared[f"{key}/7to5"].mul_(2.0)  # on the way to 3 x 3 too
    assert torch.equal(weights(**{"stage0:kernel": 3})[depthwise], 2 * whole[depthwise][..., 2:5, 2:5])
    assert torch.equal(weights()[depthwise], whole[depthwise])


def test_kinds_of_block_and_widths_with_another_order_of_channels_share_nothing():
    space = CellSpace(Frame(size=(8, 8)), (16,), [stage(kind=("plain", "fire"), width=(16, 32), reduce=("none",))])
    keys = [
        {part.key for part in shared_parts(space.architecture(space.levels(point))) if "block0" in part.key}
        for point in random_points(space, 60)
    ]
    kinds = [{key.split("/")[3].partition("-")[0] for key in found} for found in keys]
    assert all(len(kind) == 1 for kind in kinds) and {*map(str, kinds)} == {"{'plain'}", "{'fire'}"}
    of_fire = {key.split("/")[3] for found in keys for key in found if "fire" in key}
    assert of_fire == {"fire-16-1", "fire-16-2", "fire-32-1", "fire-32-2"}


def test_the_weights_are_a_function_of_the_seed_and_travel_in_a_state_dict(rows):
    state = torch.get_rng_state()
    one, same, other = supernet(rows, 1), supernet(rows, 1), supernet(rows, 2)
    assert torch.equal(state, torch.get_rng_state())
    first, again = one.state_dict(), same.state_dict()
    assert all(torch.equal(first[key], again[key]) for key in first)
    assert not all(torch.equal(first[key], other.state_dict()[key]) for key in first)
    other.load_state_dict(first)
    point = random_points(rows, 1)[0]
    x = torch.randn(5, 7)
    assert torch.equal(one.at(point, x), copy.deepcopy(other).at(point, x))
    assert np.allclose(one.plain(point).standard.spread, 0.1)


def test_a_network_that_was_given_has_no_supernet():
    model = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3), torch.nn.ReLU(), torch.nn.Conv2d(8, 4, 3)).eval()
    with pytest.raises(SpaceError, match="space: cells"):
        supernet(channel_space(model, (torch.randn(2, 3, 8, 8),)))

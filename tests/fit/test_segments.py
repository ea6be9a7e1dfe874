"""A recorded network is run part by part, also where sizes and masks of its inputs are asked for again and again."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from automl.fit.segments import bridges, part_of, segment
from search_spaces.graph.trace import trace


class AsksForItsBatchFirst(nn.Module):
    """As EfficientNet-Lite does: the batch size is read at the beginning and used at the end."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Conv2d(4, 4, 3, padding=1) for _ in range(3))
        self.head = nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        n = x.size(0)
        for layer in self.layers:
            x = x + layer(x).relu()
        return self.head(F.adaptive_avg_pool2d(x, 1).view(n, -1))


class UsesItsMaskEverywhere(nn.Module):
    """As encoders of text do: a mask of the inputs, made once, is used by every layer; so is a scale that is learnt."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(4, 4) for _ in range(3))
        self.scale = nn.Parameter(torch.tensor(0.5))

    def forward(self, x: Tensor, kept: Tensor) -> Tensor:
        mask = (1 - kept.unsqueeze(-1)) * -3.0
        for layer in self.layers:
            x = x + layer(x + mask) * self.scale
        return x.mean(1)


INPUTS = {
    AsksForItsBatchFirst: (torch.randn(5, 4, 6, 6),),
    UsesItsMaskEverywhere: (torch.randn(5, 7, 4), (torch.arange(35).view(5, 7) % 3 > 0).float()),
}


@pytest.mark.parametrize("kind", list(INPUTS))
def test_segments_one_after_another_make_what_the_network_makes(kind):
    torch.manual_seed(0)
    model, inputs = kind().eval(), INPUTS[kind]
    network = trace(model, tuple(x[:2] for x in inputs))
    found = bridges(network)
    last = next(node for node in reversed(network.graph.nodes) if node.op != "output")
    assert len(found) >= 4, "after each layer's sum at least"
    given = {n.name: x for n, x in zip([n for n in network.graph.nodes if n.op == "placeholder"], inputs, strict=True)}
    values = given
    for start, end in pairwise([None, *found]):
        values = {**given, end.name: segment(network, start, end).on_all(values)}
    assert end is last
    with torch.no_grad():
        torch.testing.assert_close(values[end.name], model(*inputs))
        three = segment(network, None, found[1])(part_of(given, slice(1, 4)))
        torch.testing.assert_close(three, segment(network, None, found[1]).on_all(given)[1:4])


def test_what_a_segment_holds_is_its_own_layers():
    network = trace(AsksForItsBatchFirst().eval(), (torch.randn(2, 4, 6, 6),))
    found = [node for node in bridges(network) if "add" in node.name]
    second = segment(network, found[0], found[1])
    assert {str(node.target) for node in second.nodes if node.op == "call_module"} == {"layers.1"}
    assert len(second.parameters) == 2 and second.positions == 36
    assert second.macs == 36 * second.parameters[0].numel()

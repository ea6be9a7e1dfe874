"""Networks with several exits: a classifier after each part, so that easy samples need not go all the way.

Teerapittayanon et al. 2016, "BranchyNet"; Huang et al. 2018, "Multi-scale dense networks for resource efficient image
classification", for training and thresholds. Here exits are put into any recorded network of class scores.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from automl.dynamic.places import Place, chosen, parts
from automl.errors import ConfigError
from automl.measures.counts import count_macs
from search_spaces import Recorded, trace


class ExitHead(nn.Module):
    """What an exit makes of a map: the mean of each channel over all positions, and one linear layer.

    With `hidden` channels a linear layer at each position (a convolution 1 x 1), batch norm and ReLU come first.
    """

    def __init__(self, dim: int, channels: int, classes: int, hidden: int = 0) -> None:
        """`dim`: along which the channels of the map lie."""
        super().__init__()
        self.dim = dim
        self.widen = (
            nn.Sequential(nn.Conv1d(channels, hidden, 1, bias=False), nn.BatchNorm1d(hidden), nn.ReLU())
            if hidden
            else nn.Identity()
        )
        self.linear = nn.Linear(hidden or channels, classes)

    def forward(self, x: Tensor) -> Tensor:
        """A map, or features [n, channels], -> class scores [n, classes]."""
        flat = x.movedim(self.dim, 1).flatten(2) if x.ndim > 2 else x.unsqueeze(2)  # [n, channels, positions]
        scores: Tensor = self.linear(self.widen(flat).mean(2))
        return scores


class MultiExit(nn.Module):
    """A network in parts, with a head after each but the last, whose output is the network's own.

    `forward` computes all exits. State dicts hold the parts' modules under their own names behind `parts.NUMBER`.
    """

    def __init__(self, recorded: Recorded, at: Sequence[Place], classes: int, hidden: int = 0) -> None:
        """`at`: where the exits are, in order."""
        super().__init__()
        self.places = tuple(at)
        self.classes, self.hidden = classes, hidden
        cut = parts(recorded.build(recorded.whole), [place.node for place in at])
        self.parts = nn.ModuleList(part.network for part in cut)
        self.asked = [part.inputs for part in cut]
        """Of each part, which of the network's inputs it reads."""
        self.heads = nn.ModuleList(ExitHead(place.dim, place.channels, classes, hidden) for place in at)
        self.train(recorded.network.training)

    @property
    def exits(self) -> int:
        """How many there are, the network's own output among them."""
        return len(self.parts)

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """The class scores of every exit, [n, classes] each, the network's own last."""
        scores, value = [], None
        for i in range(self.exits):
            value = self.part(i, value, inputs)
            scores.append(self.head(i, value))
        return tuple(scores)

    def part(self, i: int, value: Tensor | None, inputs: Sequence[Tensor]) -> Tensor:
        """What part `i` makes of the `value` of the part before it."""
        given = [inputs[j] for j in self.asked[i]]
        made: Tensor = self.parts[i](*given) if value is None else self.parts[i](value, *given)
        return made

    def head(self, i: int, value: Tensor) -> Tensor:
        """The class scores at exit `i`, of the value of part `i`."""
        return self.heads[i](value) if i < len(self.heads) else value

    @torch.no_grad()
    def early(self, thresholds: Sequence[float], *inputs: Tensor) -> tuple[Tensor, Tensor]:
        """The class scores with which each sample leaves, [n, classes], and at which exit, [n].

        A sample leaves at the first exit whose largest probability reaches its threshold; there is one for every exit
        but the last. What has left is not computed any further.
        """
        if len(thresholds) != self.exits - 1:
            raise ConfigError(f"expected a threshold for each of {self.exits - 1} exits, got {len(thresholds)}")
        left = torch.arange(len(inputs[0]), device=inputs[0].device)
        exits = torch.full_like(left, self.exits - 1)
        scores, value = None, None
        for i in range(self.exits):
            value = self.part(i, value, inputs)
            made = self.head(i, value)
            scores = made.new_empty((len(exits), made.shape[1])) if scores is None else scores
            scores[left] = made
            exits[left] = i
            if i < self.exits - 1:
                stays = made.softmax(1).amax(1) < thresholds[i]
                samples = len(left)  # an input with another first dimension, such as a table, is the same for all
                inputs = tuple(x[stays] if x.ndim and len(x) == samples else x for x in inputs)
                left, value = left[stays], value[stays]
                if not len(left):
                    break
        assert scores is not None
        return scores, exits

    def until(self, i: int) -> Until:
        """The network that ends at exit `i` for every sample, without the heads before; it shares the modules."""
        return Until(self, i, [i])

    def costs(self, *inputs: Tensor) -> tuple[int, ...]:
        """Multiply-accumulates of a sample that leaves at each exit, with all heads that it passed."""
        return tuple(count_macs(Until(self, i, list(range(i + 1))), inputs) for i in range(self.exits))


class Until(nn.Module):
    """A network with exits that goes as far as one of them."""

    def __init__(self, network: MultiExit, last: int, heads: Sequence[int]) -> None:
        """`heads`: the exits that are computed; the `last` is what it returns."""
        super().__init__()
        self.network, self.last, self._heads = network, last, frozenset(heads)

    def forward(self, *inputs: Tensor) -> Tensor:
        """The class scores at the last exit, [n, classes]."""
        value, scores = None, None
        for i in range(self.last + 1):
            value = self.network.part(i, value, inputs)
            if i in self._heads:
                scores = self.network.head(i, value)
        assert scores is not None
        return scores


def multi_exit(
    model: nn.Module, example_inputs: Sequence[Tensor], exits: int | Sequence[float | str] = 2, *, hidden: int = 0
) -> MultiExit:
    """Put exits into any network of class scores that can be recorded; `model` is copied and not changed.

    Args:
        model: the network, new or trained.
        example_inputs: the arguments of its forward for a batch.
        exits: how many beside the network's own output, spread over the multiply-accumulates; or at which parts of
            these (`[0.3, 0.6]`), or after which nodes of the recorded graph.
        hidden: channels of a layer in each exit's head; 0: the head is one linear layer.

    Raises:
        TraceError: a network that cannot be recorded.
        ConfigError: one that does not give class scores, [n, classes], or has no such places.
    """
    recorded = Recorded(trace(model, example_inputs))
    (output,) = (node for node in recorded.network.graph.nodes if node.op == "output")
    made: Any = getattr(output.args[0], "meta", {}).get("shape")
    if not isinstance(made, tuple) or len(made) != 2:
        raise ConfigError(f"exits are for networks of class scores, [n, classes], got an output of shape {made}")
    return MultiExit(recorded, chosen(recorded, exits), made[1], hidden)


class ExitsLoss:
    """The weighted sum of the losses of all exits (Teerapittayanon et al. 2016, section 3.2)."""

    def __init__(self, loss: Any, weights: Sequence[float] | None = None) -> None:
        """`loss`: (outputs, targets) -> mean loss. `weights`: of each exit; None: 1 each, so that what only one
        exit has, its head and the last part, learns as fast as in a network without others."""
        if weights is not None and not (all(weight >= 0 for weight in weights) and sum(weights) > 0):
            raise ConfigError(f"weights of exits are at least 0, and not all 0, got {list(weights)}")
        self._loss = loss
        self._weights = None if weights is None else tuple(weights)

    def __call__(self, network: nn.Module, inputs: tuple[Tensor, ...], targets: Tensor) -> Tensor:
        """The loss of a batch, a scalar."""
        outputs = network(*inputs)
        weights = self._weights or (1.0,) * len(outputs)
        if len(weights) != len(outputs):
            raise ConfigError(f"expected a weight for each of {len(outputs)} exits, got {len(weights)}")
        losses = [weight * self._loss(out, targets).mean() for weight, out in zip(weights, outputs, strict=True)]
        return torch.stack(losses).sum()

"""Slimmable networks: one set of weights that computes at several widths.

Yu et al. 2019, "Slimmable neural networks": at width w a layer has the first channels of the whole one, and a batch
norm of its own. Here the channels are those of the coupled groups of any recorded network, so that a network at a width
is exactly what the operator `channels` cuts out of it.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from automl.dynamic.lending import Slice, filled, lendable, lent
from automl.errors import ConfigError
from automl.fit.recalibration import recalibrate
from automl.tasks.batches import Batch
from search_spaces import Channels, Cut, NetworkSpace, Plan, Recorded, channel_space
from search_spaces.replay import cut_of

Norms = Literal["private", "shared"]
"""Whether each width has norms of its own, or all have slices of one, whose statistics are estimated afterwards."""


class Slimmable(nn.Module):
    """A network that computes at several widths with the same weights.

    `forward` computes at `width`, at first 1. State dicts hold the weights once, and what each width has by itself: its
    norms, or with `norms="shared"` their running statistics alone. Networks share no modules, so a width that trains or
    is recalibrated moves no statistics of another.
    """

    def __init__(self, recorded: Recorded, plans: Mapping[float, Plan], norms: Norms = "private") -> None:
        """`plans`: width -> what it keeps, each a part of the next wider one's; that of width 1 keeps everything."""
        super().__init__()
        self.plans = {width: plans[width] for width in sorted(plans)}
        self.norms: Norms = norms
        self.width = 1.0
        if not self.plans or self.widths[-1] != 1.0 or self.widths[0] <= 0:
            raise ConfigError(
                f"widths are parts of the whole, above 0 and up to 1, which is among them; got {plans.keys()}"
            )
        self.whole = recorded.build(Cut())
        self.narrow = nn.ModuleDict()
        self._slices: dict[str, list[Slice]] = {}
        for width, plan in list(self.plans.items())[:-1]:
            cut = cut_of(plan)
            narrow = recorded.build(cut)
            kept = recorded.kept_in_state(cut)
            self._slices[_key(width)] = lendable(self.whole, narrow, kept, own=norms == "private")
            self.narrow[_key(width)] = narrow
        self.train(recorded.network.training)

    @property
    def widths(self) -> tuple[float, ...]:
        """The widths, ascending; the last is 1."""
        return tuple(self.plans)

    def forward(self, *inputs: Any) -> Any:
        """What the network at `self.width` computes."""
        return self.at(self.width, *inputs)

    def at(self, width: float, *inputs: Any) -> Any:
        """What the network at `width` computes; gradients reach the weights that all widths share."""
        if width == 1.0:
            return self.whole(*inputs)
        key = self._known(width)
        with lent(self._slices[key], self.whole, self.narrow[key]) as narrow:
            return narrow(*inputs)

    def plain(self, width: float) -> nn.Module:
        """A copy of the network at `width` that shares nothing, as the surgery of its plan makes it."""
        if width == 1.0:
            return copy.deepcopy(self.whole)
        key = self._known(width)
        narrow = copy.deepcopy(self.narrow[key])
        filled(self._slices[key], self.whole, narrow)
        return narrow.requires_grad_(True)

    def uses(self, widths: Sequence[float]) -> dict[str, Tensor]:
        """Parameter -> for how many of `widths` each of its entries counts, in its shape; by the names of this module.

        Parameters that only widths elsewhere have are not among them.
        """
        found: dict[int, tuple[str, Tensor]] = {}
        for key, network in (("", self.whole), *((_key(w), self.narrow[_key(w)]) for w in widths if w != 1.0)):
            prefix = f"narrow.{key}." if key else "whole."
            for name, parameter in network.named_parameters():
                counts = found.setdefault(id(parameter), (f"{prefix}{name}", torch.zeros_like(parameter)))[1]
                if key or 1.0 in widths:
                    counts += 1
            for one in self._slices.get(key, ()):
                one.add_to(found[id(self.whole.get_parameter(one.name))][1])
        return dict(found.values())

    def recalibrate(self, batches: Sequence[Batch]) -> None:
        """Estimate the running statistics of every width anew on `batches`, augmented as in training.

        Yu & Huang 2019, section 3.4: of widths that share their norms, statistics gathered in training belong to none.
        """
        for width in self.widths:
            network = self.plain(width)
            recalibrate(network, batches)
            own = self.whole if width == 1.0 else self.narrow[self._known(width)]
            for name, buffer in network.named_buffers():
                own.get_buffer(name).copy_(buffer)

    def _known(self, width: float) -> str:
        if width not in self.plans:
            raise ConfigError(f"expected a width of {', '.join(f'{w:g}' for w in self.widths)}, got {width!r}")
        return _key(width)


def slimmable(
    model: nn.Module,
    example_inputs: Sequence[Tensor],
    widths: Sequence[float] = (0.25, 0.5, 0.75, 1.0),
    *,
    norms: Norms = "private",
    order: Literal["first", "magnitude"] = "first",
    round_to: int = 1,
    exclude: Sequence[str] = (),
) -> Slimmable:
    """Make any network that can be recorded slimmable; `model` is copied and not changed.

    Args:
        model: the network, new or trained.
        example_inputs: the arguments of its forward for a batch.
        widths: parts of each group's channels; 1 is always among them.
        norms: private, a norm for each width (Yu et al. 2019); shared, which many widths need (Yu & Huang 2019).
        order: which channels the narrow widths have. first: those that come first, of a new network as good as any;
            magnitude: those whose weights are largest, of a trained one.
        round_to: widths are multiples of so many channels.
        exclude: patterns of layers and groups that keep their width.

    Raises:
        TraceError, SpaceError: a network that cannot be recorded, or in which nothing can be narrower.
        ConfigError: widths that are none.
    """
    if not widths or not all(0 < width <= 1 for width in widths):
        raise ConfigError(f"widths are parts of the whole, above 0 and at most 1, got {list(widths)}")
    # The least width is left to `widths` alone.
    space = channel_space(model, example_inputs, min_keep=1e-6, round_to=round_to, exclude=tuple(exclude))
    plans = nested_plans(
        space, sorted({*widths, 1.0}), space.operator(Channels).magnitudes if order == "magnitude" else None
    )
    return Slimmable(space.basis.recorded, plans, norms)


def nested_plans(
    space: NetworkSpace, widths: Sequence[float], scores: Mapping[str, np.ndarray] | None = None
) -> dict[float, Plan]:
    """Width -> the plan that keeps this part of each group of channels, those with the highest `scores`.

    Each is a part of the next wider one's, since one order of the channels serves all. None: the first channels.
    """
    order = scores or {group.name: -np.arange(group.size) for group in space.groups}
    return {width: space.plan(space.point([knob.nearest(width) for knob in space.knobs]), order) for width in widths}


def _key(width: float) -> str:
    """A width as the name of a module, in which no point may stand."""
    return f"{width:g}".replace(".", "_")

"""Block-wise reconstruction: blocks of a refitted network are tuned to make what the original's make at their ends.

Least squares fits one layer at a time, and every channel that stays is to remain what it was. Here the layers of a
block change together, by gradient, so that channels may become others as long as what the block makes stays the same
(BRECQ: Li et al. 2021, arXiv 2102.05426, section 3.2, there for rounded weights). No label is looked at, and no loss at
the end of the network: a block sees what the network tuned so far gives it, its target is what the original has at the
same place, and the distance is the mean square.
"""

from __future__ import annotations

import math
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack

import torch
from torch import Tensor, fx, nn

from automl.fast.precision import formatted
from automl.fit.layerwise import Fitters, Refit
from automl.fit.samples import affordable
from automl.fit.segments import PASS_BYTES, Segment, Values, bridges, part_of, segment
from automl.fit.sequential import Site, refitted_sites
from automl.tasks.batches import Batch
from automl.training.form import gradients_keep_right, laid_out
from automl.types import Say, silent
from automl.util.duration import duration
from automl.util.modes import differentiating, evaluating
from search_spaces import LayerSlice, Step

STEPS = 500
"""Of each block."""
BATCH, FEWEST = 64, 8
"""Samples a step, most and fewest."""
MOST_POSITIONS, MOST_MACS = 64 * 32 * 32, 340_000_000
"""Positions and multiply-accumulates that a step has at most, unless that would be too few samples: as many as `BATCH`
images of 32 x 32 have in a residual block of ResNet-56. Larger maps say more each, and larger blocks take longer."""
LEAST_POSITIONS = 2048
LEARNING_RATE = 1e-3
"""Of Adam (Kingma & Ba 2015); it falls along half a cosine to 0."""
EVERY_S = 10.0
"""How often it is told which block is tuned."""


class BlockReconstruction:
    """Refits a rebuilt network, and then tunes it block after block, in place.

    A block ends where a layer that can be refitted makes a value, its shortcut added, that alone is handed on, in the
    network and in the original alike; it has a row a sample, and but for the last two such layers at least. So residual
    blocks are tuned one by one, a plain chain two layers at a time, and a classifier alone, to make the original's
    logits. A block that does not get closer to its target keeps its weights. Norms keep their statistics, not their
    weights and biases.
    """

    def __init__(
        self,
        original: fx.GraphModule,
        batches: Sequence[Batch],
        refit: Refit,
        *,
        dtype: torch.dtype = torch.float32,
        steps: int = STEPS,
        seed: int = 0,
        fitters: Fitters | None = None,
        say: Say = silent,
    ) -> None:
        """`refit`: what gives the weights to begin with. `dtype`: bfloat16 for autocast to it in the passes that learn.
        `fitters`: hold weights to what the steps made of them. `say`: told which block is tuned."""
        self._refit, self._fitters = refit, fitters or {}
        self._original = original
        self._sites = refitted_sites(original)
        self._dtype, self._steps, self._seed, self._say = dtype, steps, seed, say
        parts = zip(*(inputs for inputs, _ in formatted(batches, torch.float32)), strict=True)
        inputs = tuple(torch.cat(part) for part in parts)
        given = [node for node in original.graph.nodes if node.op == "placeholder"]
        samples = affordable([*given, *bridges(original)], inputs)  # of other values parts are there at a time
        self._inputs = {node.name: x[:samples] for node, x in zip(given, inputs, strict=True)}

    def apply(self, network: fx.GraphModule, slices: Mapping[str, LayerSlice], steps: Sequence[Step] = ()) -> None:
        """Overwrite weights of `network`, built with these `slices`, and take `steps`. The same each time on as many
        threads."""
        self._refit.apply(network, slices, steps)
        with ExitStack() as held:
            for step in steps:
                if step.operator in self._fitters:
                    held.enter_context(self._fitters[step.operator].holding(network, step))
            self._tuned(network, slices)

    def _tuned(self, network: fx.GraphModule, slices: Mapping[str, LayerSlice]) -> None:
        """Tune block after block."""
        ends = _ends(self._original, self._sites, slices)
        generator = torch.Generator().manual_seed(self._seed)
        theirs = ours = self._inputs
        laid_out(network, channels_last=gradients_keep_right(network, next(iter(ours.values())).device))
        blocks = list(_blocks(self._original, network, ends, self._sites))
        started = told = time.monotonic()
        with evaluating(self._original), differentiating(network):
            for number, (whole, block) in enumerate(blocks):
                if time.monotonic() > told + EVERY_S:
                    told = time.monotonic()
                    self._say(f"block {number + 1} of {len(blocks)} is tuned, {duration(told - started)} so far")
                end = block.nodes[-1].name
                theirs = {**self._inputs, end: whole.on_all(theirs)}
                target = theirs[end].index_select(*ends[end])
                before = [parameter.detach().clone() for parameter in block.parameters]
                apart = _apart(block.on_all(ours), target)
                self._tune(block, ours, target, samples_a_step(whole), generator)
                made = block.on_all(ours)
                if not _apart(made, target) < apart:  # there was nothing to gain
                    _restore(block.parameters, before)
                    made = block.on_all(ours)
                ours = {**self._inputs, end: made}
        laid_out(network, channels_last=False)

    def _tune(self, block: Segment, values: Values, target: Tensor, samples: int, generator: torch.Generator) -> None:
        """Minimise the mean square of what `block` makes of `values` less `target`, [n, channels, ...], by steps of so
        many samples."""
        optimizer = torch.optim.Adam(block.parameters, LEARNING_RATE)
        given = block.needed_of(values)
        for step in range(self._steps):
            optimizer.param_groups[0]["lr"] = LEARNING_RATE * (1 + math.cos(math.pi * step / self._steps)) / 2
            drawn = torch.randint(len(target), (samples,), generator=generator)
            with torch.autocast(target.device.type, self._dtype, enabled=self._dtype is not torch.float32):
                made = block(part_of(given, drawn))
            _distance(made.float(), target[drawn]).backward()
            optimizer.step()
            optimizer.zero_grad()  # nothing is left behind in the end


def samples_a_step(block: Segment) -> int:
    """How many samples a step has."""
    fewest = max(FEWEST, LEAST_POSITIONS // block.positions)
    most = min(MOST_POSITIONS // block.positions, int(MOST_MACS // max(block.macs, 1)))
    return min(BATCH, max(fewest, most))


def _distance(made: Tensor, target: Tensor) -> Tensor:
    return (made - target).square().mean()


def _apart(made: Tensor, target: Tensor) -> float:
    """The same of many samples, a part at a time: differences of large maps take as much memory as the maps."""
    count = max(1, PASS_BYTES // (4 * made[0].numel()))
    parts = zip(made.split(count), target.split(count), strict=True)
    return sum(float((ours - theirs).square().double().sum()) for ours, theirs in parts) / made.numel()


@torch.no_grad()
def _restore(parameters: Sequence[nn.Parameter], values: Sequence[Tensor]) -> None:
    for parameter, value in zip(parameters, values, strict=True):
        parameter.copy_(value)


def _ends(
    original: fx.GraphModule, sites: Mapping[str, Site], slices: Mapping[str, LayerSlice]
) -> dict[str, tuple[int, Tensor]]:
    """Node after which a block can end -> the dimension of its channels, and those that are kept.

    What can be compared, sample by sample, has lost nothing else, and its batch is that of the inputs.
    """
    samples = next(node for node in original.graph.nodes if node.op == "placeholder").meta["shape"][0]
    nodes = {node.name: node for node in original.graph.nodes}
    ends = {}
    for site in sites.values():
        if site.layer in slices:
            kept, shape = slices[site.layer], nodes[site.total].meta["shape"]
            channels = len(shape) - 1 if isinstance(original.get_submodule(site.layer), nn.Linear) else 1
            if shape[0] == samples and kept.lost.keys() <= {channels}:
                ends[site.total] = (channels, torch.from_numpy(kept.kept_out))
    return ends


def _blocks(
    original: fx.GraphModule, network: fx.GraphModule, ends: Collection[str], fitted: Collection[str]
) -> Iterator[tuple[Segment, Segment]]:
    """The blocks of both, in order: they end at nodes of the same name out of `ends`; all but the last have at least
    two of the `fitted`."""
    theirs = {node.name: node for node in bridges(original) if node.name in ends}
    pairs = [(theirs[node.name], node) for node in bridges(network) if node.name in theirs]
    start: tuple[fx.Node, fx.Node] | None = None
    for pair in pairs:
        whole, block = (segment(*of) for of in zip((original, network), start or (None, None), pair, strict=True))
        if pair == pairs[-1] or sum(node.name in fitted for node in block.nodes) > 1:
            yield whole, block
            start = pair

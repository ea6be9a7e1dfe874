"""Parts of a recorded network that can be run by themselves: from one value that is handed on to the next."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor, fx, nn

from automl.fit.samples import shapes_of
from search_spaces.graph.counting import MACS

PASS = 250
"""Samples at once where nothing is learnt, or as many as keep the largest map within `PASS_BYTES`."""
PASS_BYTES = 2**26

Values = Mapping[str, Tensor]
"""Node -> what it made of the same samples, [n, ...]."""


@dataclass(frozen=True)
class Segment:
    """Calls of a recorded network that make one value of another, or of the network's inputs."""

    network: fx.GraphModule
    nodes: tuple[fx.Node, ...]
    """In order; the last makes what is handed on."""
    given: tuple[fx.Node, ...]
    """Whose values are needed: of where it starts, and of the inputs that are asked again for a size or a mask."""

    def __call__(self, values: Values) -> Tensor:
        """What the segment makes, [n, ...]."""
        runner = fx.Interpreter(self.network, garbage_collect_values=False)
        runner.env = {node: values[node.name] for node in self.given}
        for node in self.nodes:
            runner.env[node] = runner.run_node(node)
            for done in self._last_used.get(node, ()):
                runner.env.pop(done, None)
        made: Tensor = runner.env[self.nodes[-1]]
        return made

    def on_all(self, values: Values) -> Tensor:
        """The same for many samples, without gradients."""
        largest = max((math.prod(shape[1:]) for shape in self._shapes), default=1)
        count = max(1, min(PASS, PASS_BYTES // (4 * largest)))
        given = self.needed_of(values)
        samples = len(next(iter(given.values())))
        with torch.no_grad():
            made = self(part_of(given, slice(0, count)))
            whole = made.new_empty((samples, *made.shape[1:]))  # parts that are joined in the end take twice the memory
            for i in range(0, samples, count):
                whole[i : i + count] = made if i == 0 else self(part_of(given, slice(i, i + count)))
            return whole

    def needed_of(self, values: Values) -> Values:
        """Those of `values` that the segment is given."""
        return {node.name: values[node.name] for node in self.given}

    @cached_property
    def _last_used(self) -> Mapping[fx.Node, Sequence[fx.Node]]:
        """Call -> the values that no later one uses."""
        last = {value: node for node in self.nodes for value in node.all_input_nodes}
        done: dict[fx.Node, list[fx.Node]] = {}
        for value, user in last.items():
            done.setdefault(user, []).append(value)
        return done

    @property
    def _shapes(self) -> list[tuple[int, ...]]:
        """Those of what is given and made, the batch first."""
        return shapes_of([*self.given, *self.nodes])

    @property
    def positions(self) -> int:
        """Height times width of the largest map; 1 if there is none."""
        return max((math.prod(shape[2:]) for shape in self._shapes if len(shape) > 3), default=1)

    @property
    def macs(self) -> float:
        """Multiply-accumulates a sample, as they were counted when the network was recorded."""
        batch = float(sum(node.meta.get(MACS, 0) for node in self.nodes))
        return batch / self._shapes[0][0]

    @property
    def parameters(self) -> list[nn.Parameter]:
        """Those of the modules that are called."""
        modules = [self.network.get_submodule(str(node.target)) for node in self.nodes if node.op == "call_module"]
        return list(dict.fromkeys(parameter for module in modules for parameter in module.parameters()))


def part_of(values: Values, samples: slice | Tensor) -> Values:
    """The values of some of the samples."""
    return {name: value[samples] for name, value in values.items()}


def bridges(network: fx.GraphModule) -> list[fx.Node]:
    """The nodes after which their own value is the only one that is still used, of those that layers had a part in."""
    order = {node: position for position, node in enumerate(network.graph.nodes)}
    last_use = {node: max((order[user] for user in node.users), default=-1) for node in order}
    given = _without_layers(network)
    found, open_until = [], -1  # the last use of all values made before, but for what is made again where it is needed
    for node, position in order.items():
        if node in given:
            continue
        if open_until <= position < last_use[node]:
            found.append(node)
        open_until = max(open_until, last_use[node])
    return found


def segment(network: fx.GraphModule, start: fx.Node | None, end: fx.Node) -> Segment:
    """What lies between the two; from the inputs if there is no `start`."""
    nodes = list(network.graph.nodes)
    between = nodes[0 if start is None else nodes.index(start) + 1 : nodes.index(end) + 1]
    again = _without_layers(network)
    needed = {node for node in between if node not in again}
    for node in reversed(nodes[: nodes.index(end)]):
        if node in again and not needed.isdisjoint(node.users):
            needed.add(node)
    begins = [node for node in nodes if node in needed and node.op == "placeholder"]
    given = begins if start is None else [start, *begins]
    return Segment(network, tuple(node for node in nodes if node in needed and node not in begins), tuple(given))


def _without_layers(network: fx.GraphModule) -> set[fx.Node]:
    """Inputs, constants, weights, and what is made of inputs and constants alone, such as sizes and masks: it is cheap,
    and can be made again wherever it is needed."""
    parameters = {name for name, _ in network.named_parameters(remove_duplicate=False)}
    weights: set[fx.Node] = set()
    free: set[fx.Node] = set()
    for node in network.graph.nodes:
        if node.op == "get_attr" and node.target in parameters:
            weights.add(node)
        elif node.op in ("placeholder", "get_attr") or (
            node.op in ("call_function", "call_method") and free.issuperset(node.all_input_nodes)
        ):
            free.add(node)
    return weights | free

"""A plan replayed on the network that it was made for: one surgery, then one operator after the other."""

from __future__ import annotations

from functools import reduce

from torch import fx, nn

from search_spaces.cells.cell_network import network_of
from search_spaces.cells.cells_step import CellsStep
from search_spaces.graph.recorded import Cut, Recorded
from search_spaces.operators.registry import OPERATORS
from search_spaces.plan import Plan
from search_spaces.settled import settle_coded


def cut_of(plan: Plan) -> Cut:
    """Which channels and calls the steps of `plan` remove."""
    return reduce(lambda cut, step: step.within(cut), plan.steps, Cut())


def from_nothing(plan: Plan) -> nn.Module | None:
    """The network whose architecture `plan` names, with new weights, before its other steps; None if it names none."""
    architecture = plan.get(CellsStep).architecture
    return None if architecture is None else network_of(architecture)


def rebuild(network: fx.GraphModule, plan: Plan) -> fx.GraphModule:
    """A new network that `plan` makes of a recorded one, which is not changed, with the weights that follow from those
    alone. The knobs and their ranges play no part in that. A plan that does not fit is a `SpaceError`."""
    return reformed(Recorded(network).build(cut_of(plan)), plan)


def reformed(network: fx.GraphModule, plan: Plan) -> fx.GraphModule:
    """`network`, already cut, with what the other steps of `plan` do to it, as its file was priced."""
    for step in plan.steps:
        if isinstance(step, CellsStep):
            continue  # the network is already what it says
        network = OPERATORS[step.operator].rebuild(network, step)
    settle_coded(network, plan)
    return network

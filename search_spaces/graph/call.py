"""One recorded call under analysis, and the registry of rules that say where labels go in it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from math import prod
from typing import Any

import numpy as np
from torch import fx

from search_spaces.graph.edits import Edit
from search_spaces.graph.labels import Labelled, Labels, movable
from search_spaces.graph.notes import Notes
from search_spaces.graph.sizes import Shaped

Rule = Callable[..., Any]
"""From a `Call` and its arguments, tensors as `Labelled`, to the labels of what it returns."""

RULES: dict[str, Rule] = {}


class Opaque(Exception):  # noqa: N818 - a signal within this package, never raised to a user
    """This use of a call is not understood; what goes in must stay as it is."""


def rule(*names: str) -> Callable[[Rule], Rule]:
    """Register a rule for torch functions, methods (also in-place ones) or layer classes of these names."""

    def register(function: Rule) -> Rule:
        RULES.update(dict.fromkeys(names, function))
        return function

    return register


class Call:
    """A node of the recorded graph, with what a rule needs to know and may note down."""

    def __init__(self, analysis: Notes, node: fx.Node, name: str) -> None:
        self.analysis = analysis
        self.labels: Labels = analysis.labels
        self.node = node
        self.name = name
        self.macs = 0.0
        """Multiply-accumulates a sample, so far."""

    @property
    def may_be_grid(self) -> bool:
        """Whether two dimensions may be kept apart here, each with channels that can go."""
        return self.node.name not in self.analysis.no_grid

    def is_grid(self, outer: np.ndarray, inner: np.ndarray) -> None:
        """Two dimensions are kept apart in what is one for others."""
        self.analysis.grids.append((self.node.name, outer, inner))

    @property
    def shape(self) -> tuple[int, ...]:
        """The recorded shape of the result, a single tensor."""
        shape: tuple[int, ...] = self.node.meta["shape"]
        return shape

    @property
    def returns_several(self) -> bool:
        """Whether the call returns a tuple of tensors."""
        shape = self.node.meta["shape"]
        return bool(shape) and not isinstance(shape[0], int)

    @property
    def shapes(self) -> list[tuple[int, ...]]:
        """The recorded shapes of the results, where there are several."""
        return list(self.node.meta["shape"])

    def tie(self, a: np.ndarray, b: np.ndarray, why: str) -> None:
        """Entry i of `a` and of `b` go together: [n] each."""
        self.labels.tie(a, b, f"{why} {self.node.name}")

    def fix(self, labels: np.ndarray, why: str) -> None:
        """These must stay."""
        self.labels.fix(labels, f"{why} ({self.node.name})")

    def edit(self, edit: Edit) -> None:
        """The node must be rewritten when channels go."""
        self.analysis.edits[self.node.name] = edit

    def shaped(self, out: Labelled, first: int, name: str = "size") -> None:
        """The call is given the sizes of the dimensions `out`, from argument `first` on, or as argument `name`."""
        self.analysis.shaped[self.node.name] = Shaped(out, first, name)

    def edit_layer(self, edit: Callable[..., None], **known: Any) -> None:
        """The layer called, or else the node, must be changed when channels go: `edit(target, kept, **known)`."""
        if self.node.op == "call_module":
            self.analysis.layer_edits[str(self.node.target)] = partial(edit, **known)
        else:
            self.edit(partial(edit, **known))

    def weighs(self, weight: Labelled, read: np.ndarray, *, made: int, space: Labelled = (), stride: Any = 1) -> None:
        """A layer makes the channels along dimension `made` of its weight from those of `read`: [in channels].

        Dimension 1 - `made` of the weight holds the channels read (those within one group).
        """
        name = self.analysis.sources.get(id(weight))
        if name is None:
            return
        self.analysis.roles[name, made] = "out"
        self.analysis.roles[name, 1 - made] = "in"
        self.analysis.inputs.setdefault(name.rpartition(".")[0], read)
        height, width = (1, 1, *(len(labels) for labels in space))[-2:]
        stride = stride[-1] if isinstance(stride, (tuple, list)) else stride
        self.analysis.geometry.setdefault(name, (height, width, stride))

    def constant(self, argument: Any) -> np.ndarray | None:
        """The value of an index that never changes: a list of ints, or a tensor in the network's state: [n]."""
        source = self.analysis.sources.get(id(argument))
        if source is not None:
            return self.analysis.tensor(source).detach().numpy()
        if isinstance(argument, (list, tuple)) and all(isinstance(i, int) for i in argument):
            return np.array(argument)
        return None

    def multiplies(self, *dims: np.ndarray, over: Sequence[np.ndarray] = (), times: float = 1.0) -> None:
        """The call takes as many multiply-accumulates as the product of the sizes of all dims, for the whole batch.

        Of `over` those dims that never change are taken as the numbers that they are, and so is `times`.
        """
        moving = [labels for labels in over if movable(labels)]
        coefficient = times * prod(len(labels) for labels in over if not movable(labels)) / self.analysis.batch
        self.analysis.terms.append((self.node.name, coefficient, (*moving, *dims)))
        self.macs += coefficient * prod(len(labels) for labels in (*moving, *dims))

    @property
    def layer(self) -> str:
        """The name to report: that of the layer called, else of the node."""
        return str(self.node.target) if self.node.op == "call_module" else self.node.name


__all__ = ["RULES", "Call", "Labelled", "Opaque", "rule"]

"""What is noted down of a recorded network while its calls are read: labels, roles, edits, costs."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property

import numpy as np
from torch import Tensor, fx

from search_spaces.graph.edits import Edit
from search_spaces.graph.labels import Labelled, Labels
from search_spaces.graph.sizes import Shaped

Term = tuple[str, float, tuple[np.ndarray, ...]]
"""(call, coefficient, dims): multiply-accumulates a sample = coefficient * product of the sizes of dims."""


class Notes:
    """Everything known about which channels of a recorded network can go, and what changes when they do."""

    def __init__(self, network: fx.GraphModule, no_grid: frozenset[str] = frozenset()) -> None:
        """`no_grid`: calls in which two dimensions that are one elsewhere are not kept apart."""
        self.network = network
        self.no_grid = no_grid
        self.grids: list[tuple[str, np.ndarray, np.ndarray]] = []
        """Calls in which two dimensions that are one elsewhere are kept apart, and the labels of each."""
        self.labels = Labels()
        self.state: dict[str, Labelled] = {}
        """Parameter or buffer -> labels along each of its dimensions."""
        self.roles: dict[tuple[str, int], str] = {}
        """(parameter, dimension) -> "in" for channels read, "out" for channels made, by a layer."""
        self.inputs: dict[str, np.ndarray] = {}
        """Layer -> labels of the channels it reads, in full: [in channels]."""
        self.geometry: dict[str, tuple[int, int, int]] = {}
        """Weight -> height and width of what its layer reads, and stride."""
        self.order: dict[str, int] = {}
        """Parameter -> position of its first use."""
        self.edits: dict[str, Edit] = {}
        self.shaped: dict[str, Shaped] = {}
        """Call that is given the sizes of its result -> where, and the labels along its dimensions."""
        self.sizes: dict[str, np.ndarray] = {}
        """Size read from a tensor -> labels along the dimension that it is of."""
        self.layer_edits: dict[str, Callable[..., None]] = {}
        self.terms: list[Term] = []
        self.sources: dict[int, str] = {}
        """id of a labelled tensor that is state -> its name."""
        self.opaque: dict[str, str] = {}
        """Call that is not understood -> its name."""
        self.values: dict[str, Labelled] = {}
        """Node that computes a tensor -> labels along each of its dimensions."""
        self.kinds: dict[str, str] = {}
        """Call -> the name of its function, or of the kind of its layer."""
        self.batch = 1
        self._names: dict[int, str] = {}
        self._tensors: dict[str, Tensor] = {
            **dict(network.named_buffers(remove_duplicate=False)),
            **dict(network.named_parameters(remove_duplicate=False)),
        }
        for name, tensor in self._tensors.items():
            self._names.setdefault(id(tensor), name)

    def tensor(self, name: str) -> Tensor:
        """The parameter or buffer of this name."""
        return self._tensors[name]

    def has(self, name: str) -> bool:
        """Whether there is a parameter or buffer of this name."""
        return name in self._tensors

    def first_name(self, name: str) -> str:
        """The name under which a parameter or buffer is known here: the first of those that share it."""
        return self._names[id(self._tensors[name])]

    @cached_property
    def names(self) -> dict[str, list[str]]:
        """First name of each parameter and buffer -> all its names, the first one included."""
        names: dict[str, list[str]] = {}
        for name in self._tensors:
            names.setdefault(self.first_name(name), []).append(name)
        return names

    @cached_property
    def users(self) -> dict[str, frozenset[str]]:
        """First name of each parameter and buffer -> the calls that need it."""
        users: dict[str, set[str]] = {name: set() for name in self.names}
        for node in self.network.graph.nodes:
            if node.op == "get_attr":
                users[self.first_name(str(node.target))].add(node.name)
            elif node.op == "call_module":
                layer = self.network.get_submodule(str(node.target))
                for name in (*dict(layer.named_parameters()), *dict(layer.named_buffers())):
                    users[self.first_name(f"{node.target}.{name}")].add(node.name)
        return {name: frozenset(calls) for name, calls in users.items()}

    def parameter(self, name: str) -> Labelled:
        """The labels along each dimension of a parameter or buffer; one array of labels however often it is used."""
        name = self.first_name(name)
        if name not in self.state:
            self.state[name] = tuple(self.labels.fresh(size) for size in self.tensor(name).shape)
            self.sources[id(self.state[name])] = name
            self.order[name] = len(self.order)
        return self.state[name]

"""The space of a network: the knobs of an ordered list of operators, searched together, priced exactly."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any, TypeVar

import numpy as np
from torch import fx, nn

from search_spaces.errors import SpaceError
from search_spaces.graph.groups import Group
from search_spaces.graph.recorded import Cut, LayerSlice, Recorded
from search_spaces.graph.sizes import VARIES
from search_spaces.graph.surgery import restore
from search_spaces.graph.trace import trace
from search_spaces.operators.base import Basis, Operator, Scores
from search_spaces.operators.channels import Channels
from search_spaces.operators.depth import Depth
from search_spaces.operators.registry import OPERATORS
from search_spaces.operators.step import Step
from search_spaces.plan import Plan
from search_spaces.pricing.file import file_of
from search_spaces.pricing.metrics import METRICS, OfSheet
from search_spaces.pricing.sheet import Sheet
from search_spaces.replay import cut_of, reformed
from search_spaces.spaces.conditional import ConditionalSpace
from search_spaces.spaces.layers import LayerSequence
from search_spaces.spaces.priced_together import MANY, AtOnce
from search_spaces.types import Kind, Knob, Point

SomeOperator = TypeVar("SomeOperator", bound=Operator)

_ORDER: dict[Kind, int] = {"gate": 0, "choice": 0, "amount": 1, "free": 2}
"""Gates and choices are decided first, then what a budget is spent on, then what is free."""

Cost = Callable[[np.ndarray], float] | OfSheet


class NetworkSpace(ConditionalSpace):
    """What a list of operators can do to one network.

    Gates come first, then the amounts of one operator after the other, then what is free. Operators price a network one
    after the other; what the knobs before a certain operator fix is remembered.

    Raises `TraceError` if the model cannot be recorded, `SpaceError` for a bad option, for operators that cannot be
    joined, or if nothing can change.

    Args:
        model: the network; it is copied, and never changed.
        example_inputs: positional arguments on which its forward runs, batch first.
        operators: name -> options, as instances of the operator's `Options`, as mappings, or None for the defaults.
    """

    def __init__(self, model: nn.Module, example_inputs: Sequence[Any], operators: Mapping[str, Any]) -> None:
        self.original: fx.GraphModule = trace(model, example_inputs)
        self._arguments = (tuple(example_inputs), dict(operators))
        basis = Basis(recorded := Recorded(self.original), recorded.analysis)
        made: list[Operator] = []
        for kind, options in _in_order(operators):
            made.append(kind(basis, options))
            basis = made[-1].basis
        self.basis = basis
        self._take(tuple(made))

    def _take(self, operators: tuple[Operator, ...]) -> None:
        """Search what these operators offer."""
        self.operators = operators
        offered = [(_ORDER[knob.kind], i, knob) for i, operator in enumerate(operators) for knob in operator.knobs]
        order = sorted(range(len(offered)), key=lambda k: offered[k][0])
        self.knobs: tuple[Knob, ...] = tuple(offered[k][2] for k in order)
        if not self.knobs:
            raise SpaceError(_why_nothing(operators))
        place = np.empty(len(order), dtype=np.int64)
        place[order] = np.arange(len(order))
        ends = np.cumsum([0, *(len(operator.knobs) for operator in operators)])
        self._places = [place[start:end] for start, end in pairwise(ends)]
        """For each operator the positions of its knobs among all: [n_knobs of it]."""
        lowers = frozenset[str]().union(*(operator.options_type.lowers for operator in operators))
        names = ("macs", "params", "size_bytes", *(["bops"] if self.basis.storage.coded else []))
        self.metrics = tuple(name for name in names if name in lowers)
        self._file = file_of(self.basis.terms, self.original, self.basis.storage)
        self._added: dict[str, Cost] = {}
        self._whole = self.basis.terms.sheet(self.basis.terms.whole)
        self._stages: list[tuple[bytes, Sheet]] = []
        self._last: tuple[bytes, list[Sheet]] = (b"", [])
        self._many = AtOnce(self._whole, operators, self._places)
        self._layers: LayerSequence | None = None
        self.__dict__.pop("_legal", None)  # of the knobs before

    def __reduce__(self) -> tuple[Any, ...]:
        # Recording and analysing again is quick and exact; a graph's names need not survive pickling.
        left = self.operator(Channels).left if self.has(Channels) else {}
        return _remake, (self.original, *self._arguments, self._added, left)

    def has(self, kind: type[Operator]) -> bool:
        """Whether an operator of this kind is among those of the space."""
        return any(isinstance(operator, kind) for operator in self.operators)

    def operator(self, kind: type[SomeOperator]) -> SomeOperator:
        """The operator of this kind; a `SpaceError` if there is none."""
        for operator in self.operators:
            if isinstance(operator, kind):
                return operator
        names = ", ".join(operator.name for operator in self.operators)
        raise SpaceError(f"expected a space with the operator {kind.name!r}, got one of {names}")

    @property
    def groups(self) -> tuple[Group, ...]:
        """The coupled groups of channels whose width is chosen."""
        return self.basis.groups

    @property
    def packed(self) -> bool:
        """Whether the network's file is a packed one."""
        return self.basis.storage.packed

    @property
    def any_batch(self) -> bool:
        """Whether the network runs on batches of another size than that on which it was recorded."""
        return any(VARIES in node.meta for node in self.original.graph.nodes)

    # What a choice costs

    def add_cost(self, metric: str, cost: Cost, *, anew: bool = False) -> None:
        """Let budgets limit `metric` too: `cost(levels)`, of [n_knobs], or `OfSheet`, never falls when a level rises.

        Pickled with the space. One that is there is a `SpaceError`, unless added before and read `anew` by all.
        """
        if metric in self.metrics and not (anew and metric in self._added):
            raise SpaceError(f"the space has the cost {metric!r} already; give the new one another name")
        self._added = {**self._added, metric: cost}  # a copy of the space keeps its own
        self.metrics = tuple(dict.fromkeys((*self.metrics, metric)))

    def cost_of_levels(self, levels: np.ndarray, metric: str) -> float:
        """The cost of the network at `levels`, [n_knobs]; inactive knobs make no difference."""
        if (added := self._added.get(metric)) is not None and not isinstance(added, OfSheet):
            return added(levels)
        return float(self._read(metric, self.sheet(levels)))

    def costs_of_levels(self, levels: np.ndarray, metric: str) -> np.ndarray:
        """The same costs of many networks, found at once: `levels` [n, n_knobs], result [n]."""
        if len(levels) < MANY or not self.at_once([metric]):
            return super().costs_of_levels(levels, metric)
        return np.concatenate([np.asarray(self._read(metric, sheet)) for sheet in self._many.sheets(levels)])

    def _read(self, metric: str, sheet: Sheet) -> float | np.ndarray:
        """The cost that a sheet, of one network or many, comes to."""
        if isinstance(added := self._added.get(metric), OfSheet):
            return added.read(sheet)
        return self._file.bytes(sheet) if metric == "size_bytes" else METRICS[metric](sheet)

    def at_once(self, metrics: Iterable[str]) -> bool:
        """All costs are, but for those that were added and are known of one network at a time."""
        added = (self._added[metric] for metric in metrics if metric in self._added)
        return all(isinstance(cost, OfSheet) and cost.many for cost in added)

    def points(self, levels: np.ndarray) -> list[Point]:
        """The canonical Points of many networks whose levels, [n, n_knobs], are legal."""
        names = [knob.name for knob in self.knobs]
        return [Point(list(zip(names, row, strict=True))) for row in self._many.canonical(levels).tolist()]

    def sheet(self, levels: np.ndarray) -> Sheet:
        """The price sheet of the network at `levels`, [n_knobs]."""
        return self._sheets(levels)[-1]

    def _sheets(self, levels: np.ndarray) -> list[Sheet]:
        """The price sheet after each operator, the last that of the whole network at `levels` ([n_knobs])."""
        whole = levels.tobytes()
        if self._last[0] == whole:
            return self._last[1]
        sheets: list[Sheet] = []
        sheet, known = self._whole, True
        for i, (operator, places) in enumerate(zip(self.operators, self._places, strict=True)):
            own = levels[places]
            key = own.tobytes()
            known = known and i < len(self._stages) and self._stages[i][0] == key
            if known:
                sheet = self._stages[i][1]
            else:
                sheet = operator.price(sheet, own)
                del self._stages[i:]
                self._stages.append((key, sheet))
            sheets.append(sheet)
        self._last = (whole, sheets)
        return sheets

    def active(self, levels: np.ndarray) -> np.ndarray:
        """Whether each knob makes a difference to the network at `levels` ([n_knobs]): [n_knobs] bool."""
        out = np.empty(len(self.knobs), dtype=bool)
        stages = zip(self.operators, self._places, self._sheets(levels), strict=True)
        for operator, places, sheet in stages:
            out[places] = operator.active(sheet, levels[places])
        return out

    def canonical(self, levels: np.ndarray) -> np.ndarray:
        """The one form of all levels that make the same network as `levels`: [n_knobs]."""
        out = levels.copy()
        before = self._whole
        for operator, places, sheet in zip(self.operators, self._places, self._sheets(levels), strict=True):
            out[places] = operator.canonical(before, levels[places])
            before = sheet
        return out

    def original_cost(self, metric: str) -> float:
        """What the original costs as it is, without what the file of a network that was changed takes besides."""
        if metric != "size_bytes":
            return self.cost(self.original_point, metric)
        storage = replace(self.basis.storage, coded=(), parts=None)
        sheet = self._whole
        for operator, places in zip(self.operators, self._places, strict=True):
            if operator.name == "sparsity":
                sheet = operator.price(sheet, self.original_levels[places])
        return float(file_of(self.basis.terms, self.original, storage).bytes(sheet))

    def reference(self, limits: Mapping[str, float]) -> Point:
        """What others are compared with: the original."""
        return self.original_point

    @property
    def narrowest(self) -> np.ndarray:
        """The levels at which every amount is as small as it can be, and no layer is gone: [n_knobs]."""
        return np.where(self._is_a("amount"), self.lowest, self.original_levels)

    # What a choice means

    def plan(self, point: Point, scores: Scores | None = None) -> Plan:
        """What each operator does to the network at `point`, which is legal.

        `scores`: site -> what each of its parts matters, as each operator has it; by default the weights decide.
        """
        levels = self.levels(self.point(self.levels(point).tolist()))  # illegal levels are refused
        steps: list[Step] = []
        changed = not np.array_equal(levels, self.original_levels)
        stages = zip(self.operators, self._places, self._sheets(levels), strict=True)
        for operator, places, sheet in stages:
            step = operator.step(sheet, levels[places], scores)
            # An empty one says in which form the file is that was priced, unless it is the original's.
            if step != operator.step_type() or (step.packed and changed):
                steps.append(step)
        return Plan(tuple(steps))

    def cut(self, plan: Plan) -> Cut:
        """Which channels and calls `plan` removes; a `SpaceError` if it keeps what a narrowed space has not."""
        cut = cut_of(plan)
        return self.operator(Channels).whole(cut) if self.has(Channels) else cut

    def surgery(self, plan: Plan) -> fx.GraphModule:
        """A new network without the channels and calls that `plan` removes, and nothing else done to it."""
        return self.basis.recorded.build(self.cut(plan))

    def build(self, plan: Plan) -> fx.GraphModule:
        """A new network, smaller for real, with the original's module names; the original is untouched."""
        return reformed(self.surgery(plan), plan)

    def slices(self, plan: Plan) -> dict[str, LayerSlice]:
        """For every convolution and linear layer left, the channels that `plan` keeps, by the layer's name."""
        return self.basis.recorded.slices(self.cut(plan))

    def kept_in_value(self, node: str, plan: Plan) -> tuple[np.ndarray, ...]:
        """What `plan` keeps of the tensor that a node of the network's graph computes: indices along each dimension.

        A `SpaceError` for a node that computes no tensor, or that is gone.
        """
        recorded, cut = self.basis.recorded, self.cut(plan)
        labelled = recorded.labelled(node)
        if labelled is None:
            raise SpaceError(f"no node {node!r} of this network's graph computes a tensor")
        kept = recorded.kept(cut)
        if not recorded.without(map(recorded.block, cut.removed)).alive[recorded.wiring.position[node]]:
            raise SpaceError(f"node {node!r} of the graph went with a removed block: compare other layers, or none")
        return tuple(kept.indices(labels) for labels in labelled)

    def with_weights(self, network: nn.Module) -> NetworkSpace:
        """This space on `network`, which has the structure and the names of its original."""
        space = NetworkSpace(network, *self._arguments)
        for metric, cost in self._added.items():
            space.add_cost(metric, cost)
        return space

    def narrowed(self, network: nn.Module, plan: Plan) -> NetworkSpace:
        """What `network`, built from `plan` and trained since, can still lose, in the numbering of this space.

        What the plan removed stays removed: knobs end at the levels it keeps, and plans choose among what it keeps.
        The weights are those of `network`; the new `original` has the shape of the old one, with zeros where channels
        are gone, and computes what `network` computes, unless it normalises over channels.
        """
        if len(self.operators) > 1 or not self.has(Channels):
            names = " and ".join(operator.name for operator in self.operators)
            raise SpaceError(
                f"a space of {names} cannot be narrowed in stages: search it in one go, or search channels"
            )
        cut = self.cut(plan)
        narrowed = copy.copy(self)
        narrowed.original = restore(self.basis.analysis, self.basis.recorded.kept(cut), network)
        recorded = Recorded(narrowed.original)
        basis = replace(self.basis, recorded=recorded, analysis=recorded.analysis, known={})
        channels = self.operator(Channels).narrowed(basis, cut.kept)
        narrowed.basis = channels.basis
        narrowed._take((channels,))
        for metric, cost in self._added.items():
            narrowed.add_cost(metric, cost)
        return narrowed

    # What an agent may look at

    @property
    def feature_names(self) -> tuple[str, ...]:
        """The columns of `features`: of the layer, then which kind of knob it is, if there are several."""
        layer = ("index", "out_channels", "in_channels", "height", "width", "stride", "kernel", "macs")
        return (*layer, *self._marks)

    @property
    def _marks(self) -> tuple[str, ...]:
        """The kinds of knobs that the operators offer, but the first kind of amount."""
        amounts = [mark for operator in self.operators for mark in operator.marks if mark == operator.name]
        return tuple(mark for operator in self.operators for mark in operator.marks if mark not in amounts[:1])

    @staticmethod
    def _mark(knob: Knob) -> str:
        return knob.operator if knob.kind == "amount" else knob.unit

    def features(self) -> np.ndarray:
        """What is known of each knob's layer, each column scaled to [0, 1]: [n_knobs, n_features].

        The static part of the AMC state (He et al. 2018, section 3.1): t, n, c, h, w, stride, k, FLOPs[t]. A block has
        the MACs that go with it, a skip has none.
        """
        layer = np.empty((len(self.knobs), 7))
        for operator, places in zip(self.operators, self._places, strict=True):
            layer[places] = operator.described()
        marks = np.array([[self._mark(knob) == mark for mark in self._marks] for knob in self.knobs], dtype=float)
        index = np.arange(len(self.knobs))[:, None]
        return scaled(np.hstack([index, layer, marks.reshape(len(self.knobs), -1)]))

    def sequence(self, point: Point) -> np.ndarray:
        """The network as rows, as a recurrent network reads them: float32 [n_rows, n_columns], in [0, 1].

        Where blocks may go these are the layers that remain, in the order in which they run, which
        `search_spaces.spaces.layers` describes; else the knobs.
        """
        if not self.has(Depth):
            return super().sequence(point)
        depth = self.operator(Depth)
        if self._layers is None:
            self._layers = LayerSequence(self.basis.recorded, self.basis.analysis, self.basis.terms)
        levels = self.canonical(self.levels(point))
        own = levels[self._places[self.operators.index(depth)]]
        sheet = self._sheets(levels)[-1]
        remaining = depth.pattern(own, self.basis.terms).remaining
        return self._layers(remaining, sheet.widths, depth.additions(own))


def scaled(table: np.ndarray) -> np.ndarray:
    """`table`, [rows, columns], with each column stretched to [0, 1]; a constant one becomes 0."""
    span = table.max(axis=0) - table.min(axis=0)
    stretched: np.ndarray = (table - table.min(axis=0)) / np.where(span > 0, span, 1.0)
    return stretched


def _in_order(operators: Mapping[str, Any]) -> list[tuple[type[Operator], Any]]:
    """The operators in the order of their steps, each with its options."""
    for name in operators:
        if name not in OPERATORS:
            raise SpaceError(f"unknown operator {name!r}: expected some of {', '.join(OPERATORS)}")
        for other, why in OPERATORS[name].options_type.excludes.items():
            if other in operators:
                raise SpaceError(f"{name} and {other} cannot be joined: {why}")
    out = []
    for name, kind in OPERATORS.items():
        if name in operators:
            given = operators[name]
            out.append((kind, given if isinstance(given, kind.options_type) else kind.options_type(**(given or {}))))
    return out


def _why_nothing(operators: Sequence[Operator]) -> str:
    channels = next((operator for operator in operators if isinstance(operator, Channels)), None)
    reasons = "; ".join(f"{item.name}: {item.reason}" for item in channels.fixed[:3]) if channels else "no block can go"
    return f"no channels of this network can change, so there is nothing to search ({reasons})"


def _remake(
    model: nn.Module,
    example_inputs: Sequence[Any],
    operators: Mapping[str, Any],
    added: Mapping[str, Cost],
    left: Mapping[str, np.ndarray],
) -> NetworkSpace:
    space = NetworkSpace(model, example_inputs, operators)
    if left:
        channels = space.operator(Channels)
        if any(len(left[group.name]) < group.size for group in channels.groups):
            space._take((channels.narrowed(space.basis, left),))
    for metric, cost in added.items():
        space.add_cost(metric, cost)
    return space

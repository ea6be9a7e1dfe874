"""Run the rules over a recorded network: what is tied to what, what must stay, what it costs."""

from __future__ import annotations

import operator
from math import isclose
from typing import Any

import numpy as np
from torch import fx, nn

from search_spaces.graph import rules_compute, rules_pixels, rules_shape
from search_spaces.graph.call import RULES, Call, Opaque
from search_spaces.graph.counting import MACS
from search_spaces.graph.labels import FIXED, SPLIT, fixed, movable
from search_spaces.graph.notes import Notes

__all__ = ["Analysis", "analysed", "rules_compute", "rules_pixels", "rules_shape"]


class Analysis(Notes):
    """Runs the rules over every call of a recorded network, in its order, and notes what they find."""

    def __init__(self, network: fx.GraphModule, no_grid: frozenset[str] = frozenset()) -> None:
        super().__init__(network, no_grid)
        values: dict[fx.Node, Any] = {}
        for node in network.graph.nodes:
            values[node] = self._visit(node, values)
            if _is_shape(node.meta.get("shape")) and values[node] is not None:
                self.values[node.name] = values[node]

    def broken_grids(self) -> frozenset[str]:
        """The calls whose two dimensions are no grid after all, somewhere else in the network."""
        labels, broken = self.labels, set[int]()
        dims = [along for tensor in self.state.values() for along in tensor]
        dims += [along for _, _, term in self.terms for along in term]
        for along in dims:
            if labels.is_grid(along) and labels.grid(along) is None:
                broken |= set(labels.parts(along).ravel().tolist()) - {FIXED}
        split = {
            name
            for name, outer, inner in self.grids
            if not broken.isdisjoint(np.concatenate([labels.parts(outer), labels.parts(inner)]).ravel().tolist())
            or any((labels.reason(int(label)) or "").startswith(SPLIT) for label in (*outer, *inner))
        }
        return frozenset(split) or (frozenset(name for name, *_ in self.grids) if broken else frozenset())

    def _visit(self, node: fx.Node, values: dict[fx.Node, Any]) -> Any:
        if node.op == "placeholder":
            shape = node.meta["shape"]
            if _is_shape(shape):
                self.batch = max(self.batch, shape[0]) if shape else self.batch
                return tuple(fixed(size) for size in shape)
            return None
        if node.op == "get_attr":
            return self.parameter(str(node.target))
        args = fx.map_arg(node.args, values.__getitem__)
        kwargs = fx.map_arg(node.kwargs, values.__getitem__)
        if node.op == "output":
            for tensor in rules_compute.labelled_in(args):
                for labels in tensor:
                    self.labels.fix(labels, "is an output of the network")
            return None
        if "shape" not in node.meta:
            return args[1] if node.op == "call_module" else self._size(node, args)  # a switch: as in evaluation
        return self._call(node, args, kwargs)

    def _size(self, node: fx.Node, args: Any) -> int:
        """A size computed while running, as the number it was while recording."""
        if node.target == "size":
            self.sizes[node.name] = args[0][args[1]]
            return len(args[0][args[1]])
        assert callable(node.target)
        size: int = node.target(*args)
        return size

    def _call(self, node: fx.Node, args: Any, kwargs: Any) -> Any:
        if node.op == "call_module":
            layer = self.network.get_submodule(str(node.target))
            name, kwargs = type(layer).__name__, {**self._layer_arguments(str(node.target), layer), **kwargs}
            name = next((base.__name__ for base in type(layer).__mro__ if base.__name__ in RULES), name)
        else:
            name = node.target if isinstance(node.target, str) else _function_name(node)
            name = name if name in RULES else name.removesuffix("_")
            args, kwargs = _positional_input(args, kwargs)
        self.kinds[node.name] = name
        call = Call(self, node, name)
        try:
            if name not in RULES:
                raise Opaque
            out = RULES[name](call, *args, **kwargs)
            if not _fits(out, node.meta["shape"]) or not isclose(call.macs, self._counted(node), rel_tol=1e-9):
                raise Opaque
            for tensor in rules_compute.labelled_in(out):
                for labels in tensor:
                    if len(labels) == 1:
                        self.labels.fix(labels, f"is the only channel of {node.name}")
            return out
        except Exception:  # Opaque, or a use that no rule foresaw: it must not break the rest
            return self._leave_alone(call, name, (args, kwargs))

    def _counted(self, node: fx.Node) -> float:
        """The multiply-accumulates a sample that a call took while it was recorded."""
        return float(node.meta.get(MACS, 0)) / self.batch

    def _layer_arguments(self, path: str, layer: nn.Module) -> dict[str, Any]:
        """The state of a layer as arguments of its rule; less than the rule wants where state is computed elsewhere."""
        if isinstance(layer, (nn.modules.dropout._DropoutNd, nn.RReLU)):
            return {}
        named = {key: f"{path}.{key}" for key in (*layer._parameters, *layer._buffers)}
        state = {
            key: self.parameter(name)
            for key, name in named.items()
            if name in self._tensors and key != "num_batches_tracked"
        }
        extra: dict[str, Any] = {
            key: getattr(layer, key) for key in ("num_groups", "normalized_shape") if hasattr(layer, key)
        }
        if isinstance(layer, (nn.modules.conv._ConvNd,)):
            extra |= {"groups": layer.groups, "stride": layer.stride}
        return {**state, **extra}

    def _leave_alone(self, call: Call, name: str, arguments: Any) -> Any:
        """What goes into a call that is not understood stays, and nothing is known of what comes out."""
        taken = [labels for tensor in rules_compute.labelled_in(arguments) for labels in tensor]
        if any(movable(labels) for labels in taken):
            self.opaque[call.layer] = name
        self.edits.pop(call.node.name, None)
        self.shaped.pop(call.node.name, None)
        self.terms = [term for term in self.terms if term[0] != call.node.name]
        if counted := self._counted(call.node):
            self.terms.append((call.node.name, counted, ()))
        self.layer_edits.pop(call.layer, None)
        for labels in taken:
            self.labels.fix(labels, f"goes into {name}, whose effect on channels is not known")
        return _fixed_like(call.node.meta["shape"])


def analysed(network: fx.GraphModule) -> Analysis:
    """The analysis of a recorded network, with two dimensions kept apart wherever that holds."""
    analysis = Analysis(network)
    while broken := analysis.broken_grids() - analysis.no_grid:
        analysis = Analysis(network, analysis.no_grid | broken)
    return analysis


def _function_name(node: fx.Node) -> str:
    if node.target is getattr:
        return str(node.args[1])
    if node.target is operator.getitem:
        return "getitem"
    return getattr(node.target, "__name__", str(node.target))


def _positional_input(args: Any, kwargs: Any) -> tuple[Any, Any]:
    """`f(input=x)` as `f(x)`; `getattr(x, name)` as `name(x)`."""
    if len(args) == 2 and isinstance(args[1], str):
        return args[:1], kwargs
    for name in ("input", "tensors"):
        if name in kwargs and not args:
            return (kwargs[name],), {key: value for key, value in kwargs.items() if key != name}
    return args, kwargs


def _is_shape(shape: Any) -> bool:
    """Whether a recorded shape is that of a single tensor."""
    return isinstance(shape, tuple) and all(isinstance(size, int) for size in shape)


def _fits(out: Any, shape: Any) -> bool:
    """Whether labels are as long as the recorded shape says."""
    if shape is None or not isinstance(shape, (tuple, list)):
        return True
    if all(isinstance(size, int) for size in shape):
        return isinstance(out, tuple) and tuple(len(labels) for labels in out) == tuple(shape)
    return all(_fits(a, b) for a, b in zip(out, shape, strict=True))


def _fixed_like(shape: Any) -> Any:
    if isinstance(shape, (tuple, list)) and all(isinstance(size, int) for size in shape):
        return tuple(fixed(size) for size in shape)
    if isinstance(shape, (tuple, list)):
        return tuple(_fixed_like(item) for item in shape)
    return None

"""Record what a network does on an example, as a graph that can be edited and run again.

The network runs for real, once. Every call of a torch function is recorded through `TorchFunctionMode`, and every
call of a torch.nn layer that holds state through a hook; so any forward that runs can be recorded, whatever Python
does in between. Sizes read from a tensor's shape stay questions (`TracedInt`), so the recorded network
still takes any batch size. `torch.fx.symbolic_trace` stops at the first `if` on a shape; `torch.export` does not,
but takes seconds, flattens the module hierarchy and bakes in whether the network trains.
"""

from __future__ import annotations

import copy
import operator
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_flatten, tree_map

from search_spaces.errors import TraceError


class TracedInt(int):
    """A size read from a tensor while recording: an ordinary int that remembers how it was computed."""

    _node: Callable[[], fx.Node]

    def __new__(cls, value: int, node: Callable[[], fx.Node]) -> TracedInt:
        """An int of this `value`, which `node()` computes anew in the recorded graph."""
        self = super().__new__(cls, value)
        self._node = node
        return self

    @property
    def node(self) -> fx.Node:
        """The graph node that computes the size."""
        return self._node()

    def _combine(self, op: Callable[[Any, Any], Any], a: Any, b: Any) -> Any:
        if not isinstance(a, int) or not isinstance(b, int):
            return NotImplemented
        value = op(int(a), int(b))

        def node() -> fx.Node:
            return self.node.graph.call_function(op, (_as_argument(a), _as_argument(b)))

        return TracedInt(value, _once(node))

    def __add__(self, other: Any) -> Any:
        return self._combine(operator.add, self, other)

    def __radd__(self, other: Any) -> Any:
        return self._combine(operator.add, other, self)

    def __sub__(self, other: Any) -> Any:
        return self._combine(operator.sub, self, other)

    def __rsub__(self, other: Any) -> Any:
        return self._combine(operator.sub, other, self)

    def __mul__(self, other: Any) -> Any:
        return self._combine(operator.mul, self, other)

    def __rmul__(self, other: Any) -> Any:
        return self._combine(operator.mul, other, self)

    def __floordiv__(self, other: Any) -> Any:
        return self._combine(operator.floordiv, self, other)

    def __mod__(self, other: Any) -> Any:
        return self._combine(operator.mod, self, other)

    def __reduce__(self) -> tuple[Any, ...]:
        return int, (int(self),)


def _once(make: Callable[[], fx.Node]) -> Callable[[], fx.Node]:
    """Call `make` at the first use only, so that a size nobody uses leaves no node behind."""
    made: list[fx.Node] = []

    def node() -> fx.Node:
        if not made:
            made.append(make())
        return made[0]

    return node


def _as_argument(value: Any) -> Any:
    return value.node if isinstance(value, TracedInt) else value


class _Recorder(TorchFunctionMode):
    """Writes every torch call into `graph`; `depth` > 0 means inside a layer that is recorded as one call."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.graph = fx.Graph()
        self.depth = 0
        self.nodes: dict[int, fx.Node] = {}
        self.constants: dict[str, Tensor] = {}
        self._alive: list[Any] = []  # an id is only unique among the living
        named = [*model.named_parameters(remove_duplicate=False), *model.named_buffers(remove_duplicate=False)]
        self._state = {id(tensor): name for name, tensor in reversed(named)}

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if self.depth:
            return func(*args, **kwargs)
        self.depth += 1
        try:
            out = func(*tree_map(_plain, args), **tree_map(_plain, kwargs))
            name = _name_of(func)
            if name in ("shape", "size"):
                return self._sizes(args[0], out, *args[1:], *kwargs.values())
            if _has_tensor(out) or name == "__setitem__":
                self.remember(out, self._call(func, name, args, kwargs))
            return out
        finally:
            self.depth -= 1

    def _sizes(self, tensor: Tensor, out: Any, dim: int = 0) -> Any:
        source = self._node_of(tensor)

        def traced(dim: int, value: int) -> TracedInt:
            return TracedInt(value, _once(lambda: self.graph.call_method("size", (source, dim))))

        if isinstance(out, int):
            return traced(dim, out)
        return torch.Size([traced(dim, value) for dim, value in enumerate(out)])

    def _call(self, func: Any, name: str, args: Any, kwargs: Any) -> fx.Node:
        graph_args, graph_kwargs = self.argument(args), self.argument(kwargs)
        if isinstance(getattr(func, "__self__", None), _GETSET):
            return self.graph.call_function(getattr, (graph_args[0], name))
        if name == "__getitem__":
            return self.graph.call_function(operator.getitem, graph_args)
        if getattr(torch.Tensor, name, None) is func:
            return self.graph.call_method(name, graph_args, graph_kwargs)
        return self.graph.call_function(func, graph_args, graph_kwargs)

    def argument(self, value: Any) -> Any:
        """`value` as an argument in the graph: tensors and traced sizes become nodes."""
        if isinstance(value, Tensor):
            return self._node_of(value)
        if isinstance(value, TracedInt):
            return value.node
        if isinstance(value, dict):
            return {key: self.argument(item) for key, item in value.items()}
        if isinstance(value, slice):
            return slice(*(self.argument(part) for part in (value.start, value.stop, value.step)))
        if isinstance(value, list):
            return [self.argument(item) for item in value]
        if isinstance(value, tuple):
            items = [self.argument(item) for item in value]
            return type(value)(*items) if hasattr(value, "_fields") else tuple(items)
        return value

    def _node_of(self, tensor: Tensor) -> fx.Node:
        if id(tensor) not in self.nodes:
            name = self._state.get(id(tensor))
            if name is None:  # a tensor the model keeps outside its state, or made out of the recorder's sight
                name = f"_constant_{len(self.constants)}"
                self.constants[name] = tensor.detach().clone()
            self.remember(tensor, self.graph.get_attr(name))
        return self.nodes[id(tensor)]

    def remember(self, out: Any, node: fx.Node) -> None:
        """Note that `out`, a tensor or a nest of them, is what `node` computes; record its shape."""
        self._alive.append(out)
        node.meta["shape"] = tree_map(lambda x: tuple(x.shape) if isinstance(x, Tensor) else None, out)
        if isinstance(out, Tensor):
            self.nodes[id(out)] = node
        elif isinstance(out, (tuple, list)):
            for i, item in enumerate(out):
                if _has_tensor(item):
                    self.remember(item, self.graph.call_function(operator.getitem, (node, i)))

    @contextmanager
    def layers_as_one_call(self, model: nn.Module) -> Iterator[None]:
        """Record each call of a layer with state as one `call_module` node."""
        with ExitStack() as hooks:
            for name, module in model.named_modules():
                if name and is_layer(module):  # a model that is itself one layer is looked into
                    enter = module.register_forward_pre_hook(self._enter, with_kwargs=True)
                    leave = module.register_forward_hook(self._leave(name), with_kwargs=True)
                    hooks.callback(enter.remove)
                    hooks.callback(leave.remove)
            yield

    def _enter(self, module: nn.Module, args: Any, kwargs: Any) -> None:
        self.depth += 1

    def _leave(self, name: str) -> Callable[..., None]:
        def leave(module: nn.Module, args: Any, kwargs: Any, out: Any) -> None:
            if self.depth == 1:  # still inside, so that recording the call is not itself recorded
                self.remember(out, self.graph.call_module(name, self.argument(args), self.argument(kwargs)))
            self.depth -= 1

        return leave


_GETSET: Any = type(torch.Tensor.shape)  # how `x.shape` or `x.T` is looked up


def _plain(value: Any) -> Any:
    return int(value) if isinstance(value, TracedInt) else value


def _name_of(func: Any) -> str:
    owner: Any = getattr(func, "__self__", None)
    name: str = owner.__name__ if isinstance(owner, _GETSET) else getattr(func, "__name__", str(func))
    return name


def _has_tensor(value: Any) -> bool:
    return any(isinstance(leaf, Tensor) for leaf in tree_flatten(value)[0])


def is_layer(module: nn.Module) -> bool:
    """Whether a call of `module` is recorded as one: a torch.nn layer with state, or one that trains differently.

    Everything else is looked into, so that the shapes written into it can be edited: modules of the user's, and
    those of torch.nn that are made of others, such as a transformer's layer.
    """
    if not type(module).forward.__module__.startswith("torch.nn.modules"):
        return False
    if any(True for _ in module.children()):
        return isinstance(module, nn.MultiheadAttention)  # calls its own child's weight as a function
    has_state = any(True for _ in module.parameters()) or any(True for _ in module.buffers())
    return has_state or isinstance(module, (nn.modules.dropout._DropoutNd, nn.RReLU))


def trace(model: nn.Module, example_inputs: Sequence[Any]) -> fx.GraphModule:
    """The network as a graph that computes the same, with the model's own module and state-dict names.

    The graph is recorded in eval mode without gradients on `example_inputs` (positional arguments, batch first).
    Every node carries `meta["shape"]`, the shapes seen while recording. The model itself is not changed.

    Raises `TraceError` if the forward fails on the example, or if the recorded network does not give the same
    on other data, as when the forward branches on values.
    """
    was_training = [module for module in model.modules() if module.training]
    try:
        model.eval()
        with torch.no_grad():
            return _trace(model, tuple(example_inputs))
    finally:
        for module in was_training:
            module.training = True


def _trace(model: nn.Module, inputs: tuple[Any, ...]) -> fx.GraphModule:
    expected = _forward(model, inputs, "the example input")
    recorder = _Recorder(model)
    for i, value in enumerate(inputs):
        recorder.remember(value, recorder.graph.placeholder(f"input_{i}"))
    with recorder.layers_as_one_call(model), recorder:
        out = model(*inputs)
    if not _has_tensor(out):
        raise TraceError(f"expected a network that returns tensors, got {type(out).__name__}")
    recorder.graph.output(recorder.argument(out))
    _drop_unused_sizes(recorder.graph)

    root = copy.deepcopy(model)
    for name, constant in recorder.constants.items():
        root.register_buffer(name, constant, persistent=False)
    traced = fx.GraphModule(root, recorder.graph, class_name=type(model).__name__)
    _verify(model, traced, inputs, expected)
    return traced


def _drop_unused_sizes(graph: fx.Graph) -> None:
    """Remove sizes that were computed while recording but that no call uses."""
    for node in reversed(graph.nodes):
        if "shape" not in node.meta and node.op != "output" and not node.users:
            graph.erase_node(node)


def _forward(model: nn.Module, inputs: tuple[Any, ...], what: str) -> Any:
    try:
        return model(*inputs)
    except Exception as error:
        shapes = ", ".join(str(tuple(x.shape)) for x in inputs if isinstance(x, Tensor))
        raise TraceError(
            f"the network fails on {what} of shape {shapes}: {type(error).__name__}: {error}. "
            f"Give an example input that its forward accepts"
        ) from error


def _verify(model: nn.Module, traced: fx.GraphModule, inputs: tuple[Any, ...], expected: Any) -> None:
    """Run the recorded network on the example, and on other data in a larger batch where the model allows it."""
    _require_equal(traced(*inputs), expected, "on the example input itself")
    other = tuple(_other_batch(x) for x in inputs)
    try:
        expected = model(*other)
    except Exception:
        return  # the model is made for this batch size only
    try:
        got = traced(*other)
    except Exception as error:
        raise TraceError(f"the network cannot be recorded: it depends on the batch size ({error})") from error
    _require_equal(got, expected, "on other data: its forward branches on values or on the batch size")


def _other_batch(x: Any) -> Any:
    if not isinstance(x, Tensor) or not x.dim():
        return x
    other = torch.cat([x.flip(0), x[:1]])
    return other * 0.9 if other.is_floating_point() else other


def _require_equal(got: Any, expected: Any, when: str) -> None:
    for a, b in zip(tree_flatten(got)[0], tree_flatten(expected)[0], strict=True):
        if isinstance(b, Tensor) and not torch.allclose(a, b, rtol=1e-3, atol=1e-4, equal_nan=True):
            raise TraceError(
                f"the network cannot be recorded: run again, it gives something else {when} "
                f"(largest difference {(a - b).abs().max():.3g})"
            )

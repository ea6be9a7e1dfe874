"""What runs is written down, call by call: torch functions, and layers that hold state as one call each."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from math import prod
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_flatten, tree_map

from search_spaces.graph.plain_weights import OWNER
from search_spaces.graph.traced_int import TracedInt, once


class Recorder(TorchFunctionMode):
    """Writes every torch call into `graph`; `depth` > 0 means inside a layer that is recorded as one call."""

    def __init__(self, model: nn.Module, size: type[TracedInt]) -> None:
        super().__init__()
        self.graph = fx.Graph()
        self._size = size
        self.depth = 0
        self.nodes: dict[int, fx.Node] = {}
        self.constants: dict[str, Tensor] = {}
        self.outputs: dict[fx.Node, Tensor] = {}
        """What each call returned, if it was a tensor."""
        self._owners: list[str] = [""]
        """The modules whose forward runs, the innermost last."""
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
            if name in ("numel", "nelement"):
                return prod(self._sizes(args[0], args[0].shape), start=1)
            if has_tensor(out) or name == "__setitem__":
                self.remember(out, self._call(func, name, args, kwargs))
            return out
        finally:
            self.depth -= 1

    def _sizes(self, tensor: Tensor, out: Any, dim: int = 0) -> Any:
        source = self._node_of(tensor)

        def traced(dim: int, value: int) -> TracedInt:
            return self._size(value, once(lambda: self.graph.call_method("size", (source, dim))))

        if isinstance(out, int):
            return traced(dim, out)
        return torch.Size([traced(dim, value) for dim, value in enumerate(out)])

    def _call(self, func: Any, name: str, args: Any, kwargs: Any) -> fx.Node:
        graph_args, graph_kwargs = self.argument(args), self.argument(kwargs)
        if isinstance(getattr(func, "__self__", None), _GETSET):
            return self.graph.call_function(getattr, (graph_args[0], name))
        if name == "__getitem__":
            return self.graph.call_function(operator.getitem, graph_args)
        if (method := _METHODS.get(func)) is not None:
            return self.graph.call_method(method, graph_args, graph_kwargs)
        return self.graph.call_function(func, graph_args, graph_kwargs)

    def argument(self, value: Any) -> Any:
        """`value` as an argument in the graph: tensors and traced sizes become nodes."""
        if isinstance(value, Tensor):
            return self._node_of(value)
        if isinstance(value, TracedInt):
            return value.node if value.node.graph is self.graph else int(value)
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
        node.meta[OWNER] = self._owners[-1]
        node.meta["shape"] = tree_map(lambda x: tuple(x.shape) if isinstance(x, Tensor) else None, out)
        if isinstance(out, Tensor):
            self.nodes[id(out)], self.outputs[node] = node, out
        elif isinstance(out, (tuple, list)):
            for i, item in enumerate(out):
                if has_tensor(item):
                    self.remember(item, self.graph.call_function(operator.getitem, (node, i)))

    @contextmanager
    def layers_as_one_call(self, model: nn.Module) -> Iterator[None]:
        """Record each call of a layer with state as one `call_module` node."""
        with ExitStack() as hooks:
            for name, module in model.named_modules():
                enter = module.register_forward_pre_hook(partial(self._begin, name))
                leave = module.register_forward_hook(self._end)
                hooks.callback(enter.remove)
                hooks.callback(leave.remove)
                if name and is_layer(module):  # a model that is itself one layer is looked into
                    enter = module.register_forward_pre_hook(self._enter, with_kwargs=True)
                    leave = module.register_forward_hook(self._leave(name), with_kwargs=True)
                    hooks.callback(enter.remove)
                    hooks.callback(leave.remove)
            yield

    def _begin(self, name: str, module: nn.Module, args: Any) -> None:
        self._owners.append(name)

    def _end(self, module: nn.Module, args: Any, out: Any) -> None:
        self._owners.pop()

    def _enter(self, module: nn.Module, args: Any, kwargs: Any) -> None:
        self.depth += 1

    def _leave(self, name: str) -> Callable[..., None]:
        def leave(module: nn.Module, args: Any, kwargs: Any, out: Any) -> None:
            if self.depth == 1:  # still inside, so that recording the call is not itself recorded
                self.remember(out, self.graph.call_module(name, self.argument(args), self.argument(kwargs)))
            self.depth -= 1

        return leave


_METHODS = {getattr(torch.Tensor, name): name for name in dir(torch.Tensor) if callable(getattr(torch.Tensor, name))}
"""Method -> its name, which is not always the name that the function has: that of `__pow__` is `pow`."""

_GETSET: Any = type(torch.Tensor.shape)  # how `x.shape` or `x.T` is looked up


def _plain(value: Any) -> Any:
    return int(value) if isinstance(value, TracedInt) else value


def _name_of(func: Any) -> str:
    owner: Any = getattr(func, "__self__", None)
    name: str = owner.__name__ if isinstance(owner, _GETSET) else getattr(func, "__name__", str(func))
    return name


def has_tensor(value: Any) -> bool:
    """Whether there is a tensor in a nest of values."""
    return any(isinstance(leaf, Tensor) for leaf in tree_flatten(value)[0])


def is_layer(module: nn.Module) -> bool:
    """Whether a call of `module` is recorded as one: a torch.nn layer with state, or one that trains differently.

    Everything else is looked into, so that the shapes written into it can be edited: modules of the user's, and
    those of torch.nn that are made of others, such as a transformer's layer.
    """
    if not str(type(module).forward.__module__).startswith("torch.nn.modules"):  # None of a GraphModule
        return False
    if any(True for _ in module.children()):
        return isinstance(module, nn.MultiheadAttention)  # calls its own child's weight as a function
    has_state = any(True for _ in module.parameters()) or any(True for _ in module.buffers())
    return has_state or isinstance(module, (nn.modules.dropout._DropoutNd, nn.RReLU))

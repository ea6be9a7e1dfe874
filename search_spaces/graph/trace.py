"""Record what a network does on an example, as a graph that can be edited and run again.

The network runs for real, once. Every call of a torch function is recorded through `TorchFunctionMode`, and every
call of a torch.nn layer that holds state through a hook; so any forward that runs can be recorded, whatever Python
does in between. Sizes read from a tensor's shape stay questions (`TracedInt`), so the recorded network
still takes any batch size. `torch.fx.symbolic_trace` stops at the first `if` on a shape; `torch.export` does not,
but takes seconds, flattens the module hierarchy and bakes in whether the network trains.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, fx, nn

from search_spaces.errors import TraceError
from search_spaces.graph.counting import MACS
from search_spaces.graph.inplace import changes_in_place
from search_spaces.graph.plain_weights import fold_weights
from search_spaces.graph.prepare import plain_copy, unwrapped
from search_spaces.graph.recorder import Recorder, has_tensor
from search_spaces.graph.sizes import drop_unused_sizes
from search_spaces.graph.switches import SWITCH, WhileTraining, add_switches
from search_spaces.graph.traced_int import TracedInt, UncachedInt
from search_spaces.graph.verify import verify


def trace(model: nn.Module, example_inputs: Sequence[Any]) -> fx.GraphModule:
    """The network as a graph that computes the same, with the model's own module and state-dict names.

    The graph is recorded in eval mode without gradients on `example_inputs` (positional arguments, batch first).
    Every node carries `meta["shape"]`, the shapes seen while recording. The model itself is not changed.

    What wraps a network is taken off, and a weight that a layer computes from its state becomes a plain one.

    Raises `TraceError` if the model is no module to record, if the forward fails on the example, or if the recorded
    network does not give the same on other data, as when the forward branches on values.
    """
    model = unwrapped(model)
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
    plain = plain_copy(model)
    try:
        return _recorded(model, plain, inputs, expected, TracedInt)
    except TraceError:
        try:
            return _recorded(model, plain, inputs, expected, UncachedInt)
        except Exception:  # the first reason is the one that counts
            pass
        raise


def _recorded(
    model: nn.Module, plain: nn.Module, inputs: tuple[Any, ...], expected: Any, size: type[TracedInt]
) -> fx.GraphModule:
    """`plain`, a copy of `model`, as a graph."""
    recorder = _record(plain, inputs, size)
    graph = recorder.graph
    root = copy.deepcopy(plain)
    for name, constant in recorder.constants.items():
        root.register_buffer(name, constant, persistent=False)
    fold_weights(root, graph, recorder.outputs)
    if _may_train_otherwise(graph) and add_switches(graph, _record_training(plain, inputs, size)):
        root.add_module(SWITCH, WhileTraining())
    drop_unused_sizes(graph)
    traced = _written(root, graph, type(model).__name__)
    traced.eval()
    verify(model, traced, inputs, expected)
    _drop_unused_calls(traced)
    return traced


def _written(root: nn.Module, graph: fx.Graph, name: str) -> fx.GraphModule:
    """The graph as a module; `TraceError` if a call has an argument that cannot be written down."""
    try:
        return fx.GraphModule(root, graph, class_name=name)
    except SyntaxError as error:
        raise TraceError(
            f"the network calls a function with something that no graph can hold: {(error.text or '').strip()[:200]}. "
            f"Of a quantized network give the one that was quantized"
        ) from error


def _drop_unused_calls(traced: fx.GraphModule) -> None:
    """Remove calls whose value nobody uses, as that of where an attention looks, unless they change another's.

    What takes multiply-accumulates stays, used or not: the original is counted with all that it does.
    """
    for node in reversed(list(traced.graph.nodes)):
        needed = node.users or node.op in ("placeholder", "output") or node.meta.get(MACS)
        if not needed and not (node.all_input_nodes and changes_in_place(node, traced)):
            traced.graph.erase_node(node)
    traced.recompile()


def _record(model: nn.Module, inputs: tuple[Any, ...], size: type[TracedInt]) -> Recorder:
    """Record what `model` does in the mode it is in."""
    recorder = Recorder(model, size)
    for i, value in enumerate(inputs):
        recorder.remember(value, recorder.graph.placeholder(f"input_{i}"))
    with recorder.layers_as_one_call(model), recorder:
        out = model(*inputs)
    if not has_tensor(out):
        raise TraceError(f"expected a network that returns tensors, got {type(out).__name__}")
    recorder.graph.output(recorder.argument(out))
    return recorder


def _may_train_otherwise(graph: fx.Graph) -> bool:
    """Whether any function is called that does something else in training."""
    names = (getattr(node.target, "__name__", str(node.target)) for node in graph.nodes if node.op == "call_function")
    return any(part in name for name in names for part in ("dropout", "norm", "rrelu", "attention"))


def _record_training(model: nn.Module, inputs: tuple[Any, ...], size: type[TracedInt]) -> fx.Graph:
    """What a copy of `model` does in training; an empty graph if it cannot train on the example."""
    trained = copy.deepcopy(model)
    trained.train()
    try:
        with torch.random.fork_rng(devices=[]):
            recorder = _record(trained, inputs, size)
            fold_weights(trained, recorder.graph, recorder.outputs)
            return recorder.graph
    except Exception:  # as a batch norm over a single value does
        return fx.Graph()


def _forward(model: nn.Module, inputs: tuple[Any, ...], what: str) -> Any:
    try:
        return model(*inputs)
    except Exception as error:
        shapes = ", ".join(str(tuple(x.shape)) for x in inputs if isinstance(x, Tensor))
        raise TraceError(
            f"the network fails on {what} of shape {shapes}: {type(error).__name__}: {error}. "
            f"Give an example input that its forward accepts"
        ) from error

"""One ONNX file that holds several networks, or one in parts, and computes no more than it is asked for: `If` in ONNX.

The branch that is not taken is not computed, so that it takes no time either. Each part is written as any network is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

CHOICE, THRESHOLDS = "width", "thresholds"
"""The names of the inputs that say how much is computed: a scalar, and one number an exit but the last."""
LEFT_AT = "exit"
"""The name of the output that says at which exit the batch left."""
SLACK = 1e-6
"""By how much a width may be below the one meant."""


@dataclass(frozen=True)
class PartOfOnnx:
    """A part of a network that may end in it."""

    content: bytes
    """It makes the value that goes on and class scores; the last part only class scores."""
    given: tuple[str, ...]
    """The inputs of the whole network that it reads after the value that goes on, which the first part has not."""


def of_widths(contents: Sequence[bytes], widths: Sequence[float]) -> bytes:
    """One file of the networks `contents`, two or more with the same inputs and outputs, of ascending `widths`.

    It has one more input, the scalar `width`: the widest network that is not above it is computed, or the narrowest.
    """
    import onnx

    models = [onnx.load_from_string(content) for content in contents]
    inputs, outputs = models[-1].graph.input, models[-1].graph.output

    def branch(i: int) -> Any:
        prefix = f"{widths[i]:g}/"
        nodes, constants = _within(models[i].graph, prefix, [one.name for one in inputs])
        made = _renamed(outputs, [f"{prefix}{one.name}" for one in models[i].graph.output])
        return onnx.helper.make_graph(nodes, f"width {widths[i]:g}", [], made, initializer=constants)

    chosen, nodes, bounds = branch(0), [], []
    for i, width in enumerate(widths[1:], start=1):
        bound, enough = f"least for {width:g}", f"enough for {width:g}"
        bounds.append(onnx.helper.make_tensor(bound, onnx.TensorProto.FLOAT, [], [width - SLACK]))
        made = [f"{one.name} up to {width:g}" if width < widths[-1] else one.name for one in outputs]
        nodes = [
            onnx.helper.make_node("GreaterOrEqual", [CHOICE, bound], [enough]),
            onnx.helper.make_node("If", [enough], made, then_branch=branch(i), else_branch=chosen),
        ]
        chosen = onnx.helper.make_graph(nodes, f"up to {width:g}", [], _renamed(outputs, made))
    choice = onnx.helper.make_tensor_value_info(CHOICE, onnx.TensorProto.FLOAT, [])
    return _model(models[-1], nodes, "widths", [*inputs, choice], outputs, bounds)


def of_exits(parts: Sequence[PartOfOnnx], inputs: Sequence[str]) -> bytes:
    """One file of a network in `parts`, whose inputs have these names.

    It has one more input, `thresholds` [n_exits - 1], and one more output, the scalar `exit`. A batch leaves at the
    first exit at which the largest probability of each of its samples reaches the threshold: give it one sample at a
    time, and each leaves as soon as it may.
    """
    import onnx

    graphs = [onnx.load_from_string(part.content).graph for part in parts]
    scores = graphs[-1].output[0]
    exit_ = onnx.helper.make_tensor_value_info(LEFT_AT, onnx.TensorProto.INT64, [])
    described: dict[str, Any] = {}
    rest: _Rest | None = None
    for i in reversed(range(len(parts))):
        before = [f"part{i - 1}/{graphs[i - 1].output[0].name}"] if i else []
        given = [*before, *parts[i].given]
        pairs = zip(parts[i].given, graphs[i].input[len(before) :], strict=True)
        described |= {name: _typed(one, name) for name, one in pairs}
        rest = _from_part(i, graphs[i], given, rest, [scores, exit_])
    assert rest is not None
    ends = [scores.name, LEFT_AT]
    nodes = [*rest.nodes, *_passed_on(rest.made, ends)]
    thresholds = onnx.helper.make_tensor_value_info(THRESHOLDS, onnx.TensorProto.FLOAT, [len(parts) - 1])
    first = onnx.load_from_string(parts[0].content)
    told = [*(described[name] for name in inputs), thresholds]
    return _model(first, nodes, "exits", told, [scores, exit_], rest.constants)


@dataclass(frozen=True)
class _Rest:
    """What is computed from one part on."""

    nodes: list[Any]
    constants: list[Any]
    made: list[str]
    """The names of the class scores, and of the number of the exit."""


def _from_part(i: int, graph: Any, given: Sequence[str], rest: _Rest | None, ends: Sequence[Any]) -> _Rest:
    """Part `i`, and if not every sample of the batch is sure enough then, the `rest`. `ends` are like what is made."""
    import onnx

    prefix = f"part{i}/"
    nodes, constants = _within(graph, prefix, given)
    constants.append(onnx.helper.make_tensor(f"{prefix}number", onnx.TensorProto.INT64, [], [i]))
    own = [f"{prefix}{graph.output[-1].name}", f"{prefix}number"]
    if rest is None:
        return _Rest(nodes, constants, own)

    def branch(name: str, made: list[str], nodes: list[Any], constants: Sequence[Any] = ()) -> Any:
        return onnx.helper.make_graph(nodes, name, [], _renamed(ends, made), initializer=constants)

    left = [f"{name}/left" for name in own]
    made = [f"{prefix}scores", f"{prefix}exit"]
    stop, more = _confident(own[0], i, prefix)
    leave = branch(f"leave at exit {i}", left, _passed_on(own, left))
    go_on = branch(f"from part {i + 1}", rest.made, rest.nodes, rest.constants)
    choose = onnx.helper.make_node("If", [f"{prefix}leave"], made, then_branch=leave, else_branch=go_on)
    return _Rest([*nodes, *stop, choose], [*constants, *more], made)


def _passed_on(names: Sequence[str], others: Sequence[str]) -> list[Any]:
    """Nodes that give values other names."""
    import onnx

    return [onnx.helper.make_node("Identity", [a], [b]) for a, b in zip(names, others, strict=True)]


def _confident(scores: str, i: int, prefix: str) -> tuple[list[Any], list[Any]]:
    """Nodes that make `PREFIXleave`, whether every sample of the batch is sure enough at exit `i`, and constants."""
    import onnx

    make = onnx.helper.make_node
    names = [f"{prefix}{part}" for part in ("probabilities", "largest", "least", "threshold", "leave", "place", "one")]
    probabilities, largest, least, threshold, leave, place, one = names
    nodes = [
        make("Softmax", [scores], [probabilities], axis=1),
        make("ReduceMax", [probabilities, one], [largest], keepdims=0),
        make("ReduceMin", [largest], [least], keepdims=0),
        make("Gather", [THRESHOLDS, place], [threshold]),
        make("GreaterOrEqual", [least, threshold], [leave]),
    ]
    constants = [
        onnx.helper.make_tensor(place, onnx.TensorProto.INT64, [], [i]),
        onnx.helper.make_tensor(one, onnx.TensorProto.INT64, [1], [1]),
    ]
    return nodes, constants


def _within(graph: Any, prefix: str, given: Sequence[str]) -> tuple[list[Any], list[Any]]:
    """The nodes and weights of a graph for use within another, whose values `given` are its inputs."""
    import onnx

    own = onnx.compose.add_prefix_graph(graph, prefix)
    return [*_passed_on(given, [one.name for one in own.input]), *own.node], list(own.initializer)


def _typed(like: Any, name: str) -> Any:
    """The description of a value `name` of the type and shape of another."""
    import onnx

    described = onnx.ValueInfoProto()
    described.CopyFrom(like)
    described.name = name
    return described


def _renamed(values: Sequence[Any], names: Sequence[str]) -> list[Any]:
    return [_typed(one, name) for one, name in zip(values, names, strict=True)]


def _model(
    like: Any, nodes: Sequence[Any], name: str, inputs: Sequence[Any], outputs: Sequence[Any], constants: Sequence[Any]
) -> bytes:
    """The content of a file of a graph, in the versions of another model."""
    import onnx

    graph = onnx.helper.make_graph(nodes, name, inputs, outputs, initializer=constants)
    model = onnx.helper.make_model(graph, opset_imports=like.opset_import, ir_version=like.ir_version)
    onnx.checker.check_model(model, full_check=True)
    content: bytes = model.SerializeToString()
    return content

"""Which calls of a recorded network change what they are given, in place."""

from __future__ import annotations

from torch import fx, nn

_IN_PLACE_OPERATORS = (
    *("iadd", "isub", "imul", "itruediv", "__iadd__", "__isub__", "__imul__", "__itruediv__"),
    *("setitem", "__setitem__"),
)


def changes_in_place(node: fx.Node, network: nn.Module) -> bool:
    """Whether a call changes what it is given, by its name or its arguments."""
    if node.op == "call_module":
        return bool(getattr(network.get_submodule(str(node.target)), "inplace", False))
    name = node.target if isinstance(node.target, str) else getattr(node.target, "__name__", "")
    by_name = name in _IN_PLACE_OPERATORS or (name.endswith("_") and not name.endswith("__"))
    return by_name or node.kwargs.get("inplace") is True or any(value is True for value in node.args[1:])

"""What watches a network's operators, and is never compiled."""

from __future__ import annotations

from torch.utils._python_dispatch import TorchDispatchMode


class Uncompiled(TorchDispatchMode):
    """A mode that does not ask PyTorch's compiler to skip it: nothing is compiled here, and to ask imports the
    compiler, which takes a second."""

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False

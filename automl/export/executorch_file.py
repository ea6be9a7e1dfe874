"""ExecuTorch's format (`.pte`): the network lowered to XNNPACK, as PyTorch's runtime for phones and boards loads it.

ExecuTorch sets memory aside for the largest batch that a file may be given, so that a file has one: `MOST_SAMPLES`, or
one more than the example has. Only what goes into the network and comes out counts, as XNNPACK asks for its own memory
by the batch at hand.
"""

from __future__ import annotations

from functools import partial
from itertools import accumulate
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, fx, nn

from automl.errors import ExportError
from automl.export.onnx_file import run_with_tensors
from automl.export.subject import Run, Subject, cause_of, quiet
from automl.measures.backends.execu_torch import EXECUTORCH

MOST_SAMPLES = 64


def write_executorch(subject: Subject, path: Path) -> dict[str, int]:
    """Lower what XNNPACK can compute to it, and leave the rest to ExecuTorch's own kernels.

    Returns: the largest batch that the file takes, for the manifest.
    """
    most = max(MOST_SAMPLES, subject.batch + 1)
    program = _traced(subject, most)
    _spell_out(program)
    with quiet():
        from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
        from executorch.exir import to_edge_transform_and_lower

        lowered = to_edge_transform_and_lower(program, partitioner=[XnnpackPartitioner()])
        path.write_bytes(lowered.to_executorch().buffer)
    return {"most_samples": most}


def _traced(subject: Subject, most: int) -> torch.export.ExportedProgram:
    """The traced network with a batch of up to `most`.

    It is traced on more than half as many: of fewer, ExecuTorch 1.4 takes a smaller number for the most.
    """
    batch = torch.export.Dim("batch", min=1, max=most)
    inputs = tuple(torch.zeros_like(x) for x in subject.resized(most // 2 + 1))
    shapes = tuple({0: batch} if batched else {} for batched in subject.batched)
    try:
        return torch.export.export(_Named(subject.network), inputs, dynamic_shapes=(shapes,))
    except Exception as error:
        raise ExportError(
            f"torch.export cannot trace the network for batches of up to {most}: {cause_of(error)}. Write shapes in "
            f"forward as x.shape[0] or -1 instead of numbers, or leave executorch out of the formats"
        ) from error


def _spell_out(program: torch.export.ExportedProgram) -> None:
    """Write, in place, what ExecuTorch 1.4 needs said: the step of a pooling that is its kernel, the parts of a split
    one by one, and how the numbers lie that attention makes, which it takes apart into steps that lay them elsewhere;
    then what was a view is none."""
    aten, graph = torch.ops.aten, program.graph_module.graph
    for node in list(graph.nodes):
        if node.target is aten.max_pool2d.default and len(node.args) == 2:
            node.args = (*node.args, node.args[1])
        elif node.target is aten.scaled_dot_product_attention.default:
            with graph.inserting_after(node):
                laid = graph.call_function(aten.clone.default, (node,), {"memory_format": torch.contiguous_format})
            laid.meta = dict(node.meta)
            node.replace_all_uses_with(laid, delete_user_cb=lambda user, laid=laid: user is not laid)
        elif node.target is aten.view.default:
            node.target = aten.reshape.default
        elif node.target in (aten.chunk.default, aten.split.Tensor, aten.split_with_sizes.default):
            _slice(graph, node)
    program.graph_module.recompile()


def _slice(graph: fx.Graph, node: fx.Node) -> None:
    """Take the parts of a tensor one by one: with a split ExecuTorch 1.4 forgets that the batch varies before it."""
    whole, _, dim = cast(tuple[fx.Node, Any, int], (*node.args, 0)[:3])
    sizes = [part.shape[dim] for part in node.meta["val"]]
    if not all(isinstance(size, int) for size in sizes):  # the batch itself is split
        return
    ends = [0, *accumulate(sizes)]
    for user in list(node.users):
        place = cast(int, user.args[1])
        with graph.inserting_before(user):
            part = graph.call_function(torch.ops.aten.slice.Tensor, (whole, dim, ends[place], ends[place + 1]))
        part.meta = dict(user.meta)
        user.replace_all_uses_with(part)
        graph.erase_node(user)
    graph.erase_node(node)


class _Named(nn.Module):
    """A network whose tensors have names that begin with a letter, as ExecuTorch 1.4 must have them to fold norms."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, *inputs: Tensor) -> Any:
        """What the network makes of them."""
        return self.network(*inputs)


def read_executorch(subject: Subject, path: Path) -> Run:
    """Load the file into ExecuTorch's runtime, for as many threads as PyTorch has."""
    return partial(run_with_tensors, EXECUTORCH.load(path, torch.get_num_threads()))

"""The network that is recorded: a copy without wrappers, and with weights that hooks compute as plain ones."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, fx, nn
from torch.nn.utils import prune, remove_spectral_norm, remove_weight_norm
from torch.nn.utils.spectral_norm import SpectralNorm
from torch.nn.utils.weight_norm import WeightNorm

from search_spaces.errors import TraceError
from search_spaces.graph.attention import write_out


def unwrapped(model: object) -> nn.Module:
    """The module inside `torch.compile`, `DataParallel` and the like; `TraceError` for what is no module to record."""
    while isinstance(inner := _inside(model), nn.Module):
        model = inner
    if isinstance(model, type) and issubclass(model, nn.Module):
        raise TraceError(f"expected a network, got its class {model.__name__}: give an instance, {model.__name__}(...)")
    if isinstance(model, torch.export.ExportedProgram) or (isinstance(model, fx.GraphModule) and _is_exported(model)):
        raise TraceError(
            "expected a network as a torch.nn.Module, got one exported by torch.export, whose layers are taken apart: "
            "give the module that was exported"
        )
    if isinstance(model, torch.jit.ScriptModule):
        raise TraceError(
            "expected a network as a torch.nn.Module, got TorchScript, whose forward is compiled: give the module that "
            "was scripted or traced"
        )
    if not isinstance(model, nn.Module):
        raise TraceError(f"expected a network as a torch.nn.Module, got {type(model).__name__}")
    for name, tensor in (*model.named_parameters(), *model.named_buffers()):
        if tensor.is_meta:
            raise TraceError(
                f"expected a network with weights, but {name!r} is on the device 'meta', which has none: create it on "
                f"the CPU, or load its weights with load_state_dict(..., assign=True)"
            )
    return model


def _inside(model: object) -> object:
    """What a wrapper wraps, or None."""
    if isinstance(model, (nn.DataParallel, nn.parallel.DistributedDataParallel)):
        return model.module
    return getattr(model, "_orig_mod", None)  # torch.compile


def _is_exported(model: fx.GraphModule) -> bool:
    return any(
        isinstance(node.target, torch._ops.OpOverload) for node in model.graph.nodes if node.op == "call_function"
    )


def copied_model(model: nn.Module) -> nn.Module:
    """A deep copy of `model`, also where a hook has computed a weight with a gradient. Errors: `TraceError`."""
    memo = {
        id(tensor): tensor.detach().clone()
        for module in model.modules()
        for tensor in vars(module).values()
        if isinstance(tensor, Tensor) and tensor.grad_fn is not None
    }
    try:
        return copy.deepcopy(model, memo)
    except Exception as error:
        raise TraceError(
            f"the network cannot be copied ({type(error).__name__}: {error}): it must survive copy.deepcopy"
        ) from error


def plain_copy(model: nn.Module) -> nn.Module:
    """A copy of `model` in which no hook computes a weight, and attention is written out in layers.

    What weight norm, spectral norm and masks make of a weight stays. Errors: `TraceError`.
    """
    plain = copied_model(model)
    for module in plain.modules():
        module._compiled_call_impl = None
        for hook in list(module._forward_pre_hooks.values()):
            if isinstance(hook, WeightNorm):
                remove_weight_norm(module, hook.name)
            elif isinstance(hook, SpectralNorm):
                remove_spectral_norm(module, hook.name)
            elif isinstance(hook, prune.BasePruningMethod):
                prune.remove(module, hook._tensor_name)
    write_out(plain)
    return plain

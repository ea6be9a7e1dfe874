"""What tells one network's weights from another's."""

from __future__ import annotations

import hashlib

import torch
from torch import Tensor, nn


def fingerprint(network: nn.Module) -> str:
    """A hash of every parameter and buffer, by name."""
    digest = hashlib.sha256()
    for name, tensor in sorted(network.state_dict().items()):
        if not isinstance(tensor, Tensor):  # a module's own extra state
            continue
        digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype} ".encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:16]

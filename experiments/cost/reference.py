"""The reference procedure for the reward of one AMC episode, as the released code has it, for k x k convolutions.

Everything that the released `channel_pruning_env.py` does in an episode, and in its way: channels by the L1 norm of the
weights that read them; features of the original network sampled at 10 random positions of 3,000 training images;
weights refitted by ordinary least squares on those features (scikit-learn, no intercept); the zero-padded dense
network evaluated on 5,000 images. k x k convolutions are unfolded into rows, as Distiller does. Of its defects those
are left out that would only make it slower or wrong: batch norms stay in eval mode, hooks are removed.
"""

from __future__ import annotations

import copy
from collections.abc import Callable

import numpy as np
import torch
from sklearn.linear_model import LinearRegression
from torch import Tensor, nn
from torch.nn import functional as F

from automl.tasks.batches import Batch
from search_spaces import NetworkSpace, Point

IMAGES = 3000
POSITIONS = 10
BATCH = 50


def reward(space: NetworkSpace, point: Point, train: list[Batch], validation: list[Batch], seed: int) -> float:
    """Accuracy of the network that `point` means, dense and zero-padded, on `validation`."""
    generator = np.random.default_rng(seed)
    kept = {name: part.kept_in for name, part in space.slices(space.plan(point)).items()}
    original = space.original
    pruned = {n: k for n, k in kept.items() if len(k) < original.get_parameter(f"{n}.weight").shape[1]}
    features = sampled(original, list(pruned), train, generator)
    network = copy.deepcopy(original).eval()
    for name, (rows, outputs) in features.items():
        layer = network.get_submodule(name)
        assert isinstance(layer, nn.Conv2d)
        kernel = layer.weight[0, 0].numel()
        columns = (pruned[name][:, None] * kernel + np.arange(kernel)).ravel()
        fitted = LinearRegression(fit_intercept=False).fit(rows[:, columns], outputs)
        weight = torch.zeros_like(layer.weight).flatten(1)
        weight[:, columns] = torch.as_tensor(fitted.coef_, dtype=weight.dtype)
        with torch.no_grad():
            layer.weight.copy_(weight.view_as(layer.weight))
    right = total = 0
    with torch.no_grad():
        for inputs, targets in validation:
            right += int((network(*inputs).argmax(1) == targets).sum())
            total += len(targets)
    return right / total


def sampled(
    network: nn.Module, names: list[str], batches: list[Batch], generator: np.random.Generator
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Layer -> rows of its input, [images * POSITIONS, features], and of its output, [images * POSITIONS, out]."""
    taken: dict[str, tuple[list[Tensor], list[Tensor]]] = {name: ([], []) for name in names}

    def keep(name: str, layer: nn.Conv2d, x: Tensor, y: Tensor) -> None:
        height, width = y.shape[2:]
        top, left = generator.integers(0, height, POSITIONS), generator.integers(0, width, POSITIONS)
        unfolded = F.unfold(x, layer.kernel_size, padding=layer.padding, stride=layer.stride)  # [n, features, h * w]
        at = torch.as_tensor(top * width + left)
        rows, outputs = taken[name]
        rows.append(unfolded[:, :, at].transpose(1, 2).flatten(0, 1))
        outputs.append(y.flatten(2)[:, :, at].transpose(1, 2).flatten(0, 1))

    def watch(name: str) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], None]:
        return lambda layer, args, y: keep(name, layer, args[0], y)

    hooks = [network.get_submodule(name).register_forward_hook(watch(name)) for name in names]
    with torch.no_grad():
        for inputs, _ in batches:
            network(*inputs)
    for hook in hooks:
        hook.remove()
    return {name: (torch.cat(rows).numpy(), torch.cat(outputs).numpy()) for name, (rows, outputs) in taken.items()}

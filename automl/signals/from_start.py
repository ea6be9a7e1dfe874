"""A signal stored as what it differs by from a learnt start: in every number, in those of a sparse start, or in few.

The inner loop of meta-learning comes first, then Adam goes on, then weights are put on a grid as without a start; the
difference is what the file has. See `learnt_start.py`, `meta_pruning.py` and `gated_updates.py` for the three forms.
"""

from __future__ import annotations

import time
from collections.abc import Mapping

import torch
from torch import Tensor

from automl.errors import ConfigError, DataError
from automl.signals.encoding import FITTED, Effort, Encoded, on_grid, read_back
from automl.signals.fitting import Tell, fit
from automl.signals.gated_updates import GatedUpdates
from automl.signals.inr_file import layout_of, tensors_of
from automl.signals.learnt_start import WholeStart
from automl.signals.meta import Form, Learnt, Tensors, adapted_to
from automl.signals.signal import Signal, coordinates
from automl.signals.siren import Siren
from automl.signals.start_file import Start
from automl.training.methods.base import Course, Method
from automl.training.methods.target import Masks


class Held(Method):
    """Numbers that a signal may not change keep their values: their gradients are set to zero."""

    def __init__(self, masks: Mapping[str, Tensor]) -> None:
        """`masks`: parameter -> what may change, bool in its shape."""
        self._masks = Masks(masks)

    def before_step(self, course: Course) -> None:
        """Set the gradients to zero."""
        self._masks.hold_gradients(course.network)


def adapted(signal: Signal, start: Start) -> tuple[Siren, dict[str, Tensor]]:
    """The network after the inner loop, and which numbers the signal may change: bool by name, nothing for all.

    Errors: `DataError` for a signal of other axes or channels, `ConfigError` for a start of latents.
    """
    if start.form == "latent":
        raise ConfigError("expected a start to differ from, got a network of latents. Encode by its latents")
    if (len(signal.shape), signal.channels) != (start.shape.inputs, start.shape.outputs):
        raise DataError(
            f"expected a signal of {start.shape.inputs} axes and {start.shape.outputs} channels, as those that the "
            f"start was learnt from, got {len(signal.shape)} and {signal.channels}. Learn a start from signals like it"
        )
    network = start.network()
    form: Form = WholeStart(network, start.masks)
    if start.form == "gated":
        form = GatedUpdates(network, start.density)
    learnt, values = Learnt(start.shared, start.rates), signal.targets[None]
    found = {name: t[0].detach() for name, t in adapted_to(form, learnt, coordinates(signal.shape), values).items()}
    network.load_state_dict({name: t.detach() for name, t in form.parameters(start.shared, found, {}).items()})
    masks = {name: mask.bool() for name, mask in start.masks.items()}
    if isinstance(form, GatedUpdates):
        masks = most_open(form, start, found)
        network.load_state_dict(_only(masks, dict(network.named_parameters()), start.shared))
    return network, masks


def most_open(form: GatedUpdates, start: Start, found: Tensors) -> dict[str, Tensor]:
    """The numbers that a signal changes: of the part `density` of all, those whose gates are most open.

    `found`: what was adapted to the signal. Of gates that are equally open the one with the larger update comes first.
    """
    gates = form.gates(start.shared, found, {})
    scores = {
        name: gate + 1e-3 * (found[name].abs() / (found[name].abs().max() + 1e-30)) for name, gate in gates.items()
    }
    every = torch.cat([score.reshape(-1) for score in scores.values()])
    count = max(round(form.density * len(every)), 1)
    chosen = torch.zeros(len(every), dtype=torch.bool)
    chosen[every.topk(count).indices] = True
    parts = chosen.split([score.numel() for score in scores.values()])
    return {name: part.view_as(scores[name]) for name, part in zip(scores, parts, strict=True)}


def encode_from(
    signal: Signal, start: Start, start_content: bytes, most: int, effort: Effort, *, tell: Tell | None = None
) -> Encoded:
    """Store in at most `most` bytes what the signal differs by from `start`, whose file has `start_content`.

    Errors: `DataError`, `ConfigError`, `ExportError`, `NotFiniteError`.
    """
    began = time.perf_counter()
    torch.manual_seed(effort.seed)
    network, masks = adapted(signal, start)
    if masks and effort.rounding in ("adaround", "both"):
        raise ConfigError("a sparse or gated start holds numbers where they are: take the rounding nearest or trained")
    methods, steps = [Held(masks)] if masks else [], round(FITTED * effort.steps)
    fitted = fit(
        network, signal, steps, effort.rate, methods=methods, one_in=effort.part_of(signal), l1=effort.l1, tell=tell
    )
    first = tensors_of(start.network())
    there = [start.masks[n].bool() if n in start.masks else None for n, _ in network.named_parameters()]
    layout = layout_of(network, signal, start=start_content)
    content = on_grid(network, layout, signal, most, effort, start=first, there=there, methods=methods)
    return read_back(signal, content, start_content, began, fitted.psnr)


def _only(masks: Mapping[str, Tensor], parameters: Mapping[str, Tensor], shared: Tensors) -> Tensors:
    """The parameters where `masks` have them, and the start elsewhere."""
    return {name: torch.where(masks[name], p.detach(), shared[name]) for name, p in parameters.items()}

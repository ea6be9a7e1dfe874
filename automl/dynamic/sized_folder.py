"""Networks of many sizes as folders that deploy: the weights once, and one ONNX file that takes its size as an input.

`model.safetensors` and the manifest are those of any export; `sizes.onnx` takes a width, or a threshold an exit. What
is written is loaded again and compared, at every size, before the manifest that counts it is there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from automl.dynamic.multi_exit import MultiExit
from automl.dynamic.places import Place
from automl.dynamic.slimmable import Slimmable
from automl.errors import ExportError, in_a_line
from automl.export.bundle import Artifact, export
from automl.export.choosing_onnx import PartOfOnnx, of_exits, of_widths
from automl.export.formats import load_tensors
from automl.export.manifest import read_manifest, rebuilding, sha256
from automl.export.onnx_file import onnx_content
from automl.export.subject import Subject, largest_difference, run_module
from automl.measures.backends.exported import Exported
from automl.measures.backends.onnx_runtime import session
from automl.util.extras import require
from automl.util.files import replacing
from automl.util.modes import evaluating
from search_spaces import Plan, Recorded, trace

ONNX_FILE = "sizes.onnx"
SIZES = "sizes"
"""The manifest's key of what there is to choose."""
TOLERANCE = 1e-4
"""How far ONNX Runtime may be from the network, relative to the largest output."""
REBUILT = 1e-3
"""The same of a network rebuilt on another machine."""
SURE, UNSURE = 0.0, 2.0
"""Thresholds that every probability reaches, and none."""


def write_folder(
    network: Slimmable | MultiExit,
    example_inputs: Sequence[Tensor],
    out: str | Path,
    *,
    onnx: bool = True,
    told: Mapping[str, Any] | None = None,
) -> list[Artifact]:
    """Write a network of many sizes to the folder `out`.

    Args:
        network: slimmable, or with exits; it is not changed.
        example_inputs: the arguments of its forward for a batch.
        out: the folder; made if it does not exist.
        onnx: whether to write `sizes.onnx` too.
        told: what else the manifest says of the sizes, plain data: what each is worth, thresholds of policies.

    Raises:
        ExportError: a network or a folder that cannot be written, or a file that differs from the network.
        MissingPackageError: `onnx` needs packages that are not installed.
    """
    out, inputs = Path(out), tuple(example_inputs)
    sizes = {**_described(network), **(told or {})}
    if not onnx and (out / ONNX_FILE).exists():
        raise ExportError(f"{out} still holds {ONNX_FILE} of an earlier export: write it too, or choose another folder")
    if onnx:
        require("sizes.onnx", "onnx", "onnxscript", "onnxruntime")
        subject = Subject(network, inputs)
        content = _widths_onnx(network, subject) if isinstance(network, Slimmable) else _exits_onnx(network, subject)
        difference = _difference(network, subject, content)
        if not difference <= TOLERANCE:
            raise ExportError(
                f"{ONNX_FILE} does not compute what the network computes: the largest difference is {difference:.3g} "
                f"of the largest output, allowed is {TOLERANCE:g}. Leave it out: `onnx=False`"
            )
        with replacing(out / ONNX_FILE, "the network", ExportError, make_folder=True) as partial:
            partial.write_bytes(content)
        sizes["onnx"] = {"file": ONNX_FILE, "sha256": sha256(out / ONNX_FILE), "largest_difference": difference}
    return export(network, inputs, Plan(), out, ["safetensors"], manifest={SIZES: sizes})


def read_folder(out: str | Path, model: nn.Module) -> Slimmable | MultiExit:
    """The network of many sizes in a folder, in eval mode; no pickle is read.

    Args:
        out: what `write_folder` wrote.
        model: the network that it was made of; its weights do not matter, and it is not changed.

    Raises:
        ExportError: no such folder, files that are not those described, or another model.
    """
    out = Path(out)
    told, sizes = rebuilding(out), read_sizes(out)
    try:
        inputs = tuple(torch.zeros(one.shape, dtype=one.dtype) for one in told.inputs)
        network = _rebuilt(Recorded(trace(model, inputs)), sizes)
        load_tensors(network, told.weights, told.aliases)
    except ExportError:
        raise
    except Exception as error:  # sizes of somebody else's lead the rebuilding to whatever they like
        raise ExportError(
            f"the export in {out} does not fit the model given: {in_a_line(error)}. Pass the network it was made of"
        ) from error
    exported = Exported(out)
    made = tuple(torch.from_numpy(x) for x in exported.inputs(None))
    difference = exported.difference([x.numpy() for x in run_module(network.eval(), made)])
    if not difference <= REBUILT:
        raise ExportError(
            f"the network rebuilt from {out} does not compute what was exported: the largest difference is "
            f"{difference:.3g} of the largest output. Pass the network that it was made of"
        )
    return network


def read_sizes(out: str | Path) -> dict[str, Any]:
    """What the manifest in a folder says of the sizes there; an `ExportError` if it says nothing that can be read."""
    sizes = read_manifest(out).get(SIZES)
    if not isinstance(sizes, dict) or sizes.get("kind") not in ("widths", "exits"):
        raise ExportError(
            f"{out} holds no network of many sizes: write it with `export` of what slim or exits returned"
        )
    return sizes


def choices(sizes: Mapping[str, Any]) -> dict[float, float | list[float]]:
    """Width, or number of the exit -> what `sizes.onnx` is given to compute it. Errors: `ExportError`."""
    try:
        if sizes["kind"] == "widths":
            return {float(one["width"]): float(one["width"]) for one in sizes["widths"]}
        exits = len(sizes["places"]) + 1
        return {float(k): leaving_at(k, exits) for k in range(exits)}
    except (KeyError, TypeError, ValueError) as error:
        raise ExportError(
            f"the manifest does not say which sizes there are: {in_a_line(error)}. Write it again"
        ) from error


def _described(network: Slimmable | MultiExit) -> dict[str, Any]:
    """What a network is rebuilt from beside its weights."""
    if isinstance(network, Slimmable):
        plans = [{"width": width, "plan": plan.to_record()} for width, plan in network.plans.items()]
        return {"kind": "widths", "norms": network.norms, "widths": plans}
    places = [{"node": p.node, "share": p.share, "dim": p.dim, "channels": p.channels} for p in network.places]
    return {"kind": "exits", "places": places, "classes": network.classes, "hidden": network.hidden}


def _rebuilt(recorded: Recorded, sizes: Mapping[str, Any]) -> Slimmable | MultiExit:
    """The inverse of `_described`, with the weights of the recorded network."""
    if sizes["kind"] == "widths":
        plans = {float(one["width"]): Plan.from_record(one["plan"]) for one in sizes["widths"]}
        return Slimmable(recorded, plans, "private" if sizes["norms"] == "private" else "shared")
    return MultiExit(recorded, [Place(**one) for one in sizes["places"]], int(sizes["classes"]), int(sizes["hidden"]))


def _widths_onnx(network: Slimmable, subject: Subject) -> bytes:
    """The networks of all widths in one file."""
    contents = [onnx_content(Subject(network.plain(width), subject.inputs)) for width in network.widths]
    return of_widths(contents, network.widths)


class _Until(nn.Module):
    """A part of a network with exits, and the head after it."""

    def __init__(self, network: MultiExit, i: int) -> None:
        super().__init__()
        self.part = network.parts[i]
        self.head = network.heads[i] if i < len(network.heads) else None

    def forward(self, *inputs: Tensor) -> Any:
        """The value that goes on and the class scores, or of the last part the class scores alone."""
        value = self.part(*inputs)
        return value if self.head is None else (value, self.head(value))


def _exits_onnx(network: MultiExit, subject: Subject) -> bytes:
    """The parts of a network with exits in one file."""
    names = [f"input_{i}" for i in range(len(subject.inputs))]
    contents = []
    value: list[Tensor] = []
    for i in range(network.exits):
        asked = network.asked[i]
        given = [*value, *(subject.inputs[j] for j in asked)]
        # Recorded, so that the exporter sees arguments with names.
        piece = trace(_Until(network, i).cpu(), given)
        contents.append(PartOfOnnx(onnx_content(Subject(piece, given)), tuple(names[j] for j in asked)))
        value = run_module(piece, tuple(given))[:1]
    return of_exits(contents, names)


def _difference(network: Slimmable | MultiExit, subject: Subject, content: bytes) -> float:
    """How far ONNX Runtime is from the network with the content of a file, at the worst of all sizes."""
    opened = session(content, torch.get_num_threads())
    names = [one.name for one in opened.get_inputs()]
    own: list[tuple[float | list[float], nn.Module]]
    if isinstance(network, Slimmable):
        own = [(width, network.plain(width)) for width in network.widths]
    else:
        own = [(leaving_at(k, network.exits), network.until(k)) for k in range(network.exits)]
    worst = 0.0
    for size, one in own:
        with evaluating(one):
            for inputs, _ in subject.expected:
                given = [*(x.numpy() for x in inputs), np.array(size, dtype=np.float32)]
                made = opened.run(None, dict(zip(names, given, strict=True)))
                worst = max(worst, largest_difference([torch.from_numpy(made[0])], run_module(one, inputs)))
    return worst


def leaving_at(k: int, exits: int) -> list[float]:
    """The thresholds of `exits` exits with which every sample leaves at exit `k`."""
    return [UNSURE] * k + [SURE] * (exits - 1 - k)

"""An export folder: one file a format and a manifest that says what they are, written whole or not at all."""

from __future__ import annotations

import copy
import dataclasses
import importlib.metadata
import json
import math
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from automl.errors import ExportError, in_a_line
from automl.export.formats import FORMATS, PACKED, Format, format_names, format_of, formats_known, load_tensors
from automl.export.integer_onnx import mean_error
from automl.export.manifest import MANIFEST, MANIFEST_VERSION, rebuilding, sha256
from automl.export.packed import sparsity
from automl.export.subject import Subject, cause_of, largest_difference, run_module
from automl.measures import state_tensors
from automl.measures.alone import write_program
from automl.measures.backends.registry import backend_of, backends
from automl.util.extras import require
from search_spaces import CodeStep, Plan, SparsityStep, from_nothing, rebuild, trace
from search_spaces.codecs import reader
from search_spaces.graph.inputs import quantized_inputs

READER = "read_packed.py"
"""What a packed file is read with where only NumPy is: a copy of `search_spaces.codecs.reader`."""

ORIGINAL = "original"
"""The manifest's key of what the network was made from, and the name of its files."""

PROBE_VALUES = 32
PROBE_TOLERANCE = 1e-3
"""Loose, because another machine may add in another order; another network differs by far more."""
ROUNDED_TOLERANCE = 0.25
"""The same of networks that round what layers read. Where a number is halfway between two steps its last digit decides,
which hangs on the order of additions; what follows differs by a step, and some layers on rounding errors have nothing
in common any more. This tells a network from noise only, and the manifest says how often the same class comes out."""


@dataclass(frozen=True)
class Artifact:
    """One file of an export."""

    kind: str
    """The format's name, or "manifest"."""
    path: Path
    sha256: str
    bytes: int


def export(
    network: nn.Module,
    example_inputs: Sequence[Tensor],
    plan: Plan,
    out: str | Path,
    formats: Sequence[str],
    *,
    manifest: Mapping[str, Any],
    calibration: Sequence[Sequence[Tensor]] | None = None,
    original: nn.Module | None = None,
) -> list[Artifact]:
    """Write `network`, which `plan` made, to the folder `out` in each of `formats`, and a manifest.

    The files are `model.safetensors`, `model.pt2` (torch.export), `model.onnx`, `model-int8.onnx` (8-bit weights and
    inputs), `model.xml` with `model.bin` (OpenVINO) and `manifest.json`; the programs take any batch size, and all are
    in eval mode, and but for the integers in float32. Each file is loaded again and compared with the network on the
    example batch, on one of one sample more, and on a single sample; only when all agree do the files appear in `out`,
    the manifest last. `network` is not changed. Where the plan keeps single weights or changes their format,
    `model.safetensors` is a packed file, which `read_packed.py` beside it reads with NumPy alone; `measure.pyz` beside
    a program measures how fast it is.

    Args:
        network: the compressed network.
        example_inputs: one tensor for each argument of forward; those that vary with the sample have the shape
            [batch, ...].
        plan: what was kept; it goes into the manifest.
        out: the folder; made if it does not exist. Files of an earlier export are replaced.
        formats: names from `FORMATS`.
        manifest: what else the manifest says, e.g. study, point, measurements and budget: anything JSON can hold,
            Points, dataclasses and NumPy numbers. The keys that the export writes itself win.
        calibration: batches of inputs on which the ranges of 8-bit activations are found; None: the example inputs.
        original: what the network was made from, written beside the programs so that both are measured together.

    Returns:
        One `Artifact` a file, by format in the order given, and the manifest's last.

    Raises:
        ExportError: an unknown format, a network or a folder that cannot be written, or a file that differs from
            the network by more than its format's tolerance (relative to the largest output). Nothing is written.
        MissingPackageError: a format needs a package that is not installed.
    """
    formats = _known(formats)
    subject, out = Subject(network, example_inputs, calibration), Path(out)
    base = Subject(original, example_inputs) if original is not None else None
    try:
        out.mkdir(parents=True, exist_ok=True)
        beside = original_formats(formats) if base is not None else {}
        kinds = {name: format_of(name) for name in formats}
        _refuse_leftovers(out, [file for kind in [*kinds.values(), *beside.values()] for file in kind.files])
        with tempfile.TemporaryDirectory(prefix=".partial-", dir=out) as folder:
            stage = Path(folder)
            _write_all(stage, subject, base, plan, formats, manifest)
            for file in (file for kind in beside.values() for file in kind.files):
                (stage / file).replace(out / file)
            _copy_programs(plan, formats, out)
            # The manifest goes last: files that a crash left half replaced do not match the one that stands there.
            files = [(name, file) for name, kind in kinds.items() for file in kind.files]
            return [_publish(kind, stage / file, out) for kind, file in [*files, ("manifest", MANIFEST)]]
    except OSError as error:
        raise ExportError(f"cannot write the export to {out}: {error}. Choose another folder") from error


def _known(formats: Sequence[str]) -> list[str]:
    """The formats, each once. Errors: `ExportError`, `MissingPackageError`."""
    for name in formats:
        require(f"the format {name}", *format_of(name).packages)
    if not formats:
        raise ExportError(f"no export format given: choose from {', '.join(format_names())}")
    files = [file for name in dict.fromkeys(formats) for file in format_of(name).files]
    if twice := [file for file in files if files.count(file) > 1]:
        raise ExportError(f"two of the formats {', '.join(formats)} have the file {twice[0]}: export one of them")
    return list(dict.fromkeys(formats))


def _write_all(
    stage: Path,
    subject: Subject,
    base: Subject | None,
    plan: Plan,
    formats: Sequence[str],
    manifest: Mapping[str, Any],
) -> None:
    """Write network, original and manifest to the folder `stage`. Errors: `ExportError`."""
    files = {name: _write(name, _format(name, plan), subject, stage) for name in formats}
    if plan.packed:
        files = {name: entry | {"zeros": _zeros(name)} for name, entry in files.items()}
    content = _manifest(subject, plan, files, manifest)
    if base is not None:
        content[ORIGINAL] = {name: _write(name, kind, base, stage) for name, kind in original_formats(formats).items()}
    text = json.dumps(content, indent=2, default=_jsonable, allow_nan=False)
    (stage / MANIFEST).write_text(text + "\n", encoding="utf-8")


def original_formats(formats: Sequence[str]) -> dict[str, Format]:
    """Name -> format of the original that networks in `formats` are measured beside."""
    needed = {backend_of(one.reference or one.name).format for one in backends() if one.format in formats}
    return {name: _of_original(format_of(name)) for name in sorted(needed)}


def _of_original(kind: Format) -> Format:
    return replace(kind, file=kind.file.replace("model", ORIGINAL, 1))


def _copy_programs(plan: Plan, formats: Sequence[str], out: Path) -> None:
    """Put beside the files what reads and measures them without the project."""
    if plan.packed and "safetensors" in formats:
        shutil.copyfile(reader.__file__, out / READER)
    if any(backend.format in formats for backend in backends()):
        write_program(out)


def load(out: str | Path, model: nn.Module | None = None) -> nn.Module:
    """Rebuild the compressed network from `model.safetensors` and the manifest in `out`; no pickle is read.

    Where the plan names an architecture, the network is built from that, and needs no original.

    Args:
        out: the folder of an export that holds the safetensors format.
        model: the original network; its weights do not matter, only its structure. It is not changed. None for a
            network whose architecture was searched.

    Returns:
        The compressed network in eval mode, on the CPU in float32.

    Raises:
        ExportError: no export there, a manifest that is none, a file that is not the one it describes, weights that are
            NaN, or another original.
    """
    told = rebuilding(Path(out))
    inputs = tuple(torch.zeros(x.shape, dtype=x.dtype) for x in told.inputs)
    try:
        network = _same_structure(model, inputs, told.plan)
        load_tensors(network, told.weights, told.aliases)
    except ExportError:
        raise
    except Exception as error:  # a plan of somebody else's leads the rebuilding to whatever it likes
        raise ExportError(
            f"the export in {out} does not fit the model given: {in_a_line(error)}. Pass the original network that "
            f"the study started from"
        ) from error
    network.eval()
    nan = [name for name, tensor in network.state_dict().items() if tensor.is_floating_point() and tensor.isnan().any()]
    if nan:
        raise ExportError(f"the weights {nan[0]} in {told.weights} are NaN, so that they compute nothing: export again")
    difference = _unlike(_probe(network, inputs), [torch.tensor(values) for values in told.probe])
    if not difference <= (ROUNDED_TOLERANCE if told.plan.get(CodeStep).inputs else PROBE_TOLERANCE):
        raise ExportError(
            f"the network rebuilt from {out} does not compute what was exported: the largest difference is "
            f"{difference:.3g} of the largest output. Pass the original network that the study started from"
        )
    return network


def _same_structure(model: nn.Module | None, inputs: Sequence[Tensor], plan: Plan) -> nn.Module:
    """A network with the shapes that `plan` makes or leaves of `model`; its weights are still to be loaded."""
    original = from_nothing(plan)
    if original is not None and len(plan.steps) == 1:
        return original
    if original is None:
        if model is None:
            raise ExportError("what was exported is a part of an original network: pass that network as `model`")
        original = copy.deepcopy(model).to("cpu", torch.float32)
    # The knobs and their ranges play no part in replaying a plan, so the space of the search need not be known.
    return rebuild(trace(original, inputs), plan)


def _probe(network: nn.Module, inputs: Sequence[Tensor]) -> list[Tensor]:
    """The first values of each output on made-up inputs of the given shapes: what a rebuilt network must repeat.

    Two originals can differ in what no weight shows, a stride or an activation.
    """
    return _first_values(run_module(network, _made_up(inputs)))


def _made_up(inputs: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """Cosines of the shapes of `inputs`, and zeros for whole numbers."""
    return tuple(
        torch.arange(x.numel(), dtype=x.dtype).cos().reshape(x.shape) if x.is_floating_point() else torch.zeros_like(x)
        for x in inputs
    )


def _first_values(outputs: Sequence[Tensor]) -> list[Tensor]:
    return [x.flatten()[:PROBE_VALUES].float().nan_to_num(math.nan) for x in outputs]


def _without_nan(values: Tensor) -> list[float | None]:
    """The values as JSON has them: there is no NaN."""
    return [None if math.isnan(value) else value for value in values.tolist()]


def _unlike(got: Sequence[Tensor], probe: Sequence[Tensor]) -> float:
    """How far what a rebuilt network gives is from the `probe`; infinite if one is NaN where the other is not."""
    if any(x.shape != y.shape or (x.isnan() != y.isnan()).any() for x, y in zip(got, probe, strict=False)):
        return math.inf
    return largest_difference([x.nan_to_num(0.0) for x in got], [x.nan_to_num(0.0) for x in probe])


def _refuse_leftovers(out: Path, files: Sequence[str]) -> None:
    """Raise for files of an earlier export that would stand beside the manifest of another network."""
    known = [file for kind in formats_known().values() for file in (*kind.files, *_of_original(kind).files)]
    left = [file for file in known if file not in files and (out / file).exists()]
    if left:
        raise ExportError(
            f"{out} still holds {', '.join(left)} of an earlier export, which this one would not replace: name "
            f"that format too, or choose another folder"
        )


def _format(name: str, plan: Plan) -> Format:
    kind = PACKED if name == "safetensors" and plan.packed else format_of(name)
    rounds = kind.tolerance > 0 and bool(plan.get(CodeStep).inputs)
    most = max(kind.tolerance, ROUNDED_TOLERANCE)
    return replace(kind, tolerance=most, difference=mean_error) if rounds else kind


def _zeros(name: str) -> str:
    """What becomes of the zeros of a sparse network in the file of a format."""
    return "packed: each in its smallest form" if name == "safetensors" else "stored: as large as without sparsity"


def _write(name: str, kind: Format, subject: Subject, stage: Path) -> dict[str, Any]:
    """Write one format, read it again, compare; its entry in the manifest."""
    path = stage / kind.file
    _ = subject.expected  # a network that fails by itself says so, whatever the format
    try:
        more = kind.write(subject, path)
        run = kind.read(subject, path)
        difference = subject.difference(run, kind.difference)
        on_probe = _unlike(_first_values(run(_made_up(subject.inputs))), _probe(subject.network, subject.inputs))
    except (ExportError, OSError):
        raise
    except Exception as error:  # the exporters raise whatever they like
        raise ExportError(
            f"{name} cannot hold this network: {cause_of(error)}. Leave {name} out of the formats"
        ) from error
    if not difference <= kind.tolerance:
        raise ExportError(
            f"the {name} file does not compute what the network computes: the largest difference is "
            f"{difference:.3g} of the largest output, allowed is {kind.tolerance:g}. Leave it out of the formats"
        )
    return {
        "file": kind.file,
        "sha256": sha256(path),
        "bytes": path.stat().st_size,
        **({"beside": {file: sha256(stage / file) for file in kind.files[1:]}} if kind.beside else {}),
        "largest_difference": difference,
        "tolerance": kind.tolerance,
        **({"probe_difference": on_probe} if math.isfinite(on_probe) else {}),
        **({"rounding": ROUNDED_TOLERANCE} if any(quantized_inputs(subject.network)) else {}),
        **(more or {}),
    }


def _publish(kind: str, path: Path, out: Path) -> Artifact:
    size, digest = path.stat().st_size, sha256(path)
    return Artifact(kind, path.replace(out / path.name), digest, size)


def _manifest(subject: Subject, plan: Plan, files: dict[str, Any], more: Mapping[str, Any]) -> dict[str, Any]:
    inputs, outputs = subject.expected[0]

    def described(names: Sequence[str], tensors: Sequence[Tensor], batched: Sequence[bool]) -> list[dict[str, Any]]:
        return [
            {
                "name": name,
                "shape": ["batch", *x.shape[1:]] if free else list(x.shape),
                "dtype": str(x.dtype).removeprefix("torch."),
                "example": list(x.shape),
            }
            for name, x, free in zip(names, tensors, batched, strict=True)
        ]

    return {
        **more,
        "manifest_version": MANIFEST_VERSION,
        "plan": plan.to_record(),
        "files": files,
        "compared_on_batches_of": [len(batch[0]) for batch, _ in subject.expected],
        "inputs": described(subject.input_names, inputs, subject.batched),
        "outputs": described(subject.output_names, outputs, [x.ndim > 0 and len(x) == subject.batch for x in outputs]),
        "layers": _layers(subject.network),
        **({"sparsity": sparsity(subject.network, zeros)} if (zeros := list(plan.get(SparsityStep).counts)) else {}),
        "aliases": state_tensors(subject.network)[1],
        "probe": [_without_nan(values) for values in _probe(subject.network, inputs)],
        "libraries": _libraries(),
    }


def _layers(network: nn.Module) -> dict[str, Any]:
    """For each module that holds parameters: its kind and their shapes."""
    layers = {}
    for name, module in network.named_modules():
        shapes = {key: list(p.shape) for key, p in module.named_parameters(recurse=False)}
        if shapes:
            layers[name] = {"kind": type(module).__name__, **shapes}
    return layers


def _libraries() -> dict[str, str]:
    versions = {}
    formats = (package for kind in FORMATS.values() for package in kind.packages)
    for name in dict.fromkeys(("automl-compress", "torch", "numpy", "safetensors", *formats)):
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            versions[name] = "not installed"
    return versions


def _jsonable(value: Any) -> Any:
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, np.generic | np.ndarray):
        return value.tolist()
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: getattr(value, f.name) for f in dataclasses.fields(value)}
    raise TypeError(f"the manifest cannot hold {value!r} of type {type(value).__name__}")

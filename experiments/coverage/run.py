"""Compress third-party networks to half their MACs, and say what happened to each.

    python -m experiments.coverage.run COLLECTION [--networks resnet18 ... | --rest] [--onnx]

COLLECTION is pytorchcv, torchvision, timm or transformers; the table goes to `experiments/coverage/COLLECTION.md`, row
after row. A run of some networks, or of the rest of them, leaves the other rows as they are. Untrained weights; the
question is surgery.
"""

from __future__ import annotations

import argparse
import copy
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from torch import nn

from automl.zoo.hubs.base import let_torchvision_be_imported
from experiments.coverage.collections_of import COLLECTIONS, Made
from search_spaces import Channels, NetworkSpace, Plan, channel_space
from search_spaces.graph.counting import counting_macs
from search_spaces.graph.surgery import restore

SECONDS = 3600
"""Of wall clock, so many that a busy machine gives up no row: alone each takes one to three minutes."""

SPANS = ("layer_norm", "group_norm", "instance_norm", "LayerNorm", "GroupNorm", "RMSNorm", "rms_norm", "normalize")
"""Calls that normalise over channels, so that those that are left are computed otherwise than among zeros."""


def shapes(out) -> list[tuple[int, ...]]:
    if isinstance(out, torch.Tensor):
        return [tuple(out.shape)]
    return [s for item in (out.values() if isinstance(out, dict) else out) for s in shapes(item)]


def batch(inputs, n: int):
    return tuple(torch.cat([x, x])[:n] for x in inputs)


def macs_of(network: nn.Module, inputs) -> float:
    with torch.no_grad(), counting_macs() as macs:
        network(*inputs)
    return macs() / len(inputs[0])


def compress(made: Made, onnx: bool) -> str:
    """What happened, as the rest of a row of the table; an `AssertionError` if anything is wrong."""
    model, inputs = made
    start = time.perf_counter()
    space = channel_space(model, inputs)
    seconds = time.perf_counter() - start
    full, counted = space.cost_of_levels(space.highest, "macs"), macs_of(model, inputs)
    assert full == counted, f"the original takes {counted} MACs, the space says {full}"
    least = space.cost_of_levels(space.lowest, "macs")
    point = space.project(np.ones(len(space.knobs)), {"macs": max(full / 2, least)})
    plan = space.plan(point)
    small = space.build(plan)
    with torch.no_grad():
        for n in (1, 2, 3):
            before, after = shapes(model(*batch(inputs, n))), shapes(small(*batch(inputs, n)))
            assert before == after, f"outputs {after}, expected {before}"
    counted = macs_of(small, inputs)
    assert counted == space.cost(point, "macs"), f"counted {counted} MACs, predicted {space.cost(point, 'macs')}"
    strange = ", ".join(sorted(set(space.operator(Channels).not_understood.values()))) or "-"
    cells = [
        f"{full / 1e6:,.1f}",
        f"{counted / full:.2%}",
        f"{least / full:.1%}",
        str(len(space.groups)),
        str(len(space.operator(Channels).fixed)),
        strange,
        masked(space, plan, small, inputs),
        *([exported(small, inputs, plan)] if onnx else []),
        f"{seconds:.1f}",
    ]
    return " | ".join(cells)


def masked(space: NetworkSpace, plan: Plan, small: nn.Module, inputs) -> str:
    """Whether the small network computes what one of the original's shape does that has its weights, and zeros."""
    whole = restore(space.basis.analysis, space.basis.recorded.kept(space.cut(plan)), small)
    double = [tuple(x.double() if x.is_floating_point() else x for x in inputs)]
    default = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        with torch.no_grad():
            ours, theirs = (flat(copy.deepcopy(network).double()(*double[0])) for network in (small, whole))
    except RuntimeError as error:  # a network that computes in float32, whatever it is
        return f"float32 only ({str(error).splitlines()[0][:40]})"
    finally:
        torch.set_default_dtype(default)
    scale = max(float(theirs.abs().max()), 1.0)
    if float((ours - theirs).abs().max()) <= 1e-6 * scale:
        return "yes"
    spans = any(kind in SPANS for kind in space.basis.analysis.kinds.values())
    assert spans, f"computes something else than the masked one, by {float((ours - theirs).abs().max()):.2g}"
    return "norm"


def flat(out) -> torch.Tensor:
    if isinstance(out, torch.Tensor):
        return out.flatten()
    return torch.cat([flat(item) for item in (out.values() if isinstance(out, dict) else out)])


def exported(small: nn.Module, inputs, plan: Plan) -> str:
    """Whether the network runs in ONNX Runtime and gives the same: `export` compares."""
    from automl.export import export

    with tempfile.TemporaryDirectory() as folder:
        export(small, inputs, plan, Path(folder), ["onnx"], manifest={})
    return "yes"


INTRO = """# Which networks of other people can be compressed: {title}

    python -m experiments.coverage.run {name}{onnx}

Commit {commit}, torch {torch}. Untrained networks, widths as equal as half the MACs allow, or as narrow as it goes
where half cannot be reached. A network counts if its outputs keep their shapes for batches of 1, 2 and 3, and if its
MACs and those of the original, counted while they run, are those predicted. *Masked*: whether in float64 it computes
what the original does with zeros in the place of what went (`norm`: a norm spans channels, so that it cannot).

| network | MACs (M) | after | smallest | groups | partly fixed | not understood | masked | {more}analysis (s) |
| --- | --- | --- | --- | --- | --- | --- | --- | {line}--- |"""


def row(collection: str, name: str, onnx: bool) -> str:
    """What a process of its own says, so that one network cannot take the others along."""
    command = [sys.executable, "-m", "experiments.coverage.run", collection, "--one", name, *(["--onnx"] * onnx)]
    try:
        result = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS)
    except subprocess.TimeoutExpired:
        return f"| {name} | failed: it took more than {SECONDS} s |"
    if result.returncode == 0:
        return f"| {name} | {result.stdout.strip().splitlines()[-1]} |"
    lines = [line for line in result.stderr.strip().splitlines() if line.strip() and not line.startswith(" ")]
    return f"| {name} | failed: {lines[-1][:300] if lines else result.returncode} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("collection", choices=list(COLLECTIONS))
    parser.add_argument("--networks", nargs="*", help="only these; the other rows of the table stay")
    parser.add_argument("--rest", action="store_true", help="only those that are not in the table yet")
    parser.add_argument("--onnx", action="store_true", help="export each network and run the file too")
    parser.add_argument("--one", help="compress this network in this process and print its row")
    arguments = parser.parse_args()
    warnings.filterwarnings("ignore")
    name, collection = arguments.collection, COLLECTIONS[arguments.collection]
    if arguments.one:
        let_torchvision_be_imported()
        print(compress(collection.make(arguments.one), arguments.onnx))
        return
    rows = known(name) if arguments.rest or arguments.networks else {}
    for network in arguments.networks or [x for x in collection.names if x not in rows]:
        rows[network] = row(name, network, arguments.onnx)
        print(rows[network], flush=True)
        write(name, arguments.onnx, rows)  # as far as it has come, so that nothing is lost
    print(summary(name, rows))


def known(collection: str) -> dict[str, str]:
    """Network -> its row in the table as it is."""
    table = Path(__file__).with_name(f"{collection}.md").read_text().partition("| --- |")[2]
    return {line.split("|")[1].strip(): line for line in table.splitlines()[1:] if line.startswith("|")}


def summary(collection: str, rows: Mapping[str, str]) -> str:
    """How many of the networks tried were compressed."""
    shares = [line.split("|")[3].strip() for line in rows.values() if "| failed:" not in line]
    half = sum(float(share.rstrip("%")) <= 50.01 for share in shares)
    text = f"{len(shares)} of {len(rows)} compressed, {half} of them to half their MACs."
    names = COLLECTIONS[collection].names
    return text if len(rows) >= len(names) else f"{text} Of {len(names)} in the list, {len(rows)} were tried."


def write(name: str, onnx: bool, rows: Mapping[str, str]) -> None:
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True).stdout.strip()
    more, line = ("ONNX | ", "--- | ") if onnx else ("", "")
    intro = INTRO.format(
        **{"title": COLLECTIONS[name].title, "name": name, "onnx": " --onnx" * onnx},
        **{"commit": commit, "torch": torch.__version__, "more": more, "line": line},
    )
    listed = [rows[network] for network in COLLECTIONS[name].names if network in rows]
    text = "\n".join([intro, *listed, "", summary(name, rows), ""])
    Path(__file__).with_name(f"{name}.md").write_text(text)


if __name__ == "__main__":
    main()

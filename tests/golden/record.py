"""Writes what the code of today gives into the files beside this one, with which the tests compare that of tomorrow.

    python -m tests.golden.record                   all
    python -m tests.golden.record channels depth    these cases

The files are there to stay. Record a case anew only where a change of results is meant, and say so in the change log.
"""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from automl.export import export
from search_spaces import Plan
from tests.golden.cases import CASES, HERE, SPACES, TINY, made_up, outputs
from tests.golden.observed import PLANNED, built_record, draws, export_record, space_record


def write(name: str, record: dict[str, Any]) -> None:
    """One line for each key, and one for each element of a list of lists or of texts."""
    lines = []
    for key, value in record.items():
        several = isinstance(value, list) and not isinstance(value[0], int | float)
        rows = [json.dumps(item, separators=(",", ":")) for item in value] if several else []
        inner = "[\n" + ",\n".join(rows) + "\n]" if rows else json.dumps(value, separators=(",", ":"))
        lines.append(f"{json.dumps(key)}: {inner}")
    text = "{\n" + ",\n".join(lines) + "\n}\n"
    assert json.loads(text) == record
    (HERE / f"{name}.json").write_text(text, encoding="utf-8")


def space(name: str) -> dict[str, Any]:
    """The space of a case, some of its plans as the JSON of today, what they build, and the exported file of one."""
    case = CASES[name]
    setup = case.setup()
    drawn = draws(setup.space)
    points = [setup.space.point(chosen) for chosen in drawn["levels"][:PLANNED]]
    plans = [setup.space.plan(point) for point in points]
    with tempfile.TemporaryDirectory() as folder:
        exported = export_record(setup, plans[0], Path(folder))
    return {
        "drawn": drawn,
        **space_record(setup, case, drawn),
        "plans": [plan.to_json() for plan in plans],
        "built": [built_record(setup.space, plan) for plan in plans],
        "scored_plans": [
            {"plan": plan.to_json(), **built_record(setup.space, plan)} for plan in scored(setup.space, points[0])
        ],
        "export": exported,
    }


def scored(space: Any, point: Any) -> list[Plan]:
    """A plan by other scores than magnitude, as a study has it: of channels, or of the input channels of tensors."""
    if hasattr(space, "tensors"):
        sizes = {tensor.name: space.in_channels(tensor.name) for tensor in space.tensors}
    else:
        sizes = {group.name: group.size for group in space.groups}
    scores = {name: (made_up((size,), 7 * i).numpy() + 1).round(4) for i, (name, size) in enumerate(sizes.items())}
    return [space.plan(point, scores)]


def old_exports() -> None:
    """A folder for each space, as the export of today writes it, and what the network in it computes."""
    record = {}
    for name in SPACES:
        setup = replace(CASES[name], network=TINY, budget="params <= 80%").setup()
        space = setup.space
        chosen = draws(space)["levels"]
        if name == "depth":  # a block removed, and a skip added
            chosen = [one for one in chosen if one[:2] == [0, 1] and one[-1] == 1]
        plan = space.plan(space.point(chosen[0]))
        network = space.build(plan).eval()
        out = HERE / "exports" / name
        shutil.rmtree(out, ignore_errors=True)
        told = {"study": f"tiny-{name}", "budget": setup.config.budget}
        export(network, setup.problem.example_inputs, plan, out, ["safetensors"], manifest=told)
        record[name] = outputs(network)
    write("exports", record)


def main() -> None:
    """Record what is named, or all."""
    torch.set_num_threads(1)
    wanted = sys.argv[1:] or [*CASES, "exports"]
    for name in CASES:
        if name in wanted:
            write(name, space(name))
    if "exports" in wanted:
        old_exports()


if __name__ == "__main__":
    main()

"""Writes what the code of today gives into the files beside this one, with which the tests compare that of tomorrow.

    python -m tests.golden.record                   every space, and the studies
    python -m tests.golden.record channels depth    these spaces

The files are there to stay. Record anew only where a change of results is meant, and say so in the change log.
`exports` and `studies_v2` are written only when they are named: they stand for what users keep.
"""

from __future__ import annotations

import gzip
import json
import shutil
import sqlite3
import sys
import tempfile
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import yaml

from automl.export import export
from automl.store import open_store
from search_spaces import Plan
from tests.cli.conftest import automl as command
from tests.golden.cases import CASES, DATA, DIGITS, HERE, SPACES, TINY, made_up, outputs
from tests.golden.observed import PLANNED, built_record, draws, export_record, space_record
from tests.golden.ran import ELSEWHERE, next_points, study_record, unpack_database

OLD = {
    "channels": {"space": "channels", "budget": "macs <= 30%", "agent": "amc"},
    "depth": {
        "space": {"name": "depth", "skips": True},
        "budget": ["macs <= 40%", "params <= 60%"],
        "agent": "evolution",
        "finish": {"reconstruction": "as_searched"},
    },
    "weights": {"space": "weights", "budget": "size <= 30%", "agent": "amc"},
}
"""What the studies of the old database are, apart from what they share."""


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


def studies() -> None:
    """The trials of a study of each space."""
    with tempfile.TemporaryDirectory() as folder, open_store(Path(folder) / "study.db") as store:
        for name in SPACES:
            write(f"study_{name}", study_record(name, store))


def old_database() -> None:
    """A database with a finished study of each space, as users have them, and what the code of today says of it."""
    with tempfile.TemporaryDirectory() as folder:
        made, clean, later = (Path(folder) / name for name in ("study.db", "clean.db", "later.db"))
        for name in SPACES:
            model = {"name": "small_cnn", "weights": str(DIGITS / "small_cnn.safetensors")}
            shared = {"name": name, "model": model, "data": DATA, "baselines": ["random"], "trials": 3}
            raw = {**shared, **OLD[name], "runner": {"threads": 1}}
            file = Path(folder) / "study.yaml"
            file.write_text(yaml.safe_dump(raw))
            assert command("search", file, "--storage", made).code == 0
        with closing(sqlite3.connect(made)) as connection:
            for path in (folder, str(DIGITS)):
                for column in ("study.config", "artifact.path"):
                    table, _, field = column.partition(".")
                    connection.execute(f"UPDATE {table} SET {field} = replace({field}, ?, ?)", (path, ELSEWHERE))
            environment = json.dumps(
                {"python": "3.11", "torch": "2", "platform": "Linux", "cpu_count": 2, "threads": 1}
            )
            connection.execute("UPDATE study SET code_version = '0.1.0', environment = ?", (environment,))
            connection.commit()
            connection.execute("VACUUM INTO ?", (str(clean),))
        content = clean.read_bytes()
        (HERE / "studies_v2.db.gz").write_bytes(gzip.compress(content, 9, mtime=0))
        record = {}
        for name in SPACES:
            unpack_database(later)
            trials = command("trials", name, "--storage", later, "--format", "json").out
            record[f"trials of {name}"] = json.loads(trials)
            record[f"next of {name}"] = next_points(name, later)
        write("studies_v2", record)


def main() -> None:
    """Record what is named, or all but the old exports and the old database."""
    torch.set_num_threads(1)
    others = {"exports": old_exports, "studies": studies, "studies_v2": old_database}
    wanted = sys.argv[1:] or [*CASES, "studies"]
    for name in CASES:
        if name in wanted:
            write(name, space(name))
    for name, recorded in others.items():
        if name in wanted:
            recorded()


if __name__ == "__main__":
    main()

"""The import directions and third-party walls, read from the source of every module.

`search_spaces <- agents <- automl`; docs/design.md has them in words. A rule that is no test does not hold.
"""

from __future__ import annotations

import ast
import importlib
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import search_spaces

ROOT = Path(search_spaces.__file__).resolve().parent.parent
MAY_IMPORT = {
    "search_spaces": {"search_spaces"},
    "agents": {"agents", "search_spaces"},
    "automl": {"automl", "agents", "search_spaces"},
}
OURS = {*MAY_IMPORT, "experiments", "tests"}
WALLS = {
    "ray": ("automl/runners/",),
    "sqlalchemy": ("automl/store/",),
    "alembic": ("automl/store/",),
    "psycopg": ("automl/store/",),
    "optuna_dashboard": ("automl/dashboard/",),
    "optuna.storages": ("automl/store/",),
    "optuna.samplers": ("agents/",),
    "optuna": ("automl/store/", "automl/dashboard/", "agents/"),
    "botorch": ("agents/",),
    "gpytorch": ("agents/",),
    "onnx": ("automl/export/",),
    "vl_convert": ("automl/report/html/",),
    "jinja2": ("automl/report/html/",),
    "onnxruntime": ("automl/export/", "automl/measures/backends/"),
    "openvino": ("automl/measures/backends/", "automl/export/"),
    "executorch": ("automl/measures/backends/", "automl/export/"),
    "ai_edge_litert": ("automl/measures/backends/",),
    **dict.fromkeys(("litert_torch", "ai_edge_quantizer"), ("automl/export/",)),
    "pytest": ("automl/testing/",),
    **dict.fromkeys(("timm", "torchvision", "transformers"), ("automl/zoo/hubs/",)),
}
"""Library, or part of one -> the folders that may import it."""
ON_USE = {
    *("botorch", "gpytorch", "jinja2", "matplotlib", "onnx", "onnxruntime", "openvino", "optuna", "executorch"),
    *("optuna_dashboard", "pandas", "sklearn", "vl_convert", "ai_edge_litert", "litert_torch", "ai_edge_quantizer"),
}
"""Libraries slow to load: imported inside the function that needs them."""


@dataclass(frozen=True)
class Import:
    """`from module import name`, or `import module` with an empty name."""

    module: str
    name: str
    line: int
    level: int
    where: str
    """"module", "function" or "typing" (only for a type checker)."""

    @property
    def target(self) -> str:
        """What is reached: dotted, with the name."""
        return f"{self.module}.{self.name}" if self.name else self.module


def imports(source: str) -> Iterator[Import]:
    """Every import in a module, with where it stands."""
    yield from _imports(ast.parse(source), "module")


def _imports(node: ast.AST, where: str) -> Iterator[Import]:
    for child in ast.iter_child_nodes(node):
        inner = where
        if isinstance(child, ast.Import):
            for alias in child.names:
                yield Import(alias.name, "", child.lineno, 0, where)
        elif isinstance(child, ast.ImportFrom):
            for alias in child.names:
                yield Import(child.module or "", alias.name, child.lineno, child.level, where)
        elif isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
            inner = "function"
        elif isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            inner = "typing"
        yield from _imports(child, inner)


def breaches(path: str, source: str) -> list[str]:
    """The rules that the module at `path` (relative to the repository) breaks."""
    package = path.split("/")[0]
    out = []
    for found in imports(source):
        top = found.module.split(".")[0]

        def breach(rule: str, found: Import = found) -> None:
            out.append(f"{path}:{found.line}: {found.target}: {rule}")

        if found.level:
            breach("imports are absolute")
        if top in OURS - MAY_IMPORT[package]:
            breach(f"{package} does not import {top}")
        if package == "agents" and top == "search_spaces":
            if found.module != "search_spaces" or not found.name:
                breach("agents import from search_spaces only what its __init__ exports")
            elif found.name not in search_spaces.__all__:
                breach("search_spaces does not export this")
        for wall, folders in WALLS.items():
            if f"{found.target}.".startswith(f"{wall}.") and not path.startswith(folders):
                breach(f"{wall} only under {', '.join(folders)}")
        if top in ON_USE and found.where == "module":
            breach(f"{top} is loaded on first use, inside a function")
    return out


def modules() -> dict[str, Path]:
    """Dotted name -> file of every module of the three packages."""
    files = [file for package in MAY_IMPORT for file in sorted((ROOT / package).rglob("*.py"))]
    return {".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): file for file in files}


def dependencies(sources: dict[str, str]) -> dict[str, set[str]]:
    """Module -> modules among `sources` that it imports anywhere but for a type checker."""
    graph: dict[str, set[str]] = {}
    for name, source in sources.items():
        reached = {
            found.target if found.target in sources else found.module
            for found in imports(source)
            if found.where != "typing"
        }
        graph[name] = {target for target in reached if target in sources and target != name}
    return graph


def test_directions_and_walls_hold_in_every_module():
    found = [b for file in modules().values() for b in breaches(file.relative_to(ROOT).as_posix(), file.read_text())]
    assert found == []


def test_no_module_imports_itself_through_others():
    graph = dependencies({name: file.read_text() for name, file in modules().items()})
    assert len(graph) > 20
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(f"import cycle: {' <- '.join(error.args[1])}")


def folders(graph: dict[str, set[str]]) -> dict[str, set[str]]:
    """Folder -> folders that its modules import; a package's own `__init__` and loose modules stand for themselves."""
    packages = {name for name in graph if any(other.startswith(f"{name}.") for other in graph)}

    def folder(name: str) -> str:
        return name if name in packages else name.rpartition(".")[0] if name.count(".") > 1 else name

    out: dict[str, set[str]] = {}
    for name, targets in graph.items():
        out.setdefault(folder(name), set()).update(folder(target) for target in targets)
    return {name: {target for target in targets if target != name} for name, targets in out.items()}


def test_no_folder_imports_itself_through_others():
    graph = folders(dependencies({name: file.read_text() for name, file in modules().items()}))
    assert {"automl.fit", "automl.config", "search_spaces.graph"} <= graph.keys()
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(f"import cycle of folders: {' <- '.join(error.args[1])}")


def test_a_cycle_of_folders_is_noticed():
    sources = {"p.a": "", "p.a.x": "from p.b import y", "p.b": "", "p.b.y": "", "p.b.z": "import p.a.w", "p.a.w": ""}
    with pytest.raises(CycleError):
        TopologicalSorter(folders(dependencies(sources))).prepare()
    TopologicalSorter(dependencies(sources)).prepare()


def test_files_lie_in_folders():
    loose = {file.stem for file in (ROOT / "automl").glob("*.py")}
    assert loose == {"__init__", "api", "cli", "errors", "types"}


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("search_spaces/x.py", "import agents"),
        ("search_spaces/x.py", "def f():\n    from automl.types import Outcome"),
        ("agents/x.py", "from automl import compress"),
        ("agents/x.py", "from search_spaces.types import Knob"),
        ("agents/x.py", "from search_spaces import nothing_of_that_name"),
        ("agents/x.py", "def f():\n    from optuna.storages import RDBStorage"),
        ("agents/x.py", "import botorch"),
        ("automl/x.py", "from . import types"),
        ("automl/x.py", "def f():\n    import ray.tune"),
        ("automl/x.py", "if True:\n    from sqlalchemy import text"),
        ("automl/store/x.py", "def f():\n    from optuna import samplers"),
        ("automl/x.py", "import pandas as pd"),
        ("automl/x.py", "import experiments.digits"),
    ],
)
def test_each_breach_is_noticed(path, source):
    assert breaches(path, source)


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("agents/x.py", "from search_spaces import Knob, Space"),
        ("agents/x.py", "def f():\n    import botorch.models\n    from optuna.samplers import TPESampler"),
        ("automl/runners/x.py", "from ray import tune"),
        ("automl/x.py", "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import pandas as pd"),
    ],
)
def test_what_is_allowed_is_no_breach(path, source):
    assert breaches(path, source) == []


def test_a_cycle_is_noticed():
    with pytest.raises(CycleError):
        TopologicalSorter(
            dependencies({"a": "import b", "b": "def f():\n    from c import x", "c": "import a"})
        ).prepare()


def test_importing_automl_is_quick():
    """In a process of its own: nothing slow is loaded before it is needed."""
    slow = [*sorted(ON_USE), "ray", "sqlalchemy", "torch"]
    code = f"import sys, automl; print(*[name for name in {slow} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stdout.strip() == ""


def test_what_a_package_loads_on_first_use_is_what_it_exports():
    for package in ("search_spaces", "automl.zoo", "automl.data", "automl"):
        module = importlib.import_module(package)
        assert [name for name in module.__all__ if not hasattr(module, name)] == []
        with pytest.raises(AttributeError, match="no attribute 'nothing_of_that_name'"):
            _ = module.nothing_of_that_name

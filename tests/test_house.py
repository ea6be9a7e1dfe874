"""Rules of the house, read from the source of every product module: small files, one name for one thing, and nobody
outside `search_spaces` asks which space it has. CONTRIBUTING says why.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import search_spaces

ROOT = Path(search_spaces.__file__).resolve().parent.parent
FILES = {
    file.relative_to(ROOT).as_posix(): file.read_text()
    for package in ("automl", "search_spaces", "agents")
    for file in sorted((ROOT / package).rglob("*.py"))
}
MAX_FILE, MAX_FUNCTION = 400, 60
LONG_FUNCTIONS = {("automl/api.py", "compress")}
"""Its arguments and what each means are four fifths of it, and a user reads them in one place."""

MAY_SAY_ACCURACY = {
    "automl/tasks/classification.py",  # the kind whose headline it is
    "automl/config/study.py",  # the objective's default
    "automl/config/budget.py",  # guarantees
    "automl/api.py",  # the same default
    "automl/store/meanings.py",  # columns of the views
    "automl/testing/agent_kit.py",  # what the toy problem has
}

SAME_NAMES = {
    "__init__.py",
    # What every package or folder has its own of.
    "base.py",
    "errors.py",
    "registry.py",
    "types.py",
    # An operator is a file in search_spaces/operators and one of the same name in automl/fit.
    "channels.py",
    "code.py",
    "depth.py",
    "rank.py",
    "sparsity.py",
}
OWN_NAMES = ("automl/commands/", "automl/config/")
"""Folders whose files are called as a command or a section of the study file is."""


def functions(source: str) -> Iterator[tuple[str, int]]:
    """The name and number of lines, docstring included, of every function."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert node.end_lineno is not None
            yield node.name, node.end_lineno - node.lineno + 1


def asks_which_space(source: str) -> list[str]:
    """Where a module asks which class of space it has, or by which name it goes."""
    found = []
    for node in ast.walk(ast.parse(source)):
        text = ast.unparse(node)
        if isinstance(node, ast.Call) and ast.unparse(node.func) in ("isinstance", "issubclass"):
            if re.search(r"\w+Space\b", ast.unparse(node.args[1])):
                found.append(text)
        elif isinstance(node, ast.Compare) and re.search(r"\bspace\.name\b|type\(\w*space\)", text):
            found.append(text)
        elif isinstance(node, ast.Match) and re.search(r"\bspace\.name\b", ast.unparse(node.subject)):
            found.append(ast.unparse(node.subject))
    return found


def says(source: str, word: str) -> bool:
    """Whether a module has `word` as a string of its own."""
    return any(isinstance(node, ast.Constant) and node.value == word for node in ast.walk(ast.parse(source)))


def shared_names(paths: list[str]) -> dict[str, list[str]]:
    """File name -> paths, of those that several files have and may not."""
    found: dict[str, list[str]] = {}
    for path in paths:
        name = path.rpartition("/")[2]
        if name not in SAME_NAMES and not path.startswith(OWN_NAMES):
            found.setdefault(name, []).append(path)
    return {name: where for name, where in found.items() if len(where) > 1}


def test_a_file_is_one_idea():
    lines = {path: len(source.splitlines()) for path, source in FILES.items()}
    assert len(lines) > 100
    assert {path: n for path, n in lines.items() if n > MAX_FILE} == {}


def test_a_function_fits_on_a_screen():
    found = {(path, name): n for path, source in FILES.items() for name, n in functions(source) if n > MAX_FUNCTION}
    assert found.keys() == LONG_FUNCTIONS, found


def test_only_search_spaces_know_their_classes():
    outside = {path: source for path, source in FILES.items() if not path.startswith("search_spaces/")}
    assert {path: found for path, source in outside.items() if (found := asks_which_space(source))} == {}


def test_accuracy_is_a_word_of_classification():
    assert {path for path, source in FILES.items() if says(source, "accuracy")} <= MAY_SAY_ACCURACY


def test_no_two_modules_have_one_name():
    assert shared_names(list(FILES)) == {}


@pytest.mark.parametrize(
    "source",
    [
        "isinstance(space, NetworkSpace)",
        "isinstance(self.space, (Space, search_spaces.CostedSpace))",
        "if config.space.name == 'depth': pass",
        "space.name in ('depth', 'weights')",
        "match space.name:\n    case 'depth': pass",
        "type(space) is NetworkSpace",
    ],
)
def test_asking_which_space_is_noticed(source):
    assert asks_which_space(source)


def test_what_is_no_question_is_not_noticed():
    assert asks_which_space("isinstance(space, Space)\nisinstance(error, SpaceError)\nspace.name + '='") == []


def test_long_functions_words_and_shared_names_are_noticed():
    assert list(functions("async def f():\n    '''A\n    b.\n    '''\n    return 1")) == [("f", 5)]
    assert says("x = {'accuracy': 1}", "accuracy") and not says("x = 'accuracy of it'", "accuracy")
    assert shared_names(["agents/x.py", "automl/fit/x.py", "automl/fit/base.py", "agents/base.py"]).keys() == {"x.py"}
    assert shared_names(["automl/config/x.py", "automl/measures/x.py"]) == {}

"""`measure.pyz`, the program that measures an exported folder without the project: one file of a few of its modules."""

from __future__ import annotations

import zipfile
from pathlib import Path

PROGRAM = "measure.pyz"
MODULES = (
    "automl/errors.py",
    "automl/util/names.py",
    "automl/util/file_names.py",
    "automl/measures/backends/*.py",
    "search_spaces/offered.py",
)
"""What the program consists of. None of it imports anything else of the project."""
_START = "import sys\n\nfrom automl.measures.backends.program import main\n\nsys.exit(main())\n"
_DATE = (1980, 1, 1, 0, 0, 0)
"""Of every entry, so that equal modules make equal files."""


def write_program(folder: Path) -> Path:
    """Write `measure.pyz` to `folder`, for `python measure.pyz` where NumPy and a backend are. Errors: `OSError`."""
    root = Path(__file__).parents[2]
    files = [file for pattern in MODULES for file in sorted(root.glob(pattern))]
    entries = {file.relative_to(root).as_posix(): file.read_text(encoding="utf-8") for file in files}
    for package in ("automl", "automl/util", "automl/measures", "search_spaces"):
        entries[f"{package}/__init__.py"] = ""  # those of the project load all of it
    path = folder / PROGRAM
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in {**entries, "__main__.py": _START}.items():
            archive.writestr(zipfile.ZipInfo(name, _DATE), text, zipfile.ZIP_DEFLATED)
    return path

"""`write_report`: a recorded study as a page, from Python."""

from __future__ import annotations

from pathlib import Path

from automl.report.html.report_page import write_page
from automl.store import open_store


def write_report(storage: str | Path, study: str, out: str | Path = "report.html") -> Path:
    """Write a recorded study as one HTML file that needs nothing but itself; the file's path.

    Args:
        storage: the database, "sqlite:///study.db", "postgresql+psycopg://..." or the path of an SQLite file.
        study: its name; it may still run.
        out: the file, which only its owner reads.

    Errors: `StoreError`, `StudyNotFoundError`, `StudyError` if its record says too little, `ExportError`.
    """
    with open_store(storage, create=False) as store:
        return write_page(store, study, Path(out))

"""How the suite is spread over processes: what shares something that is slow to make stays in one of them."""

import pytest

TOGETHER = ("runners", "store", "cli")
"""Folders whose tests share a Ray cluster, a PostgreSQL, or a finished study."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Keep those folders together; all other tests go to whichever process is free."""
    for item in items:
        folder = item.path.parent.name
        if folder in TOGETHER:
            item.add_marker(pytest.mark.xdist_group(folder))

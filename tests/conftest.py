"""How the suite is spread over processes: what shares something that is slow to make stays in one of them."""

import atexit
import functools
import gc
import os
import shutil
import signal
import sys
import tempfile

import pytest

# Before torch is imported, and for the processes that tests start: more threads than cores get in each other's way.
if "PYTEST_XDIST_WORKER_COUNT" in os.environ:
    SHARE = (os.cpu_count() or 1) // int(os.environ["PYTEST_XDIST_WORKER_COUNT"])
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, SHARE)))

# Ray's workers give way to all others (niceness 15), so where the cores are busy with other tests, time limits pass.
os.environ.setdefault("RAY_worker_niceness", "0")

# A script that runs the suite in the background has it ignore Ctrl-C, and so would the programs that tests press it in.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# A key of the tests' own, by which studies are sealed, for all processes of a run.
if "PYTEST_XDIST_WORKER" not in os.environ:
    os.environ["XDG_STATE_HOME"] = tempfile.mkdtemp(prefix="automl-tests-")
    atexit.register(shutil.rmtree, os.environ["XDG_STATE_HOME"], ignore_errors=True)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """One process more than there are cores: where a test waits for another program, the next one has its core."""
    return (os.cpu_count() or 1) + 1


INTEGER_ONNX = "automl.export.integer_onnx"
ONNX_TABLE = "torch.onnx._internal.exporter._registration"
ROUGH = (
    "from automl.measures.backends import side_by_side as s\ns.USUAL = s.Effort(rounds=10, seconds=0.0, repeats=0)\n"
)


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Let studies that end measure latency for a moment and not until it is precise, which takes 6 s on a busy machine.

    So do `measure.pyz` in the processes that it starts, and the choice of a scheme of 8-bit integers. What depends on
    how precise it is says so itself (`tests/measures`).
    """
    # Imported here, since a study imports them when it ends, in the middle of a test.
    from automl.measures import alone
    from automl.measures.backends import side_by_side

    side_by_side.USUAL = side_by_side.Effort(rounds=10, seconds=0.0, repeats=0)
    if not alone._START.startswith(ROUGH):
        alone._START = ROUGH + alone._START
    if (module := sys.modules.get(INTEGER_ONNX)) is not None:
        module.EFFORT = side_by_side.USUAL
    # PyTorch makes its table of operators anew for each ONNX file, in half the time of one, and only reads it then.
    table = getattr(sys.modules.get(ONNX_TABLE), "ONNXRegistry", None)
    if table is not None and not hasattr(table.from_torchlib, "cache_info"):
        table.from_torchlib = staticmethod(functools.cache(table.from_torchlib))


TOGETHER = ("runners", "store", "cli", "golden")
"""Folders whose tests share a Ray cluster, a PostgreSQL, a finished study, or spaces."""


@pytest.hookimpl(tryfirst=True)  # before pytest-xdist reads the groups
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Keep those folders together; all other tests go to whichever process is free."""
    for item in items:
        folder = item.path.parent.name
        if folder in TOGETHER:
            item.add_marker(pytest.mark.xdist_group(folder))


def pytest_collection_finish(session: pytest.Session) -> None:
    """Spare what is there by now, which stays, the search for cycles, and search less often: studies of small networks
    spend a seventh of their time on it.

    Fail where groups are silently not kept together, as by pytest-xdist 3.8 with pytest 9.2: the suite takes half as
    long again, with two clusters and two servers.
    """
    gc.freeze()
    gc.set_threshold(10_000, 10, 10)
    if getattr(session.config.option, "loadgroup", False):
        loose = [
            item.nodeid for item in session.items if item.get_closest_marker("xdist_group") and "@" not in item.nodeid
        ]
        if loose:
            raise pytest.UsageError(f"pytest-xdist does not keep its groups together, {loose[0]} among others")

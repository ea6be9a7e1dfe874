"""A Ray cluster whose nodes are processes of this machine, and a study on it that loses one node and gains another."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import automl.runners.ray_cluster  # noqa: F401  before anything of Ray: it sets how Ray is imported
from agents import TrialState
from automl.store import Store, StudyRecord, open_store
from tests.kits.toy_driver import held, new_toy_study, spawn_driver

if TYPE_CHECKING:
    from ray.cluster_utils import Cluster


@contextlib.contextmanager
def cluster(nodes: int = 3, **each: int) -> Iterator[Cluster]:
    """A head and `nodes` nodes of one CPU each; `each`: what else is said of them (`object_store_memory` in bytes)."""
    from ray.cluster_utils import Cluster

    head = {"num_cpus": 0, "include_dashboard": False, **each}
    started = Cluster(initialize_head=True, head_node_args=head)
    try:
        for _ in range(nodes):
            started.add_node(num_cpus=1, **each)
        yield started
    finally:
        started.shutdown()


def raylet_of(node: object) -> int:
    """The process by which a node lives."""
    return node.all_processes["raylet"][0].process.pid  # type: ignore[attr-defined]


def workers_of(raylet: int) -> list[int]:
    """The processes of a raylet in which trials run."""
    found = []
    for folder in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if folder.name.isdigit() and b"ray::TrialActor" in (folder / "cmdline").read_bytes():
                environment = (folder / "environ").read_bytes().split(b"\0")
                if f"RAY_RAYLET_PID={raylet}".encode() in environment:
                    found.append(int(folder.name))
    return found


def lose_node(nodes: Cluster, node: object) -> None:
    """End a node at once, with the processes in which its trials run: as when a machine is gone.

    Those outlive a raylet that is killed alone by about a second, in which they may finish what they have.
    """
    raylet = raylet_of(node)
    for process in [raylet, *workers_of(raylet)]:
        with contextlib.suppress(ProcessLookupError):
            os.kill(process, signal.SIGKILL)
    nodes.remove_node(node, allow_graceful=False)


def finished(store: Store, study: StudyRecord) -> int:
    return sum(store.count_finished(study.id).values())


def lose_and_gain(nodes: Cluster, folder: Path, trials: int, wait_s: float, workers: int = 2) -> dict:
    """What became of a study on the cluster, of which a node is taken away midway and another added.

    A trial runs on the node that is lost: from the third part of the study on, trials are held until that is done.
    """
    hold = folder / "hold"
    with open_store(folder / "study.db") as store:
        study = new_toy_study(store)
        began = time.monotonic()
        options = ("--workers", workers, "--trials", trials, "--wait-s", wait_s, "--hold", hold)
        driver = spawn_driver(store.url, "--address", nodes.address, *options, cwd=folder)

        def await_(found: Callable[[], object]) -> None:
            until = time.monotonic() + 120
            while not found() and driver.poll() is None and time.monotonic() < until:
                time.sleep(0.05)

        try:
            await_(lambda: finished(store, study) >= trials // 3)
            hold.touch()
            await_(lambda: held(hold))
            node = next(node for node in nodes.worker_nodes if raylet_of(node) in held(hold))
            lost = raylet_of(node)
            lose_node(nodes, node)
            killed_at = finished(store, study)
            added = raylet_of(nodes.add_node(num_cpus=1))
            hold.unlink()
            _, said = driver.communicate(timeout=300)
        finally:
            driver.kill()
        assert driver.returncode == 0, said
        records = store.trials(study.id)
        orders = sorted(record.finish_order or 0 for record in records)
        ran_on = {record.id: int(record.values["raylet"]) for record in records if record.values}
        where = Counter(ran_on.values())
        attempts = store.attempts(study.id)
        return {
            "trials": len(records),
            "done": sum(record.state is TrialState.DONE for record in records),
            "each finished once": orders == list(range(1, trials + 1)),
            "tried again": [attempt.reason[:60] for attempt in attempts],
            "and finished elsewhere": all(ran_on[attempt.trial_id] != lost for attempt in attempts),
            "finished when the node was lost": killed_at,
            "trials by node": sorted(where.values(), reverse=True),
            "on the lost node": where[lost],
            "on the added node": where[added],
            "seconds": round(time.monotonic() - began, 1),
        }

"""A Ray cluster whose nodes are processes of this machine, and a study on it that loses one node and gains another."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import automl.runners.ray_cluster  # noqa: F401  before anything of Ray: it sets how Ray is imported
from agents import TrialState
from automl.store import Store, StudyRecord, open_store
from tests.kits.toy_driver import new_toy_study, spawn_driver

if TYPE_CHECKING:
    from ray.cluster_utils import Cluster


@contextlib.contextmanager
def cluster(nodes: int = 3) -> Iterator[Cluster]:
    """A head and `nodes` nodes of one CPU each."""
    from ray.cluster_utils import Cluster

    started = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    try:
        for _ in range(nodes):
            started.add_node(num_cpus=1)
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


def replace_a_busy_node(nodes: Cluster, within_s: float = 60.0) -> tuple[int, int]:
    """Kill a node on which a trial runs and add another; the raylets of both."""
    until = time.monotonic() + within_s
    while time.monotonic() < until:
        for node in list(nodes.worker_nodes):
            if workers_of(raylet_of(node)):
                lost = raylet_of(node)
                os.kill(lost, signal.SIGKILL)
                nodes.remove_node(node, allow_graceful=False)
                return lost, raylet_of(nodes.add_node(num_cpus=1))
        time.sleep(0.1)
    raise TimeoutError("no node works")


def finished(store: Store, study: StudyRecord) -> int:
    return sum(store.count_finished(study.id).values())


def lose_and_gain(nodes: Cluster, folder: Path, trials: int, wait_s: float, workers: int = 2) -> dict:
    """What became of a study on the cluster, of which a node is taken away midway and another added."""
    with open_store(folder / "study.db") as store:
        study = new_toy_study(store)
        began = time.monotonic()
        driver = spawn_driver(
            store.url,
            "--address",
            nodes.address,
            "--workers",
            workers,
            "--trials",
            trials,
            "--wait-s",
            wait_s,
            cwd=folder,
        )
        try:
            while finished(store, study) < trials // 3 and driver.poll() is None:
                time.sleep(0.05)
            lost, added = replace_a_busy_node(nodes)
            killed_at = finished(store, study)
            _, said = driver.communicate(timeout=300)
        finally:
            driver.kill()
        assert driver.returncode == 0, said
        records = store.trials(study.id)
        orders = sorted(record.finish_order or 0 for record in records)
        where = Counter(int(record.values["raylet"]) for record in records if record.values)
        return {
            "trials": len(records),
            "done": sum(record.state is TrialState.DONE for record in records),
            "each finished once": orders == list(range(1, trials + 1)),
            "tried again": [attempt.reason[:60] for attempt in store.attempts(study.id)],
            "finished when the node was killed": killed_at,
            "trials by node": sorted(where.values(), reverse=True),
            "on the lost node": where[lost],
            "on the added node": where[added],
            "seconds": round(time.monotonic() - began, 1),
        }

"""What can befall a study while it runs. Each harm is over when its function returns; a driver may have died of it."""

from __future__ import annotations

import contextlib
import os
import random
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil

from tests.kits import postgres
from tests.kits.driver_process import DriverProcess, wrong_clock
from tests.kits.ray_nodes import lose_node, raylet_of, workers_of

if TYPE_CHECKING:
    from ray.cluster_utils import Cluster

LEASE_S = 2.0
"""How long a driver may be silent in a study that is harmed."""

MOST_ATTEMPTS = 1_000_000
"""Memory is short for a second or two, in which a fast machine tries a trial again a thousand times."""

TRIAL_MB = 128
"""What a trial allocates, so that there is something to be denied."""


@dataclass
class Scene:
    """A study that runs, and what it runs on."""

    url: str
    folder: Path
    rng: random.Random
    options: Sequence[object]
    """Of every driver (`toy_driver`)."""
    nodes: Cluster | None = None
    """The Ray cluster; None where trials run in the driver."""
    server: Any = None
    """The PostgreSQL; None where the database is a file."""
    disk: Path | None = None
    """The folder in which the database lies, if it is a small file system of its own."""
    clock_s: float = 0.0
    """By how much the clock of the next driver is wrong."""
    drivers: list[DriverProcess] = field(default_factory=list)
    """All that there were; the last has the study."""

    @property
    def driver(self) -> DriverProcess:
        """The process that has the study."""
        return self.drivers[-1]

    def start(self) -> DriverProcess:
        """Another driver, beside those that are there."""
        address = ("--address", self.nodes.address) if self.nodes else ()
        options = (*self.options, *address, "--lease-s", LEASE_S, "--mb", TRIAL_MB, "--attempts", MOST_ATTEMPTS)
        return DriverProcess(self.url, *options, folder=self.folder, clock_s=self.clock_s)

    @property
    def workers(self) -> list[int]:
        """The processes in which trials run just now, the driver's own where there is no Ray."""
        if self.nodes is None:
            return [self.driver.process.pid]
        return sorted(pid for node in self.nodes.worker_nodes for pid in workers_of(raylet_of(node)))

    def a_while(self, least_s: float, most_s: float) -> None:
        """Let time pass."""
        time.sleep(self.rng.uniform(least_s, most_s))


def driver_dies(scene: Scene) -> None:
    """The driver is killed."""
    scene.driver.kill()


def worker_dies(scene: Scene) -> None:
    """A process in which trials run is killed, if there is one just now."""
    if scene.workers:
        with contextlib.suppress(ProcessLookupError):
            os.kill(scene.rng.choice(scene.workers), signal.SIGKILL)


def node_is_lost(scene: Scene) -> None:
    """A node is killed, one on which trials run if there is one, and another is added."""
    assert scene.nodes is not None
    every = sorted(scene.nodes.worker_nodes, key=raylet_of)
    node = scene.rng.choice([node for node in every if workers_of(raylet_of(node))] or every)
    lose_node(scene.nodes, node)
    scene.nodes.add_node(num_cpus=1)


def server_crashes(scene: Scene) -> None:
    """The database server is gone as by a crash, and comes back."""
    postgres.restart(scene.server, scene.rng.uniform(0.0, 2.0))


def line_is_dead(scene: Scene) -> None:
    """Someone does not answer for a while: the database server, a node, a worker, or the driver."""
    choices = [[scene.driver.process.pid], scene.workers]
    if scene.nodes is not None:
        choices.append([raylet_of(node) for node in scene.nodes.worker_nodes])
    if scene.server is not None:
        choices.append(_family(scene.server.get_pid()))
    with _stopped(scene.rng.choice(choices)):
        scene.a_while(0.5, 3.0)


def driver_sleeps(scene: Scene) -> None:
    """The driver sleeps past its lease, another takes the study over, and the first wakes and goes on as before."""
    sleeper = scene.driver
    with _stopped([sleeper.process.pid]):
        other = scene.start()
        other.wait(1, within_s=60)  # or it gives up: one that sleeps in a transaction holds an SQLite file
    if other.driving:
        sleeper.end(60)
        scene.drivers.append(other)
    else:
        other.end(60)
        scene.drivers.insert(-1, other)


def clock_is_wrong(scene: Scene) -> None:
    """The driver is killed, and the clock of the one that follows is wrong."""
    scene.clock_s = scene.rng.choice((-3600, -300, -5, 5, 300, 3600))
    scene.driver.kill()


def disk_is_full(scene: Scene) -> None:
    """Nothing more can be written where the database lies, for a while."""
    assert scene.disk is not None
    ballast = scene.disk / "ballast"
    with ballast.open("wb", buffering=0) as file:
        for size in (2**20, 2**12, 1):
            with contextlib.suppress(OSError):
                while file.write(bytes(size)) == size:
                    pass
    scene.a_while(0.5, 2.0)
    ballast.unlink()


def memory_is_short(scene: Scene) -> None:
    """The processes in which trials run get no more memory than they have, for a while."""
    limited = []
    for pid in scene.workers:
        with contextlib.suppress(psutil.Error, OSError):
            most = psutil.Process(pid).memory_info().vms + TRIAL_MB * 2**18  # a quarter of what a trial takes
            resource.prlimit(pid, resource.RLIMIT_AS, (most, resource.RLIM_INFINITY))
            limited.append(pid)
    scene.a_while(0.5, 2.0)
    for pid in limited:
        with contextlib.suppress(OSError):
            resource.prlimit(pid, resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))


def object_store_is_full(scene: Scene) -> None:
    """Another program fills the object stores of the cluster, and holds them for a while."""
    assert scene.nodes is not None
    code = (
        "import sys, time, numpy, automl.runners.ray_cluster as cluster, ray\n"
        "cluster.start(1, address=sys.argv[1])\n"
        "@ray.remote(num_cpus=0, scheduling_strategy='SPREAD')\n"
        "class Hog:\n"
        "    def fill(self): self.held = [ray.put(numpy.ones(2**24, 'u1')) for _ in range(8)]\n"
        "hogs = [Hog.remote() for _ in range(4)]\n"
        "ray.wait([hog.fill.remote() for hog in hogs], num_returns=4, timeout=10)\n"
        "time.sleep(1)"
    )
    root = Path(__file__).resolve().parents[2]
    subprocess.run(
        [sys.executable, "-c", code, scene.nodes.address],
        cwd=scene.folder,
        env={**os.environ, "PYTHONPATH": str(root)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        timeout=120,
        check=False,  # a store that is full may well be refused
    )


HARMS: dict[str, tuple[Callable[[Scene], None], Callable[[Scene], bool]]] = {
    "driver dies": (driver_dies, lambda scene: True),
    "driver sleeps": (driver_sleeps, lambda scene: True),
    "line is dead": (line_is_dead, lambda scene: True),
    "clock is wrong": (clock_is_wrong, lambda scene: wrong_clock() is not None),
    "disk is full": (disk_is_full, lambda scene: scene.disk is not None),
    "memory is short": (memory_is_short, lambda scene: True),
    "server crashes": (server_crashes, lambda scene: scene.server is not None),
    "worker dies": (worker_dies, lambda scene: scene.nodes is not None),
    "node is lost": (node_is_lost, lambda scene: scene.nodes is not None),
    "object store is full": (object_store_is_full, lambda scene: scene.nodes is not None),
}
"""Name -> what befalls a scene, and whether it can."""


def _family(pid: int) -> list[int]:
    """A process and all that it has started."""
    return [pid, *(child.pid for child in psutil.Process(pid).children(recursive=True))]


@contextlib.contextmanager
def _stopped(pids: Sequence[int]) -> Iterator[None]:
    """While it lasts, the processes do nothing, like machines behind a line that is cut."""
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)

"""A study on Ray whose driver, workers, nodes and database are killed; what was lost or doubled is counted."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from automl.runners import SerialRunner
from automl.store import Store, StudyRecord, open_store
from tests.kits.ray_nodes import finished, lose_node, raylet_of, workers_of
from tests.kits.toy_driver import SleepyEvaluator, course, new_toy_study, spawn_driver, told, toy_session
from tests.kits.toy_space import toy_problem

if TYPE_CHECKING:
    from ray.cluster_utils import Cluster

ATTEMPTS = 1000
"""A trial is not to blame for what is done to its workers here."""


class Driver:
    """The process that drives the study, and what it has told of trials that finished."""

    def __init__(self, url: str, address: str, workers: int, trials: int, wait_s: float, folder: Path) -> None:
        options = ("--address", address, "--workers", workers, "--trials", trials, "--wait-s", wait_s)
        self.process: subprocess.Popen[str] = spawn_driver(url, *options, "--attempts", ATTEMPTS, cwd=folder)
        self.told: list = []
        self.said: list[str] = []
        self.stray: list[str] = []
        """What else stood on standard output, and what was cut off."""
        self._threads = [
            threading.Thread(target=self._listen, daemon=True),
            threading.Thread(target=lambda: self.said.extend(self.process.stderr or ()), daemon=True),
        ]
        for thread in self._threads:
            thread.start()

    def _listen(self) -> None:
        for line in self.process.stdout or ():
            try:
                self.told.append(json.loads(line))
            except ValueError:
                self.stray.append(line)

    def wait(self, n: int, within_s: float = 120.0) -> None:
        """Until it has told of `n` things, its beginning included, or has ended."""
        until = time.monotonic() + within_s
        while len(self.told) < n and self.process.poll() is None:
            assert time.monotonic() < until, f"the driver does not get on: {''.join(self.said)[-2000:]}"
            time.sleep(0.02)

    def end(self) -> None:
        """Wait until all that it has told is heard."""
        self.process.wait(300)
        for thread in self._threads:
            thread.join(30)


@dataclass
class Tally:
    """What was done to a study, and what became of it."""

    kills: Counter[str] = field(default_factory=Counter)
    trials: int = 0
    lost: int = 0
    """Finished trials that the database has no more, or has otherwise than they were told."""
    doubled: int = 0
    """Trials that finished twice."""
    most_in_flight: int = 0
    """Trials left running when a driver was killed, at most."""
    cut_short: int = 0
    """Attempts that ended without an outcome."""
    same_course: bool = False
    """Whether the sequence is that of a study that nothing befell, run in one process. Expected of one worker."""
    seconds: float = 0.0
    stray: list[str] = field(default_factory=list)
    """What the drivers wrote to standard output that is not theirs: there results go."""


def uninterrupted(folder: Path, trials: int) -> list[tuple]:
    """The course of the study when nothing befalls it."""
    with open_store(folder / "through.db") as store:
        study = new_toy_study(store)
        SerialRunner().run(toy_session(store, study, trials), SleepyEvaluator(toy_problem(), 0.0))
        return course(store, study)


def chaos(
    url: str,
    nodes: Cluster,
    folder: Path,
    rng: random.Random,
    *,
    rounds: int,
    workers: int,
    trials: int,
    wait_s: float = 0.2,
    restart_database: Callable[[], None] | None = None,
    targets: Sequence[str] = (),
) -> Tally:
    """Run the study to its end while `rounds` kills befall it: of `targets` in turn, or else of all in random order."""
    tally, began = Tally(), time.monotonic()
    choices = ["driver", "worker", "node", *(["database"] if restart_database else [])]
    acknowledged: dict[int, list] = {}

    def check(driver: Driver, heard: int) -> int:
        for trial in driver.told[heard:]:
            if isinstance(trial, list):
                tally.doubled += trial[0] in acknowledged
                acknowledged[trial[0]] = trial
        return len(driver.told)

    def start() -> Driver:
        driver = Driver(url, nodes.address, workers, trials, wait_s, folder)
        driver.wait(1)
        return driver

    with open_store(url) as store:
        study = new_toy_study(store)
        driver, heard = start(), 0
        left: list[str] = []
        for _ in range(rounds):
            driver.wait(heard + 2)  # it gets on between one kill and the next
            time.sleep(rng.uniform(0.0, 3 * wait_s))
            if driver.process.poll() is not None:
                break
            if not left:
                left = list(targets) or rng.sample(choices, len(choices))
            target = left.pop(0)
            tally.kills[target] += 1
            if target == "driver":
                os.kill(driver.process.pid, signal.SIGKILL)
                driver.end()
                tally.stray += [line for line in driver.stray if line.endswith("\n")]
                check(driver, heard)
                tally.most_in_flight = max(tally.most_in_flight, len(store.running(study.id)))
                _compare(store, study, acknowledged, tally)
                driver, heard = start(), 0
                continue
            heard = check(driver, heard)
            if target == "worker":
                _kill_worker(nodes, rng)
            elif target == "node":
                _replace_node(nodes, rng)
            elif restart_database is not None:
                restart_database()
        driver.end()
        assert driver.process.returncode == 0, "".join(driver.said)[-2000:]
        tally.stray += driver.stray
        check(driver, heard)
        _compare(store, study, acknowledged, tally)
        assert len(acknowledged) >= trials - tally.kills["driver"], "a line may be lost with each driver, and no other"
        tally.trials = finished(store, study)
        tally.cut_short = len(store.attempts(study.id))
        tally.same_course = course(store, study) == uninterrupted(folder, trials)
    tally.seconds = round(time.monotonic() - began, 1)
    return tally


def _compare(store: Store, study: StudyRecord, acknowledged: dict[int, list], tally: Tally) -> None:
    """Count what the database has lost, or has twice."""
    trials = {trial.id: trial for trial in store.trials(study.id) if trial.state.finished}
    tally.lost += sum(key not in trials or told(trials[key]) != was for key, was in acknowledged.items())
    orders = Counter(trial.finish_order for trial in trials.values())
    tally.doubled += sum(count - 1 for count in orders.values())
    tally.lost += sum(order not in orders for order in range(1, len(trials) + 1))


def _kill_worker(nodes: Cluster, rng: random.Random) -> None:
    """Kill a process in which trials run, if there is one just now."""
    pids = sorted(pid for node in nodes.worker_nodes for pid in workers_of(raylet_of(node)))
    if pids:
        os.kill(rng.choice(pids), signal.SIGKILL)


def _replace_node(nodes: Cluster, rng: random.Random) -> None:
    """Kill a node, one on which trials run if there is one, and add another."""
    every = sorted(nodes.worker_nodes, key=raylet_of)
    node = rng.choice([node for node in every if workers_of(raylet_of(node))] or every)
    lose_node(nodes, node)
    nodes.add_node(num_cpus=1)

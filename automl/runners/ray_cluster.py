"""A Ray cluster to run trials on: one of this process's own, or one that is there."""

from __future__ import annotations

import contextlib
import logging
import math
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

# Read by Ray while it is imported. A local sweep needs no token; the new output and the loggers print and write files.
os.environ.setdefault("RAY_AUTH_MODE", "disabled")
os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")
os.environ.setdefault("TUNE_DISABLE_AUTO_CALLBACK_LOGGERS", "1")
os.environ.setdefault("TUNE_DISABLE_SIGINT_HANDLER", "1")  # the runner has its own
os.environ.setdefault("TUNE_GLOBAL_CHECKPOINT_S", "1000000")
os.environ.setdefault("TUNE_FORCE_TRIAL_CLEANUP_S", "2")
# Ray Train would look every 2 s whether its workers are done, and start a process that warns them of nodes about to go.
os.environ.setdefault("RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", "0.5")
os.environ.setdefault("RAY_TRAIN_ENABLE_PREEMPTION_WATCHER", "0")

import psutil
import ray

from automl.errors import StudyError
from automl.util.at_once import at_once

HOME = Path(__file__).resolve().parents[2]
"""Where our packages lie, side by side."""

LOCAL = "local"
"""The address of a cluster of this process's own."""


def start(workers: int, *, address: str | None = None, cpus: float = 1.0, gpus: float = 0.0) -> None:
    """Join the cluster at `address`, or at RAY_ADDRESS, or start one on this machine for `workers` workers.

    A worker takes `cpus` and `gpus` of the cluster. `StudyError` if no cluster answers, or no worker fits.
    """
    quiet: dict[str, Any] = {"include_dashboard": False, "logging_level": logging.ERROR, "log_to_driver": False}
    address = address or os.environ.get("RAY_ADDRESS", LOCAL)
    environment: dict[str, Any] = {"worker_process_setup_hook": _same_imports()}
    # Ray puts the folder it is started from first in its workers' search path, after any setup: an `agents` folder of
    # the user's there would hide ours. So it is started from one without modules.
    with contextlib.chdir(sys.prefix):
        if address == LOCAL:
            ray.init(address=LOCAL, num_cpus=math.ceil(workers * cpus), runtime_env=environment, **quiet)
        else:
            del quiet["include_dashboard"]
            environment["py_modules"] = [str(HOME / name) for name in ("automl", "agents", "search_spaces")]
            try:
                ray.init(address=address, runtime_env=environment, **quiet)
            except (ConnectionError, ValueError, RuntimeError) as error:
                raise StudyError(
                    f"no Ray cluster answers at {address!r}: {' '.join(str(error).split())[:300]}. Start one with "
                    f"`ray start --head`, give another address, or `--address {LOCAL}` for this machine alone"
                ) from None
    try:
        require_room(cpus, gpus)
    except StudyError:
        ray.shutdown()
        raise


def kill_own() -> None:
    """Kill every process of a cluster that this process has started, and wait for none. One it has joined lives on."""
    node = ray._private.worker._global_node
    if node is None or not node.is_head():
        return
    started = [info.process.pid for infos in list(node.all_processes.values()) for info in infos]
    family = set(started)
    for pid in started:
        with contextlib.suppress(psutil.Error, OSError):
            os.kill(pid, signal.SIGSTOP)  # else it could start others meanwhile
            family.update(child.pid for child in psutil.Process(pid).children(recursive=True))
    for pid in family:
        with contextlib.suppress(OSError):
            os.kill(pid, signal.SIGKILL)


at_once.append(kill_own)


def require_room(cpus: float, gpus: float) -> None:
    """Fail at once where a trial would wait for ever."""
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    if not any(node.get("CPU", 0) >= cpus and node.get("GPU", 0) >= gpus for node in nodes):
        there = ", ".join(f"{node.get('CPU', 0):g} CPUs and {node.get('GPU', 0):g} GPUs" for node in nodes)
        raise StudyError(
            f"a trial takes {cpus:g} CPUs and {gpus:g} GPUs, and no node of the Ray cluster has as many ({there}): "
            f"lower `runner.cpus_per_trial` or `runner.gpus_per_trial`"
        )


def require_one_machine() -> None:
    """Fail at once where a worker could not read what another one wrote."""
    machines = {node["NodeManagerAddress"] for node in ray.nodes() if node["Alive"]}
    if len(machines) > 1:
        raise StudyError(
            f"hyperband pauses trials, whose weights wait in files of one machine, and this Ray cluster has "
            f"{len(machines)}: set `evaluation.scheduler` to asha or median, or `--address {LOCAL}`"
        )


def _same_imports() -> Callable[[], None]:
    """A function that gives a process the search path and folder of this one; nested, to travel without its module.

    On another machine the folders may be missing: there our packages come from what was shipped with the job.
    """
    search_path, folder = list(sys.path), str(Path.cwd())

    def set_search_path() -> None:
        import os
        import sys
        from pathlib import Path

        shipped = [place for place in sys.path if "py_modules_files" in place]
        ours = [place for place in search_path if not place or Path(place).exists()]
        sys.path[:] = list(dict.fromkeys([*shipped, *ours, *(sys.path if len(ours) < len(search_path) else ())]))
        if Path(folder).is_dir():
            os.chdir(folder)

    return set_search_path

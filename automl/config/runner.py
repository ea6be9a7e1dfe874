"""How trials are run."""

from __future__ import annotations

import math
from dataclasses import dataclass

from automl.errors import ConfigError


@dataclass(frozen=True)
class RunnerConfig:
    """How the trials are run. With as many `threads`, on one kind of processor a trial gives the same to the last digit
    whatever else is said here; over more threads sums are rounded in another order, and a course may part there."""

    workers: int = 1
    """1 runs in this process, unless a key below needs one of its own; more are a Ray Tune sweep."""
    threads: int | None = None
    """Threads of each worker. The last digits of results depend on them: set a number where they must be the same with
    other numbers of workers or cores. None shares those that PyTorch would use evenly (OMP_NUM_THREADS, or the cores
    that this process may have), or is `cpus_per_trial`."""
    address: str | None = None
    """A Ray cluster to run on, such as `auto` or `host:6379`; None for RAY_ADDRESS, `local` for this machine."""
    cpus_per_trial: float | None = None
    """CPUs of the Ray cluster that a trial takes; None for one."""
    gpus_per_trial: float = 0.0
    """GPUs, 0.5 for two trials on each; above 1 a whole number."""
    timeout_s: float | None = None
    """Seconds after which a trial is given up, with its worker."""
    retries: int = 2
    """How often a trial is run again that ran out of memory or time, or whose worker died. One that raised is not."""

    def __post_init__(self) -> None:
        for name in ("workers", "threads"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ConfigError(f"{name} must be at least 1, got {value}")
        for name in ("cpus_per_trial", "timeout_s"):
            value = getattr(self, name)
            if value is not None and not 0 < value < math.inf:
                raise ConfigError(f"{name} must be above 0, got {value:g}; leave it out for the default")
        if self.gpus_per_trial < 0 or (self.gpus_per_trial > 1 and self.gpus_per_trial % 1):
            raise ConfigError(f"gpus_per_trial is a part of 1, or a whole number, got {self.gpus_per_trial:g}")
        if self.retries < 0:
            raise ConfigError(f"retries must be at least 0, got {self.retries}")

    @property
    def in_this_process(self) -> bool:
        """Whether trials run here, one after the other: nothing asks for a worker or a cluster."""
        return self.workers == 1 and not (self.address or self.timeout_s or self.gpus_per_trial)

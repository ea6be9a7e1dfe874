"""A study's driver as another process, and all that it has told and said; on a clock of its own where asked."""

from __future__ import annotations

import atexit
import functools
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

from tests.kits.toy_driver import spawn_driver

SOURCE = Path(__file__).with_name("wrong_clock.c")


@functools.cache
def wrong_clock() -> Path | None:
    """Build the library that sets the clock of a process wrong (`wrong_clock.c`); None without a C compiler.

    libfaketime would do, but waits for ever in the semaphores of glibc 2.36 by which Python's threads wait.
    """
    compiler = shutil.which("cc")
    if compiler is None or sys.platform != "linux":
        return None
    folder = Path(tempfile.mkdtemp(prefix="automl-clock-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    built = folder / "wrong_clock.so"
    subprocess.run([compiler, "-shared", "-fPIC", "-O2", "-o", built, SOURCE], check=True)
    return built


class DriverProcess:
    """The process that drives the study "toy" with the `options` of `toy_driver`, from its start to its end."""

    def __init__(self, url: str, *options: object, folder: Path, clock_s: float = 0.0) -> None:
        """`clock_s`: by how much its clock is wrong. Time as it counts it, `time.monotonic`, goes on as ever."""
        faked = {"LD_PRELOAD": str(wrong_clock()), "AUTOML_CLOCK_S": f"{clock_s:.0f}"} if clock_s else {}
        self.process: subprocess.Popen[str] = spawn_driver(url, *options, cwd=folder, environment=faked)
        self.told: list = []
        """Its beginning, every trial that finished, and its end."""
        self.heard = 0
        """How much of that its listener has dealt with."""
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

    @property
    def alive(self) -> bool:
        """Whether the process has not ended."""
        return self.process.poll() is None

    @property
    def driving(self) -> bool:
        """Whether it has the study."""
        return self.alive and bool(self.told)

    @property
    def words(self) -> str:
        """The end of what it said on standard error."""
        return "".join(self.said)[-3000:]

    def wait(self, more: int, within_s: float = 180.0) -> bool:
        """Whether it tells of `more` things than were heard, its beginning included, before it ends or time is up."""
        until = time.monotonic() + within_s
        while len(self.told) < self.heard + more and self.alive and time.monotonic() < until:
            time.sleep(0.02)
        return len(self.told) >= self.heard + more

    def news(self) -> list:
        """The trials that it has told of since it was last asked."""
        told, self.heard = self.told[self.heard :], len(self.told)
        return [trial for trial in told if isinstance(trial, list)]

    def signal(self, number: int) -> None:
        """Send a signal, if it is there still."""
        if self.alive:
            os.kill(self.process.pid, number)

    def kill(self) -> None:
        """End it at once, and hear all that it has told."""
        self.signal(signal.SIGKILL)
        self.end()

    def end(self, within_s: float = 300.0) -> None:
        """Wait until it has ended and all that it has told is heard."""
        self.process.wait(within_s)
        for thread in self._threads:
            thread.join(30)

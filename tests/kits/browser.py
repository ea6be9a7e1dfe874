"""A headless Chromium, driven over its DevTools protocol by a pipe: what a page asks for, and what it looks like."""

from __future__ import annotations

import base64
import fcntl
import json
import os
import select
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"),
    *("--disable-sync", "--disable-extensions", "--no-first-run", "--mute-audio", "--remote-debugging-pipe"),
    "--hide-scrollbars",
    "--disable-dev-shm-usage",  # containers have little of it
)
PATIENCE_S = 60.0


@dataclass
class Page:
    """One page, and what happened since it was opened."""

    browser: Browser
    session: str
    requests: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)

    def ask(self, method: str, **params: Any) -> dict[str, Any]:
        return self.browser.ask(method, self.session, **params)

    def open(self, url: str, *, width: int = 1440, height: int = 1000, dark: bool = False) -> None:
        """Load `url` in a window of this size and theme; what was asked for and complained of is kept from here on."""
        for domain in ("Page", "Runtime", "Network", "Log"):
            self.ask(f"{domain}.enable")
        self.resize(width, height, dark)
        self.requests.clear()
        self.errors.clear()
        self.browser.loaded.discard(self.session)
        self.ask("Page.navigate", url=url)
        self.browser.until(lambda: self.session in self.browser.loaded)

    def resize(self, width: int, height: int = 1000, dark: bool = False) -> None:
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
        self.ask("Emulation.setDeviceMetricsOverride", **size)
        theme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.ask("Emulation.setEmulatedMedia", features=[theme])

    def js(self, expression: str) -> Any:
        """The value of an expression in the page, a promise's once it is kept."""
        answer = self.ask("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def wait_for(self, expression: str) -> Any:
        """The value of an expression once it is true."""
        found: list[Any] = []

        def true() -> bool:
            found[:] = [self.js(expression)]
            return bool(found[0])

        self.browser.until(true, every_s=0.1)
        return found[0]

    def shoot(self, path: Path, *, whole: bool = True) -> Path:
        """A picture of the page as PNG."""
        shot = self.ask("Page.captureScreenshot", captureBeyondViewport=whole)
        path.write_bytes(base64.b64decode(shot["data"]))
        return path


class Browser:
    """The process and its pipe: requests are numbered, answers are waited for, events are kept."""

    def __init__(self, process: subprocess.Popen[bytes], write: int, read: int) -> None:
        self.process, self._write, self._read = process, write, read
        self._rest, self._number = b"", 0
        self._answers: dict[int, dict[str, Any]] = {}
        self.pages: dict[str, Page] = {}
        self.loaded: set[str] = set()

    def page(self) -> Page:
        target = self.ask("Target.createTarget", url="about:blank")["targetId"]
        session = self.ask("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        self.pages[session] = Page(self, session)
        return self.pages[session]

    def ask(self, method: str, session: str | None = None, **params: Any) -> dict[str, Any]:
        self._number += 1
        number = self._number
        message = {"id": number, "method": method, "params": params} | ({"sessionId": session} if session else {})
        os.write(self._write, json.dumps(message).encode() + b"\0")
        self.until(lambda: number in self._answers)
        answer = self._answers.pop(number)
        assert "error" not in answer, (method, answer["error"])
        return answer["result"]

    def until(self, done: Any, every_s: float = 0.0) -> None:
        """Take in what comes until `done()`."""
        end = time.monotonic() + PATIENCE_S
        while not done():
            assert time.monotonic() < end and self.process.poll() is None, "the browser does not answer"
            if every_s:
                time.sleep(every_s)
                self._take(0.0)
            else:
                self._take(1.0)

    def _take(self, timeout_s: float) -> None:
        while select.select([self._read], [], [], timeout_s)[0]:
            timeout_s = 0.0
            more = os.read(self._read, 1 << 20)
            assert more, "the browser has ended"
            *messages, self._rest = (self._rest + more).split(b"\0")
            for message in map(json.loads, messages):
                if "id" in message:
                    self._answers[message["id"]] = message
                elif message.get("sessionId") in self.pages:
                    self._note(self.pages[message["sessionId"]], message["method"], message["params"])

    def _note(self, page: Page, event: str, told: dict[str, Any]) -> None:
        if event == "Page.loadEventFired":
            self.loaded.add(page.session)
        elif event == "Network.requestWillBeSent":
            page.requests.append(told["request"]["url"])
        elif event == "Runtime.exceptionThrown":
            page.errors.append(json.dumps(told["exceptionDetails"])[:500])
        elif event == "Runtime.consoleAPICalled" and told["type"] in ("error", "assert"):
            page.errors.append(json.dumps(told["args"])[:500])
        elif event == "Log.entryAdded" and told["entry"]["level"] == "error":
            page.errors.append(f"{told['entry']['text']} {told['entry'].get('url', '')}")


def chromium() -> str | None:
    """The program, where it is installed."""
    return next((found for name in NAMES if (found := shutil.which(name))), None)


@contextmanager
def running() -> Iterator[Browser]:
    """A browser of its own, ended afterwards; the test is skipped where there is none."""
    program = chromium()
    if program is None:
        pytest.skip("pages are not looked at: install Chromium (Debian: apt-get install chromium)")
    profile = tempfile.mkdtemp(prefix="automl-chromium-")
    theirs_in, write = os.pipe()
    read, theirs_out = os.pipe()
    # The browser reads from 3 and writes to 4; our ends may have these numbers, so its own are moved out of the way.
    theirs = [fcntl.fcntl(end, fcntl.F_DUPFD, 10) for end in (theirs_in, theirs_out)]

    def place() -> None:
        os.dup2(theirs[0], 3)
        os.dup2(theirs[1], 4)

    process = subprocess.Popen(
        [program, *FLAGS, f"--user-data-dir={profile}", "about:blank"],
        pass_fds=(3, 4),
        preexec_fn=place,
        start_new_session=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    for end in (theirs_in, theirs_out, *theirs):
        os.close(end)
    try:
        yield Browser(process, write, read)
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        os.close(write)
        os.close(read)
        shutil.rmtree(profile, ignore_errors=True)

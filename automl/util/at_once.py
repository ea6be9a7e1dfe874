"""What is done when the process is to end at once, without anything being closed."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable
from typing import NoReturn

PATIENCE_S = 2.0
"""What all of it may take together."""

at_once: list[Callable[[], None]] = []
"""Called then, whatever else is under way: they wait for nothing, and what they raise is passed over."""


def end_at_once(code: int) -> NoReturn:
    """Call what is in `at_once`, and end the process."""
    deadline = threading.Timer(PATIENCE_S, os._exit, (code,))
    deadline.daemon = True
    with contextlib.suppress(RuntimeError):  # Python, when it shuts down, starts no thread
        deadline.start()
    for call in at_once:
        with contextlib.suppress(Exception):
            call()
    os._exit(code)

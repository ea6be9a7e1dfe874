"""Ctrl-C while a study runs: once ends it cleanly, twice at once."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Iterator
from typing import Any

from automl.util.at_once import end_at_once

AGAIN_S = 0.01
"""After what time a KeyboardInterrupt that was lost is raised again, in seconds."""
STOPPING = "\nstopping, Ctrl-C again ends at once\n"
SHOW_CURSOR = "\x1b[?25h"


@contextlib.contextmanager
def ends_on_ctrl_c(farewell: str, *, tell: bool = True) -> Iterator[None]:
    """While it lasts the first Ctrl-C raises `KeyboardInterrupt`, the next ends the process with code 130.

    Then nothing is closed: what has finished is in the database, a Ray cluster of this process's own is killed, and the
    next driver finds that this one is dead. `farewell` is written to standard error if `tell`. After the first Ctrl-C
    the process is taken to be on its way out: the next ends it at once also when this no longer lasts, without a word,
    for the default handler would print tracebacks while Python shuts down. Nothing is changed where Ctrl-C means
    something else already: it is ignored in the background, or has a handler of its own.

    A signal may arrive while a finaliser or the callback of a weak reference runs, whose exceptions Python only prints:
    such a KeyboardInterrupt is raised again a moment later.
    """
    usual = threading.current_thread() is threading.main_thread()
    if not usual or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield
        return
    pressed = lost = False
    unraisable = sys.unraisablehook

    def write(text: str) -> None:
        if tell:  # not by `print`, which may just be at work
            os.write(2, text.encode())

    def handle(number: int, frame: Any) -> None:
        nonlocal pressed, lost
        if lost:
            lost = False
            raise KeyboardInterrupt
        if pressed:
            write(f"{SHOW_CURSOR if os.isatty(2) else ''}\n{farewell}\n")
            end_at_once(130)
        pressed = True
        write(STOPPING)
        raise KeyboardInterrupt

    def raise_again(what: Any) -> None:
        nonlocal lost
        if what.exc_type is not KeyboardInterrupt:
            unraisable(what)
            return
        lost = True  # as would be what this hook raises
        threading.Timer(AGAIN_S, signal.pthread_kill, (threading.main_thread().ident, signal.SIGINT)).start()

    signal.signal(signal.SIGINT, handle)
    sys.unraisablehook = raise_again
    try:
        yield
    finally:
        sys.unraisablehook = unraisable
        tell = False
        if not pressed:
            signal.signal(signal.SIGINT, signal.default_int_handler)

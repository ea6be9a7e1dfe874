"""Ctrl-C is never lost, whatever Python is just doing."""

from __future__ import annotations

import subprocess
import sys

import pytest

PRESSED_IN = {
    "the callback of a weak reference": "o = Thing(); r = weakref.ref(o, lambda r: press()); del o",
    "a finaliser": "Thing.__del__ = lambda self: press(); Thing()",
}
PROGRAM = """
import os, signal, sys, time, weakref
from automl.commands.interrupt import ends_on_ctrl_c

class Thing:
    pass

def press():
    os.kill(os.getpid(), signal.SIGINT)
    for _ in range(1000):  # it arrives in here
        pass

try:
    with ends_on_ctrl_c("farewell"):
        WHERE
        time.sleep(30)
        sys.exit("it was lost")
except KeyboardInterrupt:
    print("heard")
"""


@pytest.mark.parametrize("where", PRESSED_IN.values(), ids=PRESSED_IN)
def test_it_is_heard_where_exceptions_are_only_printed(where):
    ran = subprocess.run(
        [sys.executable, "-c", PROGRAM.replace("WHERE", where)], capture_output=True, text=True, timeout=60
    )
    assert (ran.returncode, ran.stdout) == (0, "heard\n"), ran.stderr
    assert ran.stderr.strip() == "stopping, Ctrl-C again ends at once"

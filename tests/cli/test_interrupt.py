"""Ctrl-C is never lost, whatever Python is just doing."""

from __future__ import annotations

import subprocess
import sys

import pytest

PRESSED_IN = {
    "the callback of a weak reference": "o = Thing(); r = weakref.ref(o, lambda r: press()); del o",
    "a finaliser": "Thing.__del__ = lambda self: press(); Thing()",
}
AFTER_IT = {
    "in what follows": "press(); print('went on')",
    "while Python shuts down": "atexit.register(press)",
    "in a finaliser at the end": "thing = Thing(); weakref.finalize(thing, press)",
}
PROGRAM = """
import atexit, os, signal, sys, time, weakref
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
    print("heard", flush=True)
AFTER
"""


def run(where: str, after: str = "") -> subprocess.CompletedProcess[str]:
    program = PROGRAM.replace("WHERE", where).replace("AFTER", after)
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)


@pytest.mark.parametrize("where", PRESSED_IN.values(), ids=PRESSED_IN)
def test_it_is_heard_where_exceptions_are_only_printed(where):
    ran = run(where)
    assert (ran.returncode, ran.stdout) == (0, "heard\n"), ran.stderr
    assert ran.stderr.strip() == "stopping, Ctrl-C again ends at once"


@pytest.mark.parametrize("after", AFTER_IT.values(), ids=AFTER_IT)
def test_the_second_ends_the_process_also_when_the_study_has_ended(after):
    ran = run("press()", after)
    assert (ran.returncode, ran.stdout) == (130, "heard\n"), ran.stderr
    assert ran.stderr.strip() == "stopping, Ctrl-C again ends at once"


def test_without_a_press_ctrl_c_is_as_before():
    ran = run("raise KeyboardInterrupt", "print(signal.getsignal(signal.SIGINT) is signal.default_int_handler)")
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, "heard\nTrue\n", "")

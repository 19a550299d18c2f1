"""Ctrl-C and SIGTERM on the command line, where they come at an awkward moment."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import sys

import pytest

from pixelrt.cli.stopping import stopping

WRAPPED = """
import signal
from pixelrt.cli.stopping import stopping

class Named:
    def __set_name__(self, owner, name):
        signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGTERM)

try:
    with stopping():
        type("Owner", (), {"named": Named()})
except KeyboardInterrupt:
    print("interrupted")
"""


def test_one_that_python_wraps_into_another_error_is_still_an_interruption() -> None:
    done = subprocess.run(
        [sys.executable, "-c", WRAPPED], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.stdout == "interrupted\n", done.stderr


def test_another_error_stays_what_it_is() -> None:
    with pytest.raises(RuntimeError, match="another"), stopping():
        raise RuntimeError("another")


CODE = """
import signal, sys
from pixelrt.cli.stopping import stopping
with stopping() as stop:
    try:
        with stop.at_once():
            exec("import signal; signal.raise_signal(signal.SIGINT)")
    except KeyboardInterrupt:
        pass
sys.exit(stop.exit_code)
"""


def test_the_exit_code_holds_where_generated_code_was_interrupted() -> None:
    assert subprocess.run([sys.executable, "-c", CODE], timeout=60, check=False).returncode == 130


HANGING_UP = """
import os, time
from pixelrt.cli.stopping import stopping
with stopping() as stop:
    print("ready", flush=True)
    while not stop():
        time.sleep(0.01)
print("told to nobody", flush=True)
os._exit(stop.exit_code)
"""


def test_a_terminal_that_goes_ends_the_run_and_what_is_said_then_is_no_error() -> None:
    terminal, end = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-c", LEADING + HANGING_UP],
        stdin=end,
        stdout=end,
        stderr=end,
        start_new_session=True,
    )
    os.close(end)
    said = b""
    while b"ready" not in said:
        said += os.read(terminal, 1000)
    os.close(terminal)
    assert process.wait(60) == 128 + signal.SIGHUP


LEADING = (
    "import fcntl, signal, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0); "
    "signal.signal(signal.SIGHUP, signal.SIG_DFL)"  # the tests may run under nohup
)


def test_a_signal_that_is_ignored_stays_ignored() -> None:
    """As under `nohup`."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with stopping() as stop:
            signal.raise_signal(signal.SIGHUP)
            assert not stop()
    finally:
        signal.signal(signal.SIGHUP, before)

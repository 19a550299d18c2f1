"""Ctrl-C and SIGTERM on the command line, where they come at an awkward moment."""

from __future__ import annotations

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

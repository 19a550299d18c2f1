"""Ctrl-C and SIGTERM on the command line, where they come at an awkward moment."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest

from pixelrt.cli import main
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


@pytest.fixture
def hanging_up_counts() -> Iterator[None]:
    """Also where the tests run under `nohup`; one too many does not end the test run."""
    before = signal.signal(signal.SIGHUP, lambda *_: None)
    yield
    signal.signal(signal.SIGHUP, before)


@pytest.mark.usefixtures("hanging_up_counts")
def test_a_window_that_closes_tells_so_twice_and_means_one_end() -> None:
    with stopping() as stop:
        for number in (signal.SIGHUP, signal.SIGHUP):
            signal.raise_signal(number)
        assert stop()
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGTERM)
    assert stop.exit_code == 129


@pytest.mark.usefixtures("hanging_up_counts")
def test_a_window_that_closes_ends_what_ends_at_once() -> None:
    with stopping() as stop, pytest.raises(KeyboardInterrupt), stop.at_once():
        signal.raise_signal(signal.SIGHUP)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("work", ["run.run_live", "serve.run_live", "generate_work.generate"])
def test_the_exit_code_of_a_second_signal_is_that_of_the_signal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], work: str, number: signal.Signals
) -> None:
    def stubborn(*_: object) -> int:
        signal.raise_signal(number)
        signal.raise_signal(number)
        raise AssertionError("the second one ends it at once")

    monkeypatch.setattr(f"pixelrt.cli.{work}", stubborn)
    words = {"run": ["bundle", "0"], "serve": ["bundle", "0"], "generate": ["bundle", "--out", "a.png"]}
    command = work.partition(".")[0].partition("_")[0]
    assert main([command, *words[command]]) == 128 + number
    assert capsys.readouterr().err == "interrupted\n"


def test_long_work_that_does_not_end_answers_the_signal(capfd: pytest.CaptureFixture[str]) -> None:
    with stopping() as stop:
        with stop.answering("it ends soon"):
            assert capfd.readouterr().err == ""
            signal.raise_signal(signal.SIGINT)
            assert capfd.readouterr().err == "it ends soon\n"
        with stop.answering("it ends now"):
            assert capfd.readouterr().err == "it ends now\n"
            with pytest.raises(KeyboardInterrupt):
                signal.raise_signal(signal.SIGINT)
        assert capfd.readouterr().err == ""


LEADING = (
    "import fcntl, signal, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0); "
    "signal.signal(signal.SIGHUP, signal.SIG_DFL)"  # the tests may run under nohup
)


@pytest.mark.usefixtures("hanging_up_counts")
def test_a_signal_that_is_ignored_stays_ignored() -> None:
    """As under `nohup`."""
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    with stopping() as stop:
        signal.raise_signal(signal.SIGHUP)
        assert not stop()

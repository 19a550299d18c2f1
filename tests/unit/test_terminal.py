"""Standard output and standard error where nobody reads them, or they are not there."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
import textwrap
import time

import pytest

LONG = 300_000
"""Bytes that no pipe holds."""


def started(
    script: str, *, stdout: int | None = subprocess.PIPE, closed: str = ""
) -> subprocess.Popen[bytes]:
    """A program, with some of its descriptors closed from the start: `>&-`."""
    words = ["sh", "-c", f'exec "$0" -c "$1" {closed}', sys.executable, textwrap.dedent(script)]
    buffered = {**os.environ, "PYTHONUNBUFFERED": ""}  # without a buffer there is no lock
    return subprocess.Popen(words, stdout=stdout, stderr=subprocess.PIPE, env=buffered)


def test_who_waits_for_a_reader_holds_nobody_up() -> None:
    script = f"""
        import os, threading, time
        from pixelrt.terminal import complain, say_at_once
        threading.Thread(target=say_at_once, args=("x" * {LONG},), daemon=True).start()
        time.sleep(0.5)
        complain("told")
        os._exit(0)
    """
    with started(script) as process:
        assert process.stderr is not None
        assert process.stderr.read() == b"told\n"
        assert process.wait(60) == 0


def test_messages_that_nobody_reads_leave_signals_to_those_who_wait() -> None:
    """`2>&1 | less`."""
    script = f"""
        import os, signal, threading, time
        from pixelrt.terminal import complain
        def end(number, frame):
            os._exit(7)
        signal.signal(signal.SIGALRM, end)
        threading.Thread(target=complain, args=("x" * {LONG},), daemon=True).start()
        time.sleep(0.5)
        signal.setitimer(signal.ITIMER_REAL, 0.5)
        complain("y")
    """
    with started(script) as process:
        try:
            assert process.wait(60) == 7
        finally:
            process.kill()


def test_what_was_printed_before_comes_before() -> None:
    script = """
        from pixelrt.terminal import say_at_once
        print("first")
        say_at_once("second\\n")
        print("third")
    """
    with started(script) as process:
        assert process.communicate(timeout=60)[0] == b"first\nsecond\nthird\n"


def test_an_output_that_does_not_wait_is_waited_for() -> None:
    """`ssh` and others leave the terminal that they share like that."""
    ours, theirs = os.pipe()
    fcntl.fcntl(theirs, fcntl.F_SETFL, os.O_NONBLOCK)
    script = f"from pixelrt.terminal import say_at_once; say_at_once('x' * {LONG})"
    with started(script, stdout=theirs) as process:
        os.close(theirs)
        time.sleep(1.0)  # the pipe is full
        with open(ours, "rb") as stream:
            assert len(stream.read()) == LONG
        assert process.communicate(timeout=60) == (None, b"")
    assert process.returncode == 0


@pytest.mark.parametrize(
    ("closed", "script", "said"),
    [
        (">&-", "complain(styled('told', 'red'))", b"told\n"),
        ("2>&-", "complain('told')", b""),
        (">&-", "say('lost')", b"error: standard output cannot be written (it was closed from the start)\n"),
        (">&-", "say_at_once('lost')", b"error: it is closed\n"),
    ],
)
def test_outputs_that_are_closed_from_the_start(closed: str, script: str, said: bytes) -> None:
    whole = f"""
        import sys
        from pixelrt.errors import SinkError
        from pixelrt.terminal import complain, say, say_at_once, styled
        try:
            {script}
        except (SinkError, ValueError) as problem:
            sys.stderr.write(f"error: {{problem}}\\n")
    """
    with started(whole, closed=closed) as process:
        assert process.communicate(timeout=60) == (b"", said)
        assert process.returncode == 0


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        ("inspect nothing", 1, b"error: nothing"),
        ("doctor", 1, b"error: standard output cannot be written (it was closed from the start)"),
        ("--version", 0, b"pixelrt "),
    ],
)
def test_a_command_whose_output_is_closed(words: str, code: int, said: bytes) -> None:
    script = f"""
        import sys
        from pixelrt.cli import main
        sys.exit(main({words.split()!r}))
    """
    with started(script, closed=">&-") as process:
        _, told = process.communicate(timeout=120)
        assert told.startswith(said)
        assert b"Traceback" not in told
        assert process.returncode == code

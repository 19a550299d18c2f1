"""Signals held back: all come afterwards, and nobody's handlers are lost."""

from __future__ import annotations

import ctypes
import signal
import socket
import threading
from pathlib import Path
from typing import Any

import pytest
from interrupting import handled

from pixelrt.dependency import require
from pixelrt.interrupts import running, started, uninterrupted

_LIBC = ctypes.CDLL(None)
_LIBC.signal.restype = ctypes.c_void_p
_LIBC.signal.argtypes = [ctypes.c_int, ctypes.c_void_p]


def interrupted() -> None:
    raise KeyboardInterrupt


def test_ctrl_c_while_a_library_is_imported_comes_afterwards(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Some turn it into an ImportError, which looks as if they were not there."""
    code = """
import signal
try:
    signal.raise_signal(signal.SIGUSR1)
except KeyboardInterrupt:
    raise ImportError("cannot be loaded") from None
"""
    (tmp_path / "interrupted_library.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    with handled(interrupted), pytest.raises(KeyboardInterrupt):
        require("interrupted_library", "cpu", "a test")
    assert require("interrupted_library", "cpu", "a test").signal is signal


def test_signals_that_are_held_back_all_come_afterwards() -> None:
    came: list[str] = []
    numbers = {signal.SIGUSR1: "one", signal.SIGUSR2: "two"}

    def handle(number: int, _: object) -> None:
        came.append(numbers[signal.Signals(number)])
        raise ValueError(number)

    before = {number: signal.signal(number, handle) for number in numbers}
    try:
        with pytest.raises(ValueError, match=r"\d"), uninterrupted():
            for number in numbers:
                signal.raise_signal(number)
            came.append("block")
        assert came[0] == "block"
        assert sorted(came[1:]) == ["one", "two"]
        assert all(signal.getsignal(number) is handle for number in numbers)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class Interrupted(threading.Thread):
    """Ctrl-C comes while it is started, before and after it runs."""

    def start(self) -> None:
        signal.raise_signal(signal.SIGUSR1)
        super().start()
        signal.raise_signal(signal.SIGUSR1)


def test_a_thread_is_started_or_not_and_nothing_in_between() -> None:
    over = threading.Event()
    thread = Interrupted(target=over.wait)
    with handled(interrupted), pytest.raises(KeyboardInterrupt):
        started(thread)
    assert thread.is_alive()
    over.set()
    thread.join()


def test_a_thread_that_runs_during_a_block_ends_with_it_even_if_the_block_never_begins() -> None:
    over = threading.Event()
    thread = Interrupted(target=over.wait)
    with handled(interrupted), pytest.raises(KeyboardInterrupt), running(thread, over.set):
        pytest.fail("the block began")
    assert not thread.is_alive()


def test_a_third_signal_ends_a_block_that_hangs() -> None:
    came: list[str] = []
    with handled(interrupted), pytest.raises(KeyboardInterrupt), uninterrupted(), uninterrupted():
        for time in ("first", "second", "third"):
            came.append(time)
            signal.raise_signal(signal.SIGUSR1)
        came.append("for ever")
    assert came == ["first", "second", "third"]


def test_a_handler_that_c_code_installed_stays() -> None:
    """As rclpy has one: it looks at the signal, and hands it on to Python's."""
    seen: list[str] = []
    came: list[str] = []
    c_handler = ctypes.CFUNCTYPE(None, ctypes.c_int)(lambda _: seen.append(moment))
    with handled(lambda: came.append(moment)):
        pythons = _LIBC.signal(signal.SIGUSR1, ctypes.cast(c_handler, ctypes.c_void_p))
        try:
            moment = "before"
            signal.raise_signal(signal.SIGUSR1)
            with uninterrupted():
                moment = "meanwhile"
                signal.raise_signal(signal.SIGUSR1)
            moment = "after"
            signal.raise_signal(signal.SIGUSR1)
        finally:
            _LIBC.signal(signal.SIGUSR1, pythons)
        assert seen == ["before", "meanwhile", "after"]
        assert came == [], "it handed nothing on"
        signal.raise_signal(signal.SIGUSR1)
        assert came == ["after"]


def test_system_calls_that_are_to_go_on_after_a_signal_still_do() -> None:
    """What asyncio asks for with `siginterrupt`; without it, `send` or `recv` of C code would fail."""
    one, other = socket.socketpair()
    with handled(lambda: None), one, other:
        signal.siginterrupt(signal.SIGUSR1, False)
        with uninterrupted():
            pass
        main = threading.main_thread().ident
        assert main is not None
        sending = threading.Timer(0.2, lambda: (signal.pthread_kill(main, signal.SIGUSR1), other.send(b"x")))
        sending.start()
        buffer = ctypes.create_string_buffer(1)
        assert _LIBC.recv(one.fileno(), buffer, 1, 0) == 1, "else -1, EINTR"
        sending.join()


def test_a_handler_that_the_block_has_set_stays() -> None:
    def own(*_: Any) -> None:
        """An imported library's."""

    with handled(interrupted):
        with uninterrupted():
            signal.signal(signal.SIGUSR1, own)
        assert signal.getsignal(signal.SIGUSR1) is own

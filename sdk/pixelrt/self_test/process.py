"""The parent's side: a child process per group of checks, and another one where it is lost.

    parent                                              child (`worker`)
    an order, in its arguments                    ->
                                                  <-    a pipe with lines: begun, result, begun ...
    standard input, closed when the parent ends   ->    the child ends too

The child has a session of its own: Ctrl-C reaches the parent alone, which then ends the child.
"""

from __future__ import annotations

import contextlib
import dataclasses
import importlib
import os
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

from pixelrt.self_test.checks import Check, Group, left_out
from pixelrt.self_test.protocol import Begun, Order, Result, from_line, order_to_text

Listen = Callable[[Begun | Result], None]

_MOST_LOST = 2
"""After so many children of a group were lost, its other checks would only be lost as well."""
_MOST_LINES = 12
_LINES_BEFORE_CRASH = 4
_START_LIMIT_S = 60.0
_LOOK_S = 0.2
_START = (
    "import sys; sys.path[:] = sys.argv[3:]; "
    "from pixelrt.self_test.worker import main; main(int(sys.argv[1]), sys.argv[2])"
)
"""The child imports from where its parent does, not from the folder that it happens to stand in."""


def run_self_test(order: Order, listen: Listen = lambda message: None) -> list[Result]:
    """Run all checks.

    Args:
        order: What to check; `folder` is filled in.
        listen: Told of every check when it begins, and of its result.

    Returns:
        One result per check. What fails, crashes or hangs is a result too.
    """
    results: list[Result] = []
    with tempfile.TemporaryDirectory(prefix="pixelrt-self-test-", ignore_cleanup_errors=True) as folder:
        order = dataclasses.replace(order, folder=folder)
        for group in groups_of(order):
            results += _run_group(group, dataclasses.replace(order, group=group.name), listen)
    return results


def groups_of(order: Order) -> tuple[Group, ...]:
    """The groups of checks of an order."""
    module, _, name = order.groups.partition(":")
    groups: tuple[Group, ...] = getattr(importlib.import_module(module), name)(order)
    return groups


def titles(order: Order) -> dict[str, str]:
    """What each group is called, by name."""
    return {group.name: group.title for group in groups_of(order)}


def _run_group(group: Group, order: Order, listen: Listen) -> list[Result]:
    results: list[Result] = []
    for _ in range(_MOST_LOST):
        lost = _run_child(group, order, listen, results)
        if lost is None:
            return results
        results.append(lost)
        listen(lost)
        order = dataclasses.replace(order, skip=tuple(result.name for result in results))
        if any(check.needed for check in group.checks if check.name == lost.name):
            break
    for result in left_out(group, _remaining(group, results), results[-1]):
        results.append(result)
        listen(result)
    return results


def _remaining(group: Group, results: list[Result]) -> list[Check]:
    known = {result.name for result in results}
    return [check for check in group.checks if check.name not in known]


def _run_child(group: Group, order: Order, listen: Listen, results: list[Result]) -> Result | None:
    """Run what is left of a group in one child.

    Args:
        group: The checks.
        order: Which of them.
        listen: Told of all.
        results: The results are added to it.

    Returns:
        The result of the check at which the child was lost; None if it went through.
    """
    if not (remaining := _remaining(group, results)):
        return None
    limits = {check.name: check.limit_s for check in group.checks}
    running, began_s, limit_s = remaining[0].name, time.monotonic(), _START_LIMIT_S
    with _child(order) as child:
        while _remaining(group, results):
            message = child.receive(began_s + limit_s)
            if message is None:
                seconds = round(time.monotonic() - began_s, 3)
                return Result(group.name, running, "failed", child.obituary(limit_s), seconds, {})
            listen(message)
            if isinstance(message, Begun):
                running, began_s, limit_s = message.name, time.monotonic(), limits[message.name]
            else:
                results.append(message)
    return None


class _Child:
    """A running child, and what it says.

    The end of the pipe is not waited for: libraries fork processes of their own that hold it (OpenVINO's
    telemetry does, for a minute and a half where it finds no network).
    """

    def __init__(self, process: subprocess.Popen[bytes], lines: IO[bytes], output: Path) -> None:
        self._process = process
        self._lines = lines
        self._output = output
        self._pending = b""
        self._silent = False

    def receive(self, deadline_s: float) -> Begun | Result | None:
        """The next message; None if the child is gone, or says nothing until then."""
        while b"\n" not in self._pending:
            gone = self._process.poll() is not None
            ready, _, _ = select.select([self._lines], [], [], 0.0 if gone else _LOOK_S)
            if ready and (more := os.read(self._lines.fileno(), 1 << 16)):
                self._pending += more
            elif ready or gone:
                return None
            elif time.monotonic() > deadline_s:
                self._silent = True
                return None
        line, _, self._pending = self._pending.partition(b"\n")
        return from_line(line.decode())

    def obituary(self, limit_s: float) -> str:
        """How it was lost."""
        if self._silent:
            return f"took longer than {limit_s:g} s, and its process was killed{self._last_words()}"
        code = self._process.wait()
        if code == -signal.SIGKILL:
            return (
                "the process was killed (SIGKILL: by somebody, or because the machine ran out of memory; "
                f"see: dmesg){self._last_words()}"
            )
        how = f"crashed ({signal.Signals(-code).name})" if code < 0 else f"ended with status {code}"
        return f"the process {how}{self._last_words()}"

    def _last_words(self) -> str:
        """The end of what it printed, or the place where Python noticed a crash."""
        lines = [line for line in self._output.read_text(errors="replace").splitlines() if line]
        crash = next((index for index, line in enumerate(lines) if line.startswith("Fatal Python")), None)
        start = max(0, len(lines) - _MOST_LINES if crash is None else crash - _LINES_BEFORE_CRASH)
        shown = "".join(f"\n  {line}" for line in lines[start : start + _MOST_LINES])
        return f"; it printed:{shown}" if shown else ""


@contextlib.contextmanager
def _child(order: Order) -> Iterator[_Child]:
    """A child that has ended when this is left, whatever the reason."""
    reading, writing = os.pipe()
    paths = [os.path.abspath(path) for path in sys.path]
    output = Path(order.folder) / "output"
    with open(reading, "rb", buffering=0) as lines:
        try:
            with output.open("wb") as stream:
                process = subprocess.Popen(
                    [sys.executable, "-c", _START, str(writing), order_to_text(order), *paths],
                    stdin=subprocess.PIPE,
                    stdout=stream,
                    stderr=subprocess.STDOUT,
                    pass_fds=(writing,),
                    env={**os.environ, **_environment(order)},
                    start_new_session=True,
                )
        finally:
            os.close(writing)
        try:
            yield _Child(process, lines, output)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)  # and what its libraries have forked
            process.wait()
            if process.stdin:
                process.stdin.close()


def _environment(order: Order) -> dict[str, str]:
    """Engines for the test alone are kept with the test; the user's own bundle has the user's cache."""
    return {} if order.group == "bundle" else {"PIXELRT_CACHE": str(Path(order.folder) / "cache")}

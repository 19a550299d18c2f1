"""Groups of checks that go wrong in every way, for the self-test's child processes."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import time
from types import SimpleNamespace
from typing import Any

from pixelrt.errors import DeviceError
from pixelrt.self_test.checks import Check, CheckFailedError, Group, ImpossibleError
from pixelrt.self_test.protocol import Figures, Order


def fine(ground: Any) -> Figures:
    return {"speed, GB/s": 1.5}


def fails(ground: Any) -> Figures:
    raise CheckFailedError("7 of 9 values differ")


def errs(ground: Any) -> Figures:
    raise DeviceError("the GPU said no")


def is_impossible(ground: Any) -> Figures:
    raise ImpossibleError("this machine has none")


def crashes(ground: Any) -> Figures:
    sys.stderr.write("last words\n")
    ctypes.string_at(0)
    return {}


def is_a_bug(ground: Any) -> Figures:
    return {"never": 1 // 0}


def is_killed(ground: Any) -> Figures:
    os.kill(os.getpid(), signal.SIGKILL)
    return {}


def hangs(ground: Any) -> Figures:
    time.sleep(1000)
    return {}


def forks(ground: Any) -> Figures:
    """Leave a process behind that holds the pipe."""
    if os.fork() == 0:
        time.sleep(30)
        os._exit(0)
    return {}


def check(run: Any, **changes: Any) -> Check:
    return Check(**{"name": run.__name__, "run": run, "limit_s": 20.0, **changes})


def group(name: str, *checks: Check, opened: Any = None) -> Group:
    ground = SimpleNamespace(close=lambda: None)
    return Group(name=name, title=name, open=opened or (lambda order: ground), checks=checks)


def refused(order: Order) -> Any:
    raise DeviceError("the driver is broken")


def absent(order: Order) -> Any:
    raise ImpossibleError("there is no GPU")


def all_groups(order: Order) -> tuple[Group, ...]:
    return (
        group(
            "verdicts", check(fine), check(fails), check(errs), check(is_impossible), check(fine, name="end")
        ),
        group("crash", check(fine), check(crashes), check(fine, name="after")),
        group("bug", check(is_a_bug), check(fine, name="after")),
        group("killed", check(is_killed), check(fine, name="after")),
        group("hang", check(hangs, limit_s=1.0), check(fine, name="after")),
        group("needed", check(crashes, needed=True), check(fine, name="after")),
        group("needed but failed", check(fails, needed=True), check(fine, name="after")),
        group("twice", check(crashes), check(crashes, name="again"), check(fine, name="after")),
        group("refused", check(fine), check(fine, name="after"), opened=refused),
        group("absent", check(fine), check(fine, name="after"), opened=absent),
        group("forks", check(forks)),
    )

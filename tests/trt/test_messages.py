"""Whose messages TensorRT's one logger collects, with the real logger and real threads."""

from __future__ import annotations

import _thread
import gc
import threading
import time
import weakref
from collections.abc import Callable, Iterator

import pytest
import tensorrt_rtx as trt

from pixelrt.errors import BuildError
from pixelrt.trt.library import Library, load_library
from pixelrt.trt.messages import MOST


@pytest.fixture
def library() -> Iterator[Library]:
    library = load_library("tensorrt_rtx")
    library.take_problems()
    library.take_warnings()
    yield library
    library.take_problems()
    library.take_warnings()


def complain(library: Library, text: str) -> None:
    library.logger.log(trt.ILogger.ERROR, text)


def warn(library: Library, text: str) -> None:
    library.logger.log(trt.ILogger.WARNING, text)


def on_a_foreign_thread(work: Callable[[], None]) -> None:
    """Do something on a thread that is none of `threading`'s, as TensorRT's own are."""
    done = _thread.allocate_lock()
    done.acquire()

    def run() -> None:
        work()
        done.release()

    _thread.start_new_thread(run, ())
    assert done.acquire(timeout=10)


def test_every_thread_takes_its_own(library: Library) -> None:
    logged, taken = threading.Barrier(3), threading.Barrier(3)
    found: dict[str, list[str]] = {}

    def session(name: str) -> None:
        complain(library, f"of {name}")
        warn(library, f"warning of {name}")
        logged.wait(10)
        taken.wait(10)
        found[name] = [*library.take_problems(), *library.take_warnings()]

    threads = [threading.Thread(target=session, args=(name,)) for name in ("a", "b")]
    for thread in threads:
        thread.start()
    logged.wait(10)
    mine = [*library.take_problems(), *library.take_warnings()]
    taken.wait(10)
    for thread in threads:
        thread.join()
    assert mine == []
    assert found == {name: [f"of {name}", f"warning of {name}"] for name in ("a", "b")}


def test_those_of_foreign_threads_are_for_whoever_asks(library: Library) -> None:
    """The second comes from a thread that `logging` has made look like Python's."""

    def work() -> None:
        complain(library, "first")
        complain(library, "second")

    on_a_foreign_thread(work)
    assert library.take_problems() == ["first", "second"]
    assert library.take_problems() == []


def test_a_foreign_thread_that_asks_gets_its_own(library: Library) -> None:
    found: list[str] = []

    def work() -> None:
        complain(library, "its own")
        found.extend(library.take_problems())

    complain(library, "ours")
    on_a_foreign_thread(work)
    assert found == ["its own"]
    assert library.take_problems() == ["ours"]


def test_nobody_gets_those_of_threads_that_have_ended(library: Library) -> None:
    """A thread that starts next may have the same number."""
    found: list[str] = []
    for work in (
        lambda: complain(library, "stale"),
        lambda: found.extend(library.take_problems()),
    ):
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
    assert found == library.take_problems() == []


def test_threads_that_have_ended_are_let_go(library: Library) -> None:
    """Another thread that lists all threads at that moment holds it a little longer."""
    thread = threading.Thread(target=complain, args=(library, "stale"))
    thread.start()
    thread.join()
    reference = weakref.ref(thread)
    del thread
    library.take_problems()
    until_s = time.monotonic() + 5
    while reference() is not None and time.monotonic() < until_s:
        time.sleep(0.01)
        gc.collect()
    assert reference() is None, gc.get_referrers(reference())


def test_their_number_is_bounded(library: Library) -> None:
    for number in range(3 * MOST):
        warn(library, str(number))
    assert library.take_warnings() == [str(number) for number in range(2 * MOST, 3 * MOST)]


def test_an_error_of_a_thread_is_in_its_exception_alone(library: Library) -> None:
    """Two threads at once, as two sessions of one process."""
    texts: dict[str, str] = {}
    ready = threading.Barrier(2)

    def refused(name: str) -> None:
        complain(library, f"reason of {name}")
        ready.wait(10)
        try:
            library.check(None, "something")
        except BuildError as problem:
            texts[name] = str(problem)

    threads = [threading.Thread(target=refused, args=(name,)) for name in ("a", "b")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for name, text in texts.items():
        assert text.endswith(f"refused something: reason of {name}")
    assert sorted(texts) == ["a", "b"]

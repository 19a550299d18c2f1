"""Checks of CUDA through one of its libraries. Each leaves nothing behind, which is checked too."""

from __future__ import annotations

import contextlib
import functools
import threading
import time
from collections.abc import Callable, Iterator

import numpy as np

from pixelrt.cuda.protocol import Bytes, Driver, Graph, HostMemory, Stream
from pixelrt.errors import DeviceError, PixelRTError
from pixelrt.self_test.checks import MIB, Check, CheckFailedError, ImpossibleError, expect, expect_equal
from pixelrt.self_test.protocol import Figures

_SIZES = (1, 5000, 4 * MIB)
_FRAMES = 300
_ROUNDS = 10
_RATE_BYTES = 32 * MIB
_RATE_TURNS = 5
_THREADS = 2
_LEAK_BYTES = 16 * MIB
"""What the free memory may change by for reasons that are not ours, on a GPU of its own."""
_SHARED_LEAK_BYTES = 256 * MIB
"""The same where all programs use that memory."""


def noise(seed: int, size_bytes: int) -> Bytes:
    """Bytes that are no others'."""
    return np.random.default_rng(seed).integers(0, 256, size_bytes, np.uint8)


def round_trip(driver: Driver, stream: Stream, content: Bytes) -> Bytes:
    """The content, after it was on the GPU."""
    size = content.size
    with (
        driver.allocate_host(size) as source,
        driver.allocate(size) as memory,
        driver.allocate_host(size) as target,
    ):
        source.array[:] = content
        target.array[:] = 0
        stream.copy_to_device(memory.address, source.array)
        stream.copy_to_host(target.array, memory.address)
        stream.synchronize()
        found: Bytes = target.array.copy()
    return found


def slack_bytes(driver: Driver) -> int:
    """How much of the free memory may go without a leak of ours."""
    return _SHARED_LEAK_BYTES if driver.device.integrated else _LEAK_BYTES


def leaving_nothing(check: Callable[[Driver], Figures]) -> Callable[[Driver], Figures]:
    """The same check, which fails too if something that it made is not freed."""

    @functools.wraps(check)
    def checked(driver: Driver) -> Figures:
        before = driver.live
        figures = check(driver)
        left = {kind: number - before[kind] for kind, number in driver.live.items() if number != before[kind]}
        expect(not left, f"not freed at the end: {left}")
        return figures

    return checked


def opens(driver: Driver) -> Figures:
    """The GPU as the library sees it."""
    device = driver.device
    free, total = driver.memory()
    expect(0 < free <= total, f"{free} of {total} bytes are free, which cannot be")
    major, minor = device.driver_version
    return {
        "library": f"{driver.name} {driver.version}",
        "GPU": device.name,
        "target": device.target,
        "driver": f"CUDA {major}.{minor}",
        "memory_mib": total // MIB,
        "free_mib": free // MIB,
        "shared with the host": "yes" if device.integrated else "no",
    }


def memory(driver: Driver) -> Figures:
    """What goes up comes down, through device, page-locked and mapped memory."""
    with driver.stream() as stream:
        for size in _SIZES:
            content = noise(size, size)
            expect_equal(round_trip(driver, stream, content), content, f"{size} bytes after a round trip")
        if not driver.device.maps_host_memory:
            return {"mapped memory": "none"}
        _mapped(driver, stream)
    return {"mapped memory": "yes"}


def _mapped(driver: Driver, stream: Stream) -> None:
    size, content = _SIZES[1], noise(1, _SIZES[1])
    with (
        driver.allocate_host(size, mapped=True) as first,
        driver.allocate(size) as between,
        driver.allocate_host(size, mapped=True) as second,
    ):
        first.array[:] = content
        second.array[:] = 0
        for place in (first, second):
            expect(bool(place.device_address), "mapped memory has no address on the GPU")
        stream.copy_on_device(between.address, first.device_address or 0, size)
        stream.copy_on_device(second.device_address or 0, between.address, size)
        stream.synchronize()
        expect_equal(second.array, content, f"{size} bytes through mapped memory")


def events(driver: Driver) -> Figures:
    """Events come after the work before them, and tell how long it took."""
    with (
        driver.stream() as stream,
        driver.event(timing=True) as start,
        driver.event(timing=True, blocking=True) as end,
        driver.allocate_host(4 * MIB) as host,
        driver.allocate(4 * MIB) as device,
    ):
        stream.record(start)
        for _ in range(4):
            stream.copy_to_device(device.address, host.array)
        stream.record(end)
        end.synchronize()
        expect(end.done, "an event that was waited for is not done")
        elapsed_ms = end.elapsed_ms(start)
        expect(0 < elapsed_ms < 10_000, f"16 MiB took {elapsed_ms} ms by the events, which cannot be")
        expect(end.elapsed_ms(end) == 0, "no time passes between an event and itself")
    return {"16 MiB up, ms": round(elapsed_ms, 3)}


def streams(driver: Driver) -> Figures:
    """Two streams that wait for each other's events use one buffer in turns."""
    size = MIB
    with contextlib.ExitStack() as made:
        sources = [made.enter_context(driver.allocate_host(size)) for _ in range(_ROUNDS)]
        targets = [made.enter_context(driver.allocate_host(size)) for _ in range(_ROUNDS)]
        up, down = made.enter_context(driver.stream()), made.enter_context(driver.stream())
        uploaded, downloaded = made.enter_context(driver.event()), made.enter_context(driver.event())
        between = made.enter_context(driver.allocate(size))
        for seed, (source, target) in enumerate(zip(sources, targets, strict=True)):
            source.array[:] = noise(seed, size)
            target.array[:] = 0
            up.wait(downloaded)
            up.copy_to_device(between.address, source.array)
            up.record(uploaded)
            down.wait(uploaded)
            down.copy_to_host(target.array, between.address)
            down.record(downloaded)
        down.synchronize()
        for turn, (source, target) in enumerate(zip(sources, targets, strict=True)):
            expect_equal(target.array, source.array, f"turn {turn} of two streams on one buffer")
    return {"turns": _ROUNDS}


def graphs(driver: Driver) -> Figures:
    """A graph does its work again with what is then in memory; a capture that fails spoils nothing."""
    if not driver.captures_graphs:
        raise ImpossibleError(f"{driver.name} has no CUDA graphs; cuda-python has them")
    size = _SIZES[1]
    with (
        driver.stream() as stream,
        driver.allocate_host(size) as source,
        driver.allocate(size) as between,
        driver.allocate_host(size) as target,
    ):
        target.array[:] = 0
        source.array[:] = noise(0, size)
        with _captured(stream, source, between.address, target) as graph:
            stream.synchronize()
            expect(not target.array.any(), "the work ran while it was captured")
            for seed in range(3):
                source.array[:] = noise(seed, size)
                graph.launch(stream)
                stream.synchronize()
                expect_equal(target.array, source.array, f"launch {seed} of a graph")
        _fail_to_capture(stream)
        content = noise(9, size)
        expect_equal(round_trip(driver, stream, content), content, "a round trip after a failed capture")
    return {"launches": 3}


@contextlib.contextmanager
def _captured(stream: Stream, source: HostMemory, between: int, target: HostMemory) -> Iterator[Graph]:
    stream.begin_capture()
    stream.copy_to_device(between, source.array)
    stream.copy_to_host(target.array, between)
    with stream.end_capture() as graph:
        yield graph


def _fail_to_capture(stream: Stream) -> None:
    """Do in a capture what is not allowed there, and end it."""
    stream.begin_capture()
    waited = _works(stream.synchronize)
    captured = _works(lambda: stream.end_capture().close())
    expect(not waited, "waiting for a stream that is captured was not refused")
    expect(not captured, "a capture in which something was refused gave a graph all the same")


def _works(call: Callable[[], None]) -> bool:
    try:
        call()
    except DeviceError:
        return False
    return True


def threads(driver: Driver) -> Figures:
    """Several threads use the GPU at once, each with a stream of its own."""
    problems: list[Exception] = []

    def work(index: int) -> None:
        try:
            with driver.stream() as stream:
                for turn in range(20):
                    content = noise(100 * index + turn, _SIZES[1])
                    found = round_trip(driver, stream, content)
                    expect_equal(found, content, f"turn {turn} in thread {index}")
        except (CheckFailedError, PixelRTError) as problem:
            problems.append(problem)

    running = [threading.Thread(target=work, args=(index,)) for index in range(_THREADS)]
    for thread in running:
        thread.start()
    for thread in running:
        thread.join()
    if problems:
        raise problems[0]
    return {"threads": _THREADS}


def leaks(driver: Driver) -> Figures:
    """The memory of the GPU is there again after some hundred frames."""
    with driver.stream() as stream:
        for _ in range(20):
            _frame(driver, stream)
        before, live = driver.memory()[0], driver.live
        for _ in range(_FRAMES):
            _frame(driver, stream)
        after = driver.memory()[0]
        expect(driver.live == live, f"after {_FRAMES} frames there is {driver.live}, before them {live}")
    expect_no_leak(before, after, slack_bytes(driver), f"{_FRAMES} frames")
    return {"frames": _FRAMES, "free before, MiB": before // MIB, "free after, MiB": after // MIB}


def _frame(driver: Driver, stream: Stream) -> None:
    with (
        driver.allocate_host(MIB) as host,
        driver.allocate(MIB) as device,
        driver.event() as event,
        driver.stream() as other,
    ):
        stream.copy_to_device(device.address, host.array)
        stream.record(event)
        other.wait(event)
        other.copy_to_host(host.array, device.address)
        other.synchronize()


def expect_no_leak(before: int, after: int, slack: int, what: str) -> None:
    """Refuse less free memory than before.

    Raises:
        CheckFailedError: Saying how much is gone.
    """
    expect(
        after >= before - slack,
        f"{(before - after) / MIB:.1f} MiB of the GPU's memory are gone after {what}, at most "
        f"{slack // MIB} were expected; does another program use the GPU?",
    )


def rates(driver: Driver) -> Figures:
    """How fast copies are: page-locked, and ordinary arrays by way of page-locked ones, as sessions do."""
    with (
        driver.stream() as stream,
        driver.allocate_host(_RATE_BYTES) as host,
        driver.allocate(_RATE_BYTES) as device,
    ):
        ordinary = noise(1, _RATE_BYTES)
        staged_s = _seconds_to_fill(host.array, ordinary)
        up_ms = _fastest_ms(driver, stream, lambda: stream.copy_to_device(device.address, host.array))
        host.array[:] = 0
        down_ms = _fastest_ms(driver, stream, lambda: stream.copy_to_host(host.array, device.address))
        expect_equal(host.array, ordinary, f"{_RATE_BYTES // MIB} MiB after a round trip")
    return {
        "up, GB/s": _gb_per_s(up_ms),
        "up from ordinary memory, GB/s": _gb_per_s(up_ms + staged_s * 1e3),
        "down, GB/s": _gb_per_s(down_ms),
    }


def _seconds_to_fill(target: Bytes, source: Bytes) -> float:
    fastest_s = float("inf")
    for _ in range(_RATE_TURNS):
        began_s = time.perf_counter()
        np.copyto(target, source)
        fastest_s = min(fastest_s, time.perf_counter() - began_s)
    return fastest_s


def _fastest_ms(driver: Driver, stream: Stream, copy: Callable[[], None]) -> float:
    fastest_ms = float("inf")
    with driver.event(timing=True) as start, driver.event(timing=True) as end:
        for _ in range(_RATE_TURNS):
            stream.record(start)
            copy()
            stream.record(end)
            end.synchronize()
            fastest_ms = min(fastest_ms, end.elapsed_ms(start))
    expect(fastest_ms > 0, f"copying {_RATE_BYTES // MIB} MiB took no time by the events")
    return fastest_ms


def _gb_per_s(duration_ms: float) -> float:
    return round(_RATE_BYTES / duration_ms / 1e6, 2)


CUDA_CHECKS = (
    Check(name="opens", run=opens, needed=True),
    Check(name="memory", run=leaving_nothing(memory)),
    Check(name="events", run=leaving_nothing(events)),
    Check(name="streams", run=leaving_nothing(streams)),
    Check(name="graphs", run=leaving_nothing(graphs)),
    Check(name="threads", run=leaving_nothing(threads)),
    Check(name="leaks", run=leaving_nothing(leaks)),
    Check(name="copy rates", run=leaving_nothing(rates)),
)

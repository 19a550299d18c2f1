"""What every CUDA driver must do, wherever it runs: for emulated.py, and test_cuda.py in contract and gpu."""

from __future__ import annotations

import gc
import itertools
import threading
import time
from collections.abc import Callable, Iterator

import numpy as np
import pytest
from numpy.typing import NDArray
from threads import in_threads

from pixelrt.cuda.capturing import CAPTURING
from pixelrt.cuda.protocol import Driver, Stream
from pixelrt.errors import DeviceError, InputError, OutOfMemory

Bytes = NDArray[np.uint8]
SIZE = 5000


def noise(seed: int, size: int = SIZE) -> Bytes:
    return np.random.default_rng(seed).integers(0, 256, size, np.uint8)


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
        return target.array.copy()


def is_empty(driver: Driver) -> bool:
    return not any(driver.live.values())


class CudaContract:
    """Subclasses name a driver and make one."""

    name: str
    waits_for_other_streams = True

    def make(self) -> Driver:
        raise NotImplementedError

    @pytest.fixture
    def driver(self) -> Iterator[Driver]:
        driver: Driver
        with self.make() as driver:
            yield driver
            assert is_empty(driver), driver.live

    @pytest.fixture
    def stream(self, driver: Driver) -> Iterator[Stream]:
        with driver.stream() as stream:
            yield stream

    def test_says_what_it_is(self, driver: Driver) -> None:
        assert driver.name == self.name
        assert driver.version[0].isdigit()
        device = driver.device
        assert device.index == 0 and device.name
        assert device.target == f"sm{device.compute_capability[0]}{device.compute_capability[1]}"
        assert device.driver_version >= (11, 0)
        free, total = driver.memory()
        assert 0 < free <= total
        assert abs(total - device.total_bytes) < device.total_bytes / 4
        assert set(driver.live) >= {"device memory", "host memory", "stream", "event", "graph"}

    # --- memory and copies

    @pytest.mark.parametrize("size", [1, SIZE, 1 << 20])
    def test_what_goes_up_comes_down(self, driver: Driver, stream: Stream, size: int) -> None:
        content = noise(size, size)
        np.testing.assert_array_equal(round_trip(driver, stream, content), content)

    def test_a_part_is_copied_and_no_more(self, driver: Driver, stream: Stream) -> None:
        with driver.allocate_host(SIZE) as host, driver.allocate(SIZE) as memory:
            host.array[:] = content = noise(1)
            stream.copy_to_device(memory.address, host.array)
            stream.copy_on_device(memory.address + 100, memory.address, 50)
            stream.synchronize()
            host.array[:] = 0
            stream.copy_to_host(host.array[:200], memory.address)
            stream.synchronize()
            np.testing.assert_array_equal(host.array[:100], content[:100])
            np.testing.assert_array_equal(host.array[100:150], content[:50])
            np.testing.assert_array_equal(host.array[150:200], content[150:200])
            assert not host.array[200:].any()

    def test_allocations_are_apart_and_aligned(self, driver: Driver) -> None:
        blocks = [driver.allocate(size) for size in (1, 300, 257, SIZE)]
        spans = sorted((block.address, block.address + block.size_bytes) for block in blocks)
        assert all(end <= start for (_, end), (start, _) in itertools.pairwise(spans))
        assert all(block.address % 256 == 0 for block in blocks)
        assert driver.live["device memory"] == 4
        for block in blocks:
            block.close()

    def test_host_memory_is_an_array(self, driver: Driver) -> None:
        with driver.allocate_host(SIZE) as memory:
            assert (memory.array.dtype, memory.array.shape) == (np.uint8, (SIZE,))
            assert memory.array.flags.writeable and memory.array.flags.c_contiguous
            assert memory.size_bytes == SIZE and memory.device_address is None
            memory.array[:] = noise(2)
            np.testing.assert_array_equal(memory.array, noise(2))

    def test_an_array_keeps_its_memory(self, driver: Driver) -> None:
        array = driver.allocate_host(SIZE).array
        gc.collect()
        assert driver.live["host memory"] == 1
        array[:] = noise(3)
        np.testing.assert_array_equal(array, noise(3))
        del array
        gc.collect()
        assert is_empty(driver)

    def test_mapped_memory_is_seen_by_both(self, driver: Driver, stream: Stream) -> None:
        if not driver.device.maps_host_memory:
            with pytest.raises(DeviceError, match="cannot map"):
                driver.allocate_host(SIZE, mapped=True)
            return
        with (
            driver.allocate_host(SIZE, mapped=True) as first,
            driver.allocate(SIZE) as memory,
            driver.allocate_host(SIZE, mapped=True) as second,
        ):
            assert first.device_address and second.device_address
            first.array[:] = noise(4)
            stream.copy_on_device(memory.address, first.device_address, SIZE)
            stream.copy_on_device(second.device_address, memory.address, SIZE)
            stream.synchronize()
            np.testing.assert_array_equal(second.array, noise(4))

    @pytest.mark.parametrize("size", [0, -1])
    def test_no_bytes_are_refused(self, driver: Driver, stream: Stream, size: int) -> None:
        for make in (driver.allocate, driver.allocate_host):
            with pytest.raises(InputError, match=rf"{size}\b.*at least (one|1)"):
                make(size)
        assert driver.live["stream"] == 1 and sum(driver.live.values()) == 1

    def test_only_contiguous_bytes_are_copied(self, driver: Driver, stream: Stream) -> None:
        with driver.allocate_host(64) as host, driver.allocate(64) as memory:
            for wrong in (host.array[::2], host.array.view(np.float32), host.array[:0], [1, 2]):
                with pytest.raises(InputError, match=r"expected (contiguous|a NumPy array)"):
                    stream.copy_to_device(memory.address, wrong)  # type: ignore[arg-type]
                with pytest.raises(InputError, match=r"expected (contiguous|a NumPy array)"):
                    stream.copy_to_host(wrong, memory.address)  # type: ignore[arg-type]
            read_only = host.array
            read_only.flags.writeable = False
            stream.copy_to_device(memory.address, read_only)
            with pytest.raises(InputError, match="read-only"):
                stream.copy_to_host(read_only, memory.address)
            stream.synchronize()

    def test_out_of_memory_leaves_nothing_behind(self, driver: Driver, stream: Stream) -> None:
        free, total = driver.memory()
        with pytest.raises(OutOfMemory, match="memory"):
            driver.allocate(2 * total)
        assert driver.live["device memory"] == 0
        assert driver.memory()[0] >= free
        np.testing.assert_array_equal(round_trip(driver, stream, noise(5)), noise(5))

    # --- order

    def test_streams_wait_for_events(self, driver: Driver) -> None:
        rounds, size = 10, 1 << 16
        with (
            driver.stream() as up,
            driver.stream() as down,
            driver.allocate(size) as memory,
            driver.event() as uploaded,
            driver.event() as downloaded,
        ):
            sources = [driver.allocate_host(size) for _ in range(rounds)]
            targets = [driver.allocate_host(size) for _ in range(rounds)]
            for seed, (source, target) in enumerate(zip(sources, targets, strict=True)):
                source.array[:] = noise(seed, size)
                up.wait(downloaded)  # never recorded in the first round: no wait
                up.copy_to_device(memory.address, source.array)
                up.record(uploaded)
                down.wait(uploaded)
                down.copy_to_host(target.array, memory.address)
                down.record(downloaded)
            downloaded.synchronize()
            assert downloaded.done
            for seed, target in enumerate(targets):
                np.testing.assert_array_equal(target.array, noise(seed, size))
            for memory_of_host in sources + targets:
                memory_of_host.close()

    def test_a_wait_is_for_the_recording_that_there_was(self, driver: Driver) -> None:
        with (
            driver.stream() as first,
            driver.stream() as second,
            driver.event() as event,
            driver.allocate_host(SIZE) as host,
            driver.allocate(SIZE) as memory,
        ):
            first.record(event)
            second.wait(event)
            first.wait(event)  # of its own stream: no deadlock
            first.copy_to_device(memory.address, host.array)
            first.record(event)
            second.synchronize()
            first.synchronize()
            assert event.done

    def test_waits_for_streams_of_others(self, driver: Driver, stream: Stream) -> None:
        stream.wait_for_stream(0)
        stream.synchronize()
        with (
            driver.stream() as other,
            driver.allocate(2 * SIZE) as memory,
            driver.allocate_host(SIZE) as host,
        ):
            if not self.waits_for_other_streams:
                with pytest.raises(DeviceError, match="synchronize that stream first"):
                    stream.wait_for_stream(other.handle)
                return
            host.array[:] = noise(6)
            for _ in range(20):  # so much that it is still at it when we would be done
                other.copy_on_device(memory.address, memory.address + SIZE, SIZE)
            other.copy_to_device(memory.address, host.array)
            stream.wait_for_stream(other.handle)
            with driver.allocate_host(SIZE) as target:
                stream.copy_to_host(target.array, memory.address)
                stream.synchronize()
                np.testing.assert_array_equal(target.array, noise(6))

    def test_events_tell_how_long_it_took(self, driver: Driver, stream: Stream) -> None:
        with (
            driver.event(timing=True) as start,
            driver.event(timing=True, blocking=True) as end,
            driver.event() as untimed,
            driver.allocate_host(1 << 20) as host,
            driver.allocate(1 << 20) as memory,
        ):
            assert start.done  # never recorded
            start.synchronize()
            with pytest.raises(DeviceError):
                end.elapsed_ms(start)
            stream.record(start)
            for _ in range(4):
                stream.copy_to_device(memory.address, host.array)
            stream.record(end)
            stream.record(untimed)
            end.synchronize()
            stream.synchronize()
            assert 0 < end.elapsed_ms(start) < 1000
            assert end.elapsed_ms(end) == 0
            with pytest.raises(InputError, match="timing"):
                end.elapsed_ms(untimed)

    def test_an_event_is_done_when_its_stream_came_to_it(self, driver: Driver, stream: Stream) -> None:
        with (
            driver.event() as event,
            driver.allocate_host(1 << 20) as host,
            driver.allocate(1 << 20) as memory,
        ):
            for _ in range(20):
                stream.copy_to_device(memory.address, host.array)
            stream.record(event)
            end = time.monotonic() + 10
            while not event.done:
                assert time.monotonic() < end
            stream.synchronize()

    def test_a_mark_behind_all_work(self, driver: Driver) -> None:
        with (
            driver.stream() as first,
            driver.stream() as second,
            driver.event() as event,
            driver.allocate(2 * SIZE) as memory,
            driver.allocate_host(2 * SIZE) as source,
            driver.allocate_host(2 * SIZE) as target,
        ):
            if not driver.marks_all_work:
                with pytest.raises(DeviceError, match="cannot mark all work"):
                    driver.mark_all_work(event)
                return
            for seed in range(3):
                source.array[:] = noise(seed, 2 * SIZE)
                for half, stream in enumerate((first, second)):
                    here = slice(half * SIZE, (half + 1) * SIZE)
                    stream.copy_to_device(memory.address + half * SIZE, source.array[here])
                    for _ in range(10 * half):  # so much that one is at it long after the other
                        stream.copy_to_device(memory.address + half * SIZE, source.array[here])
                    stream.copy_to_host(target.array[here], memory.address + half * SIZE)
                driver.mark_all_work(event)
                event.synchronize()
                np.testing.assert_array_equal(target.array, source.array)
                assert event.done

    def test_synchronize_waits_for_all_streams(self, driver: Driver) -> None:
        with (
            driver.stream() as first,
            driver.stream() as second,
            driver.allocate(2 * SIZE) as memory,
            driver.allocate_host(2 * SIZE) as source,
            driver.allocate_host(SIZE) as target,
        ):
            source.array[:] = noise(7, 2 * SIZE)
            first.copy_to_device(memory.address, source.array[:SIZE])
            second.copy_to_device(memory.address + SIZE, source.array[SIZE:])
            driver.synchronize()
            for half in range(2):
                first.copy_to_host(target.array, memory.address + half * SIZE)
                driver.synchronize()
                np.testing.assert_array_equal(target.array, source.array[half * SIZE :][:SIZE])

    @pytest.mark.parametrize("priority", [-100, 100])
    def test_priorities_are_clamped(self, driver: Driver, priority: int) -> None:
        if self.name == "pycuda":
            with pytest.raises(DeviceError, match="cuda-python can"):
                driver.stream(priority=priority)
            return
        with driver.stream(priority=priority) as stream:
            np.testing.assert_array_equal(round_trip(driver, stream, noise(8)), noise(8))

    # --- graphs

    def test_a_graph_has_its_addresses_and_not_their_contents(self, driver: Driver, stream: Stream) -> None:
        if not driver.captures_graphs:
            with pytest.raises(DeviceError, match="graphs"):
                stream.begin_capture()
            return
        with (
            driver.allocate_host(SIZE) as source,
            driver.allocate(SIZE) as memory,
            driver.allocate_host(SIZE) as target,
        ):
            target.array[:] = 0
            stream.begin_capture()
            stream.copy_to_device(memory.address, source.array)
            stream.copy_to_host(target.array, memory.address)
            with stream.end_capture() as graph:
                stream.synchronize()
                assert not target.array.any(), "a capture must not run"
                for seed in range(3):
                    source.array[:] = noise(seed)
                    graph.launch(stream)
                    stream.synchronize()
                    np.testing.assert_array_equal(target.array, noise(seed))
                assert driver.live["graph"] == 1
                with driver.stream() as other:
                    source.array[:] = noise(9)
                    graph.launch(other)
                    other.synchronize()
                    np.testing.assert_array_equal(target.array, noise(9))
            with pytest.raises(DeviceError, match="closed"):
                graph.launch(stream)

    def test_a_failed_capture_leaves_a_usable_stream(self, driver: Driver, stream: Stream) -> None:
        if not driver.captures_graphs:
            pytest.skip("no graphs")
        for _ in range(3):
            stream.begin_capture()
            with pytest.raises(DeviceError):
                stream.synchronize()
            with pytest.raises(DeviceError):
                stream.end_capture()
            np.testing.assert_array_equal(round_trip(driver, stream, noise(10)), noise(10))
        assert driver.live["graph"] == 0

    def test_the_gpu_cannot_be_waited_for_while_this_thread_captures(
        self, driver: Driver, stream: Stream
    ) -> None:
        if not driver.captures_graphs:
            pytest.skip("no graphs")
        with driver.event() as event:
            for refused in (driver.synchronize, lambda: driver.mark_all_work(event)):
                stream.begin_capture()
                with pytest.raises(DeviceError):
                    refused()
                with pytest.raises(DeviceError):
                    stream.end_capture()
                refused()

    def test_who_waits_for_the_gpu_waits_for_captures(self, driver: Driver, stream: Stream) -> None:
        if not driver.captures_graphs:
            pytest.skip("no graphs")
        with driver.event() as event:
            for wait in (driver.synchronize, lambda: driver.mark_all_work(event)):
                self._wait_during_a_capture(wait, stream)

    def _wait_during_a_capture(self, wait: Callable[[], None], stream: Stream) -> None:
        waited = threading.Event()
        with CAPTURING:
            stream.begin_capture()
            waiter = threading.Thread(target=lambda: (wait(), waited.set()))
            waiter.start()
            assert not waited.wait(0.1)
            stream.end_capture().close()
        waiter.join()
        assert waited.is_set()

    # --- threads

    def test_threads_use_one_driver_at_once(self, driver: Driver) -> None:
        def work(index: int) -> None:
            with driver.stream() as stream:
                for turn in range(20):
                    content = noise(100 * index + turn)
                    np.testing.assert_array_equal(round_trip(driver, stream, content), content)

        in_threads(4, work)

    def test_one_thread_makes_it_and_another_frees_it(self, driver: Driver) -> None:
        made = [driver.allocate(SIZE), driver.allocate_host(SIZE), driver.stream(), driver.event()]
        in_threads(1, lambda _: [resource.close() for resource in made] and None)
        assert is_empty(driver)

    def test_two_threads_close_the_same(self, driver: Driver) -> None:
        for _ in range(50):
            memory = driver.allocate(SIZE)
            in_threads(2, lambda _, memory=memory: memory.close())  # type: ignore[misc]
        assert is_empty(driver)

    def test_the_context_nests(self, driver: Driver) -> None:
        with driver.current(), driver.current(), driver.stream() as stream:
            np.testing.assert_array_equal(round_trip(driver, stream, noise(11)), noise(11))
            with driver.current():
                pass
            stream.synchronize()
        driver.memory()

    # --- lifetime

    def test_closing_twice_is_once(self, driver: Driver) -> None:
        for make in (
            lambda: driver.allocate(1),
            lambda: driver.allocate_host(1),
            driver.stream,
            driver.event,
        ):
            resource, again = make(), make()
            assert sum(driver.live.values()) == 2
            resource.close()
            resource.close()
            assert sum(driver.live.values()) == 1
            again.close()

    def test_nothing_is_used_after_it_was_closed(self, driver: Driver, stream: Stream) -> None:
        memory, host, event = driver.allocate(1), driver.allocate_host(1, mapped=True), driver.event()
        closed = driver.stream()
        for resource in (memory, host, event, closed):
            resource.close()
        uses: list[Callable[[], object]] = [
            lambda: memory.address,
            lambda: host.array,
            lambda: host.device_address,
            lambda: event.done,
            event.synchronize,
            lambda: stream.record(event),
            lambda: stream.wait(event),
            closed.synchronize,
            lambda: closed.handle,
            lambda: closed.copy_on_device(1, 1, 1),
        ]
        if driver.marks_all_work:
            uses.append(lambda: driver.mark_all_work(event))
        for use in uses:
            with pytest.raises(DeviceError, match="closed"):
                use()

    def test_a_closed_driver_makes_nothing(self) -> None:
        driver = self.make()
        stream, event = driver.stream(), driver.event()
        driver.close()
        driver.close()
        makers: list[Callable[[], object]] = [
            lambda: driver.allocate(1),
            lambda: driver.allocate_host(1),
            driver.stream,
            driver.event,
            driver.memory,
            driver.synchronize,
            lambda: driver.mark_all_work(event),
        ]
        for make in makers:
            with pytest.raises(DeviceError, match="closed"):
                make()
        assert driver.live["stream"] == driver.live["event"] == 1
        stream.close()
        event.close()
        assert is_empty(driver)

    def test_garbage_is_freed(self, driver: Driver) -> None:
        for _ in range(250):
            for make in (driver.allocate, driver.allocate_host):
                make(64)
            driver.stream()
            driver.event()
        cycle: list[object] = [driver.allocate(64)]
        cycle.append(cycle)
        del cycle
        gc.collect()
        assert is_empty(driver), driver.live

    def test_an_exception_frees_what_with_holds(self, driver: Driver) -> None:
        with pytest.raises(ZeroDivisionError), driver.allocate(1), driver.stream(), driver.current():
            raise ZeroDivisionError
        assert is_empty(driver)

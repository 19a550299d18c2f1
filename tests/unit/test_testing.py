"""`pixelrt.testing` itself: what the fakes promise to those who test with them."""

from __future__ import annotations

import gc
import itertools
import json
import random
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any, get_args

import numpy as np
import pytest
from numpy.typing import NDArray

import pixelrt.testing
from pixelrt.cuda.protocol import Event, Stream
from pixelrt.errors import ContextLost, DeviceError, DeviceLost, ExecutionFailed, InputError, OutOfMemory
from pixelrt.manifest import manifest_from_json
from pixelrt.pipeline.options import GpuOptions
from pixelrt.tensors import TensorSpec
from pixelrt.testing import DataRaceError, FakeCuda, FakeExecutor, FakeNetwork, Span, fake_segmenter
from pixelrt.testing.gpu import CALLS
from pixelrt.testing.simulation import Operation, Order

Bytes = NDArray[np.uint8]
ORDERS: tuple[Order, ...] = get_args(Order)
UINT8 = np.dtype(np.uint8)
SIZE_BYTES = 64
FRESH = 0xA5


FRAME_PER_MS = 72e-6
"""Copies take 1 ms for a frame, a third of it for a mask."""


@pytest.fixture(params=ORDERS)
def cuda(request: pytest.FixtureRequest) -> Iterator[FakeCuda]:
    with FakeCuda(order=request.param, copy_gb_per_s=FRAME_PER_MS) as driver:
        yield driver


def brightest(
    cuda: FakeCuda, network: FakeNetwork | None = None, compute: Callable[..., Any] | None = None
) -> FakeExecutor:
    """A network whose mask is the strongest channel of each pixel."""
    return FakeExecutor(
        cuda,
        (TensorSpec("frame", UINT8, ("batch", "height", "width", 3)),),
        (TensorSpec("mask", UINT8, ("batch", "height", "width")),),
        compute or (lambda feeds: {"mask": feeds["frame"].max(axis=3)}),
        network,
    )


def a_frame(seed: int, height: int = 4, width: int = 6) -> Bytes:
    return np.random.default_rng(seed).integers(0, 255, (1, height, width, 3), np.uint8)


class Slot:
    """Buffers and events of one frame, all for 1x4x6 pixels."""

    def __init__(self, cuda: FakeCuda, executor: FakeExecutor, compute: Stream) -> None:
        self.host_frame = cuda.allocate_host(72)
        self.frame = cuda.allocate(72)
        self.mask = cuda.allocate(24)
        self.host_mask = cuda.allocate_host(24)
        self.scratch = cuda.allocate(256)
        self.copied, self.computed, self.fetched = (cuda.event(timing=True) for _ in range(3))
        self.binding = executor.binding(compute)
        self.binding.set_shapes({"frame": (1, 4, 6, 3)})
        self.binding.set_scratch(self.scratch.address, 256)
        self.binding.bind({"frame": self.frame.address, "mask": self.mask.address})

    @property
    def result(self) -> Bytes:
        return self.host_mask.array.reshape(1, 4, 6)


class Pipeline:
    """Three streams, as PixelRT's ring has them; `forget` leaves out a wait."""

    def __init__(self, cuda: FakeCuda, network: FakeNetwork | None = None, num_slots: int = 2) -> None:
        self.executor = brightest(cuda, network)
        self.up, self.compute, self.down = (cuda.stream() for _ in range(3))
        self.slots = [Slot(cuda, self.executor, self.compute) for _ in range(num_slots)]

    def submit(self, slot: Slot, frame: Bytes, forget: str = "") -> None:
        slot.host_frame.array[:] = frame.ravel()
        self.up.copy_to_device(slot.frame.address, slot.host_frame.array)
        self.up.record(slot.copied)
        if forget != "copied":
            self.compute.wait(slot.copied)
        slot.binding.enqueue(self.compute)
        self.compute.record(slot.computed)
        if forget != "computed":
            self.down.wait(slot.computed)
        self.down.copy_to_host(slot.host_mask.array, slot.mask.address)
        self.down.record(slot.fetched)

    def run(self, slot: Slot, frame: Bytes, forget: str = "") -> Bytes:
        self.submit(slot, frame, forget)
        slot.fetched.synchronize()
        return slot.result.copy()


# --- memory -------------------------------------------------------------------------------------------------


def test_memory_is_real_aligned_and_filled_with_a_pattern(cuda: FakeCuda) -> None:
    device, host = cuda.allocate(1000), cuda.allocate_host(1000)
    assert device.address % 256 == host.array.ctypes.data % 256 == 0
    assert (device.content == FRESH).all() and (host.array == FRESH).all()
    assert device.size_bytes == host.size_bytes == 1000
    assert not np.shares_memory(device.content, host.array)
    assert host.device_address is None
    cuda.view(device.address + 10, 5)[:] = 7
    assert device.content[9:16].tolist() == [FRESH, 7, 7, 7, 7, 7, FRESH]


def test_mapped_memory_is_the_same_for_both(cuda: FakeCuda) -> None:
    mapped = cuda.allocate_host(SIZE_BYTES, mapped=True)
    assert mapped.device_address is not None
    cuda.view(mapped.device_address, SIZE_BYTES).fill(3)
    assert (mapped.array == 3).all()


def test_addresses_that_are_not_the_gpus_are_refused(cuda: FakeCuda) -> None:
    stream, device, host = cuda.stream(), cuda.allocate(SIZE_BYTES), cuda.allocate_host(SIZE_BYTES)
    with pytest.raises(
        DeviceError, match="is page-locked memory of the host, expected an address on the GPU"
    ):
        stream.copy_to_device(host.array.ctypes.data, host.array)
    with pytest.raises(DeviceError, match=r"64 bytes at .* leave their device memory: 63 of its 64 bytes"):
        stream.copy_to_device(device.address + 1, host.array)
    with pytest.raises(DeviceError, match="is not allocated, or freed"):
        stream.copy_to_device(12345, host.array)
    with pytest.raises(DeviceError, match="is not page-locked: use allocate_host"):
        stream.copy_to_device(device.address, np.zeros(SIZE_BYTES, np.uint8))
    with pytest.raises(DeviceError, match="is device memory, expected page-locked host memory"):
        stream.copy_to_host(device.content, device.address)
    with pytest.raises(InputError, match=r"is uint8\[32\] with strides \(2,\), expected contiguous uint8"):
        stream.copy_to_device(device.address, host.array[::2])
    with pytest.raises(InputError, match=r"read-only"):
        frozen = host.array
        frozen.flags.writeable = False
        stream.copy_to_host(frozen, device.address)
    device.close()
    with pytest.raises(DeviceError, match="this device memory is closed"):
        _ = device.address


def test_freed_memory_is_refused_and_poisoned() -> None:
    cuda = FakeCuda(order="lazy")
    stream, device, host = cuda.stream(), cuda.allocate(SIZE_BYTES), cuda.allocate_host(SIZE_BYTES)
    address, view = device.address, host.array
    host.close()
    assert (view == 0xDD).all()
    with pytest.raises(DeviceError, match="is not page-locked"):
        stream.copy_to_device(address, view)
    host = cuda.allocate_host(SIZE_BYTES)
    stream.copy_to_device(address, host.array)
    device.close()  # before the copy has happened
    with pytest.raises(ContextLost, match=r"copy to device: illegal address: .* is not allocated, or freed"):
        stream.synchronize()
    with pytest.raises(ContextLost, match=r"Driver\.allocate: copy to device: illegal address"):
        cuda.allocate(1)


def test_an_array_keeps_page_locked_memory_alive(cuda: FakeCuda) -> None:
    array = cuda.allocate_host(SIZE_BYTES).array
    gc.collect()
    assert cuda.live["host memory"] == 1
    stream, device = cuda.stream(), cuda.allocate(SIZE_BYTES)
    stream.copy_to_device(device.address, array)
    stream.synchronize()
    del array
    assert cuda.live["host memory"] == 0


@pytest.mark.parametrize("size_bytes", [0, -1, 1.5])
def test_no_memory_of_no_size(size_bytes: Any) -> None:
    for allocate in (FakeCuda().allocate, FakeCuda().allocate_host):
        with pytest.raises(InputError, match=f"size_bytes is {size_bytes}, expected a whole number"):
            allocate(size_bytes)


@pytest.mark.parametrize(("integrated", "free"), [(False, 700), (True, 200)])
def test_memory_ends(integrated: bool, free: int) -> None:
    cuda = FakeCuda(memory_bytes=1000, integrated=integrated)
    assert cuda.device.integrated is integrated and cuda.device.maps_host_memory
    device, host = cuda.allocate(300), cuda.allocate_host(500)
    assert cuda.memory() == (free, 1000)
    with pytest.raises(OutOfMemory, match=f"device memory: 701 bytes were .*, {free} of 1000 are free"):
        cuda.allocate(701)
    assert cuda.live["device memory"] == 1
    device.close()
    device.close()
    host.close()
    assert cuda.memory() == (1000, 1000)
    assert cuda.allocate(1000).size_bytes == 1000


# --- the order of work --------------------------------------------------------------------------------------


def test_lazy_does_only_what_somebody_waits_for() -> None:
    cuda = FakeCuda(order="lazy")
    done: list[str] = []
    first, second = cuda.stream(), cuda.stream()
    event = cuda.event()
    first.run(lambda: done.append("awaited"))
    first.record(event)
    first.run(lambda: done.append("behind the event"))
    second.run(lambda: done.append("of another stream"))
    assert done == [] and cuda.num_pending == 4
    event.synchronize()
    assert done == ["awaited"]
    cuda.synchronize()
    assert sorted(done) == ["awaited", "behind the event", "of another stream"] and cuda.num_pending == 0


def test_eager_does_everything_at_once() -> None:
    cuda = FakeCuda(order="eager")
    done: list[int] = []
    streams = [cuda.stream() for _ in range(3)]
    for i in range(9):
        streams[i % 3].run(lambda i=i: done.append(i))
        assert done == list(range(i + 1))


def test_random_does_as_the_seed_says() -> None:
    def order(seed: int) -> list[int]:
        cuda = FakeCuda(order="random", seed=seed)
        done: list[int] = []
        streams = [cuda.stream() for _ in range(4)]
        for i in range(40):
            streams[i % 4].run(lambda i=i: done.append(i))
        assert 0 < cuda.num_pending < 40
        cuda.synchronize()
        assert all(done.index(i) < done.index(i + 4) for i in range(36)), "a stream keeps its order"
        return done

    assert order(1) == order(1) != order(2)
    assert order(1) != sorted(order(1))


def test_polling_comes_to_an_end(cuda: FakeCuda) -> None:
    stream, event = cuda.stream(), cuda.event()
    assert event.done, "it was never recorded"
    for _ in range(5):
        stream.run(lambda: None)
    stream.record(event)
    polls = 0
    while not event.done:
        polls += 1
    assert polls <= 6
    assert cuda.num_pending == 0


def test_lazy_shows_a_frame_that_was_overwritten_too_early() -> None:
    cuda = FakeCuda(order="lazy")
    pipeline = Pipeline(cuda)
    slot = pipeline.slots[0]
    pipeline.submit(slot, a_frame(1))
    slot.host_frame.array[:] = a_frame(2).ravel()
    slot.fetched.synchronize()
    np.testing.assert_array_equal(slot.result, a_frame(2).max(axis=3))


def test_lazy_shows_a_result_that_was_read_too_early() -> None:
    cuda = FakeCuda(order="lazy")
    pipeline = Pipeline(cuda)
    slot = pipeline.slots[0]
    pipeline.submit(slot, a_frame(1))
    assert (slot.result == FRESH).all()


def test_eager_shows_a_buffer_that_was_filled_too_late() -> None:
    cuda = FakeCuda(order="eager")
    stream, device, host = cuda.stream(), cuda.allocate(SIZE_BYTES), cuda.allocate_host(SIZE_BYTES)
    stream.copy_to_device(device.address, host.array)
    host.array[:] = 1
    stream.synchronize()
    assert (device.content == FRESH).all()


@pytest.mark.parametrize("forget", ["copied", "computed"])
def test_a_missing_wait_gives_a_wrong_mask(forget: str) -> None:
    pipeline = Pipeline(FakeCuda(order="lazy", check_races=False))
    slot = pipeline.slots[0]
    expected = a_frame(1).max(axis=3)
    np.testing.assert_array_equal(pipeline.run(slot, a_frame(1)), expected)
    assert (pipeline.run(slot, a_frame(2), forget) != a_frame(2).max(axis=3)).any()


def test_lazy_shows_a_copy_that_does_not_wait_for_the_run_before() -> None:
    """Frame 2 goes up into the memory of frame 1, which is still to be computed."""
    pipeline = Pipeline(FakeCuda(order="lazy", check_races=False))
    first, second = pipeline.slots
    second.binding.bind({"frame": first.frame.address, "mask": second.mask.address})
    second.frame = first.frame
    pipeline.submit(first, a_frame(1))
    pipeline.submit(second, a_frame(2))
    second.fetched.synchronize()
    first.fetched.synchronize()
    np.testing.assert_array_equal(second.result, a_frame(2).max(axis=3))
    np.testing.assert_array_equal(first.result, a_frame(2).max(axis=3), "frame 1 got the mask of frame 2")


# --- races --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("forget", ["copied", "computed"])
def test_a_missing_wait_is_a_race_in_every_order(cuda: FakeCuda, forget: str) -> None:
    pipeline = Pipeline(cuda)
    with pytest.raises(DataRaceError, match=r"record an event behind '(copy to device|run)' and let stream"):
        pipeline.submit(pipeline.slots[0], a_frame(1), forget)


def test_memory_that_is_used_again_too_early_is_a_race(cuda: FakeCuda) -> None:
    pipeline = Pipeline(cuda)
    slot = pipeline.slots[0]
    pipeline.submit(slot, a_frame(1))
    with pytest.raises(
        DataRaceError, match=r"'copy to device' in stream .* writes 72 bytes at .*, which 'run' .* reads"
    ):
        pipeline.submit(slot, a_frame(2))


def test_what_the_host_has_waited_for_is_no_race(cuda: FakeCuda) -> None:
    pipeline = Pipeline(cuda)
    for seed in range(5):
        np.testing.assert_array_equal(
            pipeline.run(pipeline.slots[0], a_frame(seed)), a_frame(seed).max(axis=3)
        )
    assert pipeline.executor.num_runs == 5


def test_two_readers_are_no_race_and_neither_are_neighbours(cuda: FakeCuda) -> None:
    device = cuda.allocate(SIZE_BYTES)
    targets = [cuda.allocate_host(SIZE_BYTES) for _ in range(2)]
    for target in targets:
        cuda.stream().copy_to_host(target.array, device.address)
    halves = cuda.allocate(SIZE_BYTES), cuda.allocate_host(SIZE_BYTES // 2)
    for offset in (0, SIZE_BYTES // 2):
        cuda.stream().copy_to_device(halves[0].address + offset, halves[1].array)
    cuda.synchronize()
    with pytest.raises(DataRaceError):
        for offset in (0, SIZE_BYTES // 2 - 1):
            cuda.stream().copy_to_device(halves[0].address + offset, halves[1].array)


def test_a_shared_scratch_memory_in_two_streams_is_a_race(cuda: FakeCuda) -> None:
    executor = brightest(cuda, FakeNetwork(scratch_bytes=100))
    first, second = (Slot(cuda, executor, cuda.stream()) for _ in range(2))
    first.binding.enqueue(first.binding.stream)
    second.binding.set_scratch(first.scratch.address, 256)
    second.binding.bind({"frame": second.frame.address, "mask": second.mask.address})
    with pytest.raises(DataRaceError, match="writes 100 bytes"):
        second.binding.enqueue(second.binding.stream)


def test_a_part_that_was_read_does_not_hide_what_was_written(cuda: FakeCuda) -> None:
    device, host, part = cuda.allocate(SIZE_BYTES), cuda.allocate_host(SIZE_BYTES), cuda.allocate_host(8)
    stream = cuda.stream()
    stream.copy_to_device(device.address, host.array)
    stream.copy_to_host(part.array, device.address)
    with pytest.raises(DataRaceError, match="which 'copy to device' in stream"):
        cuda.stream().copy_to_host(cuda.allocate_host(8).array, device.address + 32)


def test_memory_that_comes_again_is_no_race() -> None:
    cuda = FakeCuda(order="eager")
    addresses = set()
    for _ in range(20):
        with cuda.allocate(100_000) as device:
            addresses.add(device.address)
            cuda.stream().run(lambda: None, writes=((device.address, 100_000),))
    assert len(addresses) < 20


class Model:
    """What is ordered and what is not, by looking at everything that ever happened."""

    def __init__(self) -> None:
        self.before: list[set[int]] = []
        self.uses: list[tuple[int, int, bool]] = []
        self.known: set[int] = set()

    def races(self, before: set[int], start: int, end: int, writes: bool) -> bool:
        return any(
            number not in before and start < other_end and other_start < end and (writes or other_writes)
            for number, (other_start, other_end, other_writes) in enumerate(self.uses)
        )

    def add(self, before: set[int], start: int, end: int, writes: bool) -> int:
        self.before.append(before)
        self.uses.append((start, end, writes))
        return len(self.before) - 1


@pytest.mark.parametrize("seed", range(40))
@pytest.mark.parametrize("order", ORDERS)
def test_races_are_found_if_and_only_if_there_are_any(order: Order, seed: int) -> None:
    dice = random.Random(seed)
    cuda, model = FakeCuda(order=order, seed=seed), Model()
    memory = cuda.allocate(16)
    streams, events = [cuda.stream() for _ in range(3)], [cuda.event() for _ in range(3)]
    behind: list[set[int]] = [set() for _ in streams]  # what the end of a stream waits for
    marked: list[set[int]] = [set() for _ in events]
    done: list[int] = []
    num_races = 0
    for _ in range(80):
        i, j = dice.randrange(3), dice.randrange(3)
        action = dice.choice(["run", "run", "run", "record", "wait", "synchronize"])
        if action == "record":
            streams[i].record(events[j])
            marked[j] = set(behind[i])
        elif action == "wait":
            streams[i].wait(events[j])
            behind[i] |= marked[j]
        elif action == "synchronize":
            if dice.random() < 0.3:
                events[j].synchronize()
                model.known |= marked[j]
                assert marked[j] <= set(done)
        else:
            start, writes = dice.randrange(15), dice.random() < 0.4
            end, before = dice.randrange(start + 1, 17), behind[i] | model.known
            expected = model.races(before, start, end, writes)
            number = len(model.before)

            def act(number: int = number, before: frozenset[int] = frozenset(before)) -> None:
                assert before <= set(done)
                done.append(number)

            used = ((memory.address + start, end - start),)
            try:
                streams[i].run(act, reads=() if writes else used, writes=used if writes else ())
            except DataRaceError:
                assert expected
                num_races += 1
            else:
                assert not expected
                behind[i] = before | {model.add(before, start, end, writes)}
    cuda.synchronize()
    assert sorted(done) == list(range(len(model.before)))
    assert num_races > 0 and len(done) > 5


# --- waits between streams ----------------------------------------------------------------------------------


def chain(cuda: FakeCuda, link: Callable[[Stream, Stream], None]) -> list[str]:
    done: list[str] = []
    first, second = cuda.stream(), cuda.stream()
    for i in range(3):
        first.run(lambda i=i: done.append(f"first {i}"))
    link(first, second)
    second.run(lambda: done.append("second"))
    second.synchronize()
    return done


def test_a_stream_waits_for_another(cuda: FakeCuda) -> None:
    expected = ["first 0", "first 1", "first 2", "second"]
    assert chain(cuda, lambda first, second: second.wait_for_stream(first.handle)) == expected
    event = cuda.event()

    def by_event(first: Stream, second: Stream) -> None:
        first.record(event)
        second.wait(event)

    assert chain(cuda, by_event) == expected


def test_a_wait_is_for_the_latest_recording_so_far() -> None:
    cuda = FakeCuda(order="lazy")
    done: list[str] = []
    first, second, event = cuda.stream(), cuda.stream(), cuda.event()
    second.wait(event)  # never recorded: no wait
    first.run(lambda: done.append("early"))
    first.record(event)
    second.wait(event)
    first.run(lambda: done.append("late"))
    first.record(event)
    second.synchronize()
    assert done == ["early"]
    event.synchronize()
    assert done == ["early", "late"]


def test_work_of_another_library(cuda: FakeCuda) -> None:
    done: list[str] = []
    cuda.default_stream.run(lambda: done.append("theirs"))
    ours = cuda.stream()
    ours.wait_for_stream(0)
    ours.run(lambda: done.append("ours"))
    ours.synchronize()
    assert done == ["theirs", "ours"]
    gone = cuda.stream()
    handle = gone.handle
    gone.close()
    with pytest.raises(DeviceError, match=f"no stream with the handle {handle:#x}"):
        ours.wait_for_stream(handle)


# --- time ---------------------------------------------------------------------------------------------------


def of(timeline: tuple[Span, ...], engine: str) -> list[Span]:
    return [span for span in timeline if span.engine == engine]


def test_three_frames_overlap(cuda: FakeCuda) -> None:
    pipeline = Pipeline(cuda, FakeNetwork(compute_ms=2.0), num_slots=3)
    for seed, slot in enumerate(pipeline.slots):
        pipeline.submit(slot, a_frame(seed))
    cuda.synchronize()
    up, compute, down = (of(cuda.timeline, engine) for engine in ("up", "compute", "down"))
    assert [span.start_ms for span in up] == pytest.approx([0, 1, 2])
    assert [span.start_ms for span in compute] == pytest.approx([1, 3, 5])
    assert [span.start_ms for span in down] == pytest.approx([3, 5, 7])
    assert up[1].overlap_ms(compute[0]) == pytest.approx(1.0)
    assert down[0].overlap_ms(compute[1]) == pytest.approx(1 / 3)
    assert up[0].overlap_ms(compute[0]) == 0
    assert {span.stream for span in compute} == {pipeline.compute.handle}
    assert cuda.now_ms == pytest.approx(7 + 1 / 3)
    events = pipeline.slots[0].copied, pipeline.slots[2].fetched
    assert events[1].elapsed_ms(events[0]) == pytest.approx(6 + 1 / 3)


def test_one_stream_does_not_overlap(cuda: FakeCuda) -> None:
    stream, device, host = cuda.stream(), cuda.allocate(SIZE_BYTES), cuda.allocate_host(SIZE_BYTES)
    for _ in range(2):
        stream.copy_to_device(device.address, host.array)
        stream.run(lambda: None, duration_ms=3)
        stream.copy_to_host(host.array, device.address)
    stream.synchronize()
    spans = cuda.timeline
    assert len(spans) == 6
    assert all(first.end_ms <= second.start_ms for first, second in itertools.pairwise(spans))


def test_an_engine_fills_its_gaps(cuda: FakeCuda) -> None:
    first, second = cuda.stream(), cuda.stream()
    host, small = cuda.allocate_host(720), cuda.allocate_host(72)
    first.run(lambda: None, duration_ms=5)
    targets = cuda.allocate(720), cuda.allocate(72)
    first.copy_to_device(targets[0].address, host.array)
    second.copy_to_device(targets[1].address, small.array)
    cuda.synchronize()
    spans = of(cuda.timeline, "up")
    assert [span.start_ms for span in spans] == pytest.approx([0, 5])
    assert [span.stream for span in spans] == [second.handle, first.handle]


def test_the_host_takes_time_when_it_says_so(cuda: FakeCuda) -> None:
    stream = cuda.stream()
    cuda.pass_time(33)
    stream.run(lambda: None, duration_ms=2)
    stream.synchronize()
    assert (cuda.timeline[0].start_ms, cuda.now_ms) == (33, 35)
    with pytest.raises(InputError, match="duration_ms is -1"):
        cuda.pass_time(-1)


def test_the_timeline_is_the_same_in_every_order() -> None:
    def timeline(order: Order) -> tuple[Span, ...]:
        cuda = FakeCuda(order=order, copy_gb_per_s=FRAME_PER_MS)
        pipeline = Pipeline(cuda)
        for seed in range(6):
            pipeline.slots[seed % 2].fetched.synchronize()
            pipeline.submit(pipeline.slots[seed % 2], a_frame(seed))
        cuda.synchronize()
        return cuda.timeline

    assert timeline("lazy") == timeline("eager") == timeline("random")
    assert len(timeline("lazy")) == 18


def test_time_between_events_has_its_conditions() -> None:
    cuda = FakeCuda(order="lazy")
    stream, untimed = cuda.stream(), cuda.event()
    begin, end = cuda.event(timing=True), cuda.event(timing=True)
    stream.record(untimed)
    stream.record(begin)
    stream.run(lambda: None, duration_ms=4)
    with pytest.raises(DeviceError, match="was never recorded"):
        end.elapsed_ms(begin)
    stream.record(end)
    with pytest.raises(DeviceError, match="is not done yet"):
        end.elapsed_ms(begin)
    end.synchronize()
    assert end.elapsed_ms(begin) == 4
    with pytest.raises(InputError, match="not made with timing=True"):
        end.elapsed_ms(untimed)


# --- graphs -------------------------------------------------------------------------------------------------


def capture(stream: Stream, work: Callable[[], None]) -> Any:
    stream.begin_capture()
    work()
    return stream.end_capture()


def test_a_graph_runs_as_often_as_it_is_launched(cuda: FakeCuda) -> None:
    pipeline = Pipeline(cuda, FakeNetwork(compute_ms=2, scratch_bytes=200))
    slot, stream = pipeline.slots[0], pipeline.compute
    pipeline.run(slot, a_frame(0))
    mask = slot.result.copy()
    graph = capture(stream, lambda: slot.binding.enqueue(stream))
    np.testing.assert_array_equal(slot.result, mask)
    assert pipeline.executor.num_runs == 1, "a capture runs nothing"
    other = cuda.allocate(72)  # the graph keeps the addresses of before
    slot.binding.bind({"frame": other.address, "mask": other.address})
    for seed in (1, 2):
        slot.host_frame.array[:] = a_frame(seed).ravel()
        stream.copy_to_device(slot.frame.address, slot.host_frame.array)
        graph.launch(stream)
        stream.copy_to_host(slot.host_mask.array, slot.mask.address)
        stream.synchronize()
        np.testing.assert_array_equal(slot.result, a_frame(seed).max(axis=3))
    assert pipeline.executor.num_runs == 3
    assert cuda.live["graph"] == 1
    graph.close()
    assert cuda.live["graph"] == 0
    with pytest.raises(DeviceError, match="this graph is closed"):
        graph.launch(stream)


def test_a_whole_frame_in_one_graph_with_three_streams(cuda: FakeCuda) -> None:
    pipeline = Pipeline(cuda)
    slot = pipeline.slots[0]
    pipeline.run(slot, a_frame(0))
    joined = cuda.event()

    def frame() -> None:
        slot.host_frame.array[:] = a_frame(1).ravel()
        pipeline.up.copy_to_device(slot.frame.address, slot.host_frame.array)
        pipeline.up.record(slot.copied)
        pipeline.compute.wait(slot.copied)
        slot.binding.enqueue(pipeline.compute)
        pipeline.compute.record(slot.computed)
        pipeline.down.wait(slot.computed)
        pipeline.down.copy_to_host(slot.host_mask.array, slot.mask.address)
        pipeline.down.record(joined)
        pipeline.up.wait(joined)

    graph = capture(pipeline.up, frame)
    assert not any(stream.capturing for stream in (pipeline.up, pipeline.compute, pipeline.down))
    for seed in (2, 3):
        slot.host_frame.array[:] = a_frame(seed).ravel()
        graph.launch(pipeline.up)
        pipeline.up.synchronize()
        np.testing.assert_array_equal(slot.result, a_frame(seed).max(axis=3))


def test_an_empty_graph_keeps_the_order(cuda: FakeCuda) -> None:
    done: list[int] = []
    stream = cuda.stream()
    graph = capture(stream, lambda: None)
    stream.run(lambda: done.append(1))
    graph.launch(stream)
    stream.synchronize()
    assert done == [1]


def test_launches_of_one_graph_wait_for_each_other(cuda: FakeCuda) -> None:
    done: list[int] = []
    streams = [cuda.stream() for _ in range(2)]
    graph = capture(streams[0], lambda: streams[0].run(lambda: done.append(len(done)), duration_ms=2))
    for stream in streams:
        graph.launch(stream)
    streams[1].synchronize()
    assert done == [0, 1] and cuda.now_ms == 4


def refused(stream: Stream, work: Callable[[], object], reason: str) -> None:
    """The call fails, so does the end of the capture, and the stream works again."""
    stream.begin_capture()
    with pytest.raises(DeviceError, match=reason):
        work()
    with pytest.raises(DeviceError, match=f"the capture failed: .*{reason}"):
        stream.end_capture()
    stream.synchronize()


def test_what_cannot_be_captured(cuda: FakeCuda) -> None:
    stream, other, outside = cuda.stream(), cuda.stream(), cuda.event()
    other.record(outside)
    elsewhere = "cannot wait for what is outside of the capture"
    refused(stream, lambda: stream.wait(outside), elsewhere)
    refused(stream, lambda: stream.wait_for_stream(other.handle), elsewhere)
    refused(stream, stream.synchronize, "Stream.synchronize is not allowed during a capture")
    refused(stream, cuda.synchronize, "Driver.synchronize is not allowed during a capture")
    refused(stream, outside.synchronize, "Event.synchronize is not allowed during a capture")
    refused(stream, lambda: cuda.allocate(1), "Driver.allocate is not allowed during a capture")
    refused(stream, stream.begin_capture, "begin_capture came twice")
    inside = cuda.event()

    def poll() -> bool:
        stream.record(inside)
        return inside.done

    refused(stream, poll, "recorded in a capture cannot be waited for")
    with pytest.raises(DeviceError, match="recorded in a capture that has ended"):
        other.wait(inside)
    with pytest.raises(DeviceError, match="without begin_capture"):
        stream.end_capture()
    with pytest.raises(DeviceError, match="default stream cannot be captured"):
        cuda.default_stream.begin_capture()


def test_work_of_another_stream_must_be_joined(cuda: FakeCuda) -> None:
    stream, other, event = cuda.stream(), cuda.stream(), cuda.event()
    stream.begin_capture()
    stream.run(lambda: None)
    stream.record(event)
    other.wait(event)
    assert other.capturing
    other.run(lambda: None)
    with pytest.raises(DeviceError, match="work of another stream is in it"):
        stream.end_capture()
    assert not other.capturing
    stream.begin_capture()
    stream.record(event)
    other.wait(event)
    with pytest.raises(DeviceError, match="another stream than begin_capture"):
        other.end_capture()
    assert not stream.capturing


def test_other_threads_may_work_during_a_capture(cuda: FakeCuda) -> None:
    stream = cuda.stream()
    stream.begin_capture()
    made: list[Any] = []

    def work() -> None:
        other = cuda.stream()
        other.run(lambda: None)
        other.synchronize()
        made.append(cuda.allocate(1))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert len(made) == 1
    stream.end_capture()


def test_a_capture_can_be_made_to_fail() -> None:
    cuda = FakeCuda(fail_capture="the driver is too old")
    stream = cuda.stream()
    stream.begin_capture()
    with pytest.raises(DeviceError, match="the capture failed: the driver is too old"):
        stream.end_capture()
    assert not stream.capturing and cuda.live["graph"] == 0
    cuda = FakeCuda()
    stream = cuda.stream()
    cuda.fail("Stream.end_capture", DeviceError("not today"))
    stream.begin_capture()
    with pytest.raises(DeviceError, match="not today"):
        stream.end_capture()
    assert not stream.capturing


def test_a_library_without_graphs() -> None:
    cuda = FakeCuda(captures_graphs=False)
    assert not cuda.captures_graphs
    with pytest.raises(DeviceError, match="has no graphs"):
        cuda.stream().begin_capture()


# --- faults -------------------------------------------------------------------------------------------------


def test_a_call_fails_once(cuda: FakeCuda) -> None:
    stream, device, host = cuda.stream(), cuda.allocate(SIZE_BYTES), cuda.allocate_host(SIZE_BYTES)
    cuda.fail("Stream.copy_to_device", DeviceError("a cosmic ray"))
    cuda.fail("Stream.copy_to_device", DeviceError("another one"))
    for reason in ("a cosmic ray", "another one"):
        with pytest.raises(DeviceError, match=reason):
            stream.copy_to_device(device.address, host.array)
    stream.copy_to_device(device.address, host.array)
    stream.synchronize()
    cuda.fail("Driver.allocate", OutOfMemory("full"))
    with pytest.raises(OutOfMemory, match="full"):
        cuda.allocate(1)
    with pytest.raises(InputError, match=r"no call 'Driver.alocate'.*did you mean 'Driver.allocate'"):
        cuda.fail("Driver.alocate", OutOfMemory("full"))


@pytest.mark.parametrize("call", CALLS)
def test_every_call_can_fail(call: str) -> None:
    cuda = FakeCuda()
    stream, event, device = cuda.stream(), cuda.event(timing=True), cuda.allocate(1)
    host, graph = cuda.allocate_host(1), capture(stream, lambda: None)
    calls: dict[str, Callable[[], Any]] = {
        "Driver.allocate": lambda: cuda.allocate(1),
        "Driver.allocate_host": lambda: cuda.allocate_host(1),
        "Driver.stream": cuda.stream,
        "Driver.event": cuda.event,
        "Driver.memory": cuda.memory,
        "Driver.mark_all_work": lambda: cuda.mark_all_work(event),
        "Driver.synchronize": cuda.synchronize,
        "Stream.copy_to_device": lambda: stream.copy_to_device(device.address, host.array),
        "Stream.copy_to_host": lambda: stream.copy_to_host(host.array, device.address),
        "Stream.copy_on_device": lambda: stream.copy_on_device(device.address, device.address, 1),
        "Stream.run": lambda: stream.run(lambda: None),
        "Stream.record": lambda: stream.record(event),
        "Stream.wait": lambda: stream.wait(event),
        "Stream.wait_for_stream": lambda: stream.wait_for_stream(0),
        "Stream.begin_capture": stream.begin_capture,
        "Stream.end_capture": stream.end_capture,
        "Stream.synchronize": stream.synchronize,
        "Event.synchronize": event.synchronize,
        "Event.done": lambda: event.done,
        "Event.elapsed_ms": lambda: event.elapsed_ms(event),
        "Graph.launch": lambda: graph.launch(stream),
    }
    cuda.fail(call, DeviceError(f"injected into {call}"))
    with pytest.raises(DeviceError, match=f"injected into {call}"):
        calls[call]()


@pytest.mark.parametrize("error", [ContextLost, DeviceLost])
def test_an_error_that_lasts(cuda: FakeCuda, error: type[DeviceError]) -> None:
    pipeline = Pipeline(cuda)
    slot = pipeline.slots[0]
    pipeline.executor.crash_next(error("an illegal address"))
    with pytest.raises(error, match="an illegal address"):
        pipeline.run(slot, a_frame(1))
    for call in (cuda.memory, cuda.stream, slot.fetched.synchronize, lambda: cuda.allocate(1)):
        with pytest.raises(error, match="an illegal address"):
            call()
    with cuda.current():
        for resource in (slot.frame, slot.host_frame, slot.fetched, pipeline.up):
            resource.close()
    assert pipeline.executor.num_runs == 0
    assert cuda.live["device memory"] == 2 * 3 - 1


def test_closed_things_are_refused() -> None:
    cuda = FakeCuda()
    stream, event, host = cuda.stream(), cuda.event(), cuda.allocate_host(1)
    with stream, event, host:
        pass
    for call in (lambda: stream.record(event), event.synchronize, lambda: host.array, stream.synchronize):
        with pytest.raises(DeviceError, match="is closed"):
            call()
    assert cuda.live == dict.fromkeys(("device memory", "host memory", "stream", "event", "graph"), 0)
    left = cuda.allocate(1)
    cuda.close()
    for call in (cuda.memory, cuda.stream, lambda: cuda.allocate(1)):
        with pytest.raises(DeviceError, match="the driver is closed"):
            call()
    left.close()
    assert cuda.live["device memory"] == 0


def test_things_of_another_driver_are_refused() -> None:
    class Alien:
        pass

    cuda = FakeCuda()
    event: Event = Alien()  # type: ignore[assignment]
    with pytest.raises(InputError, match="Alien came, expected a FakeEvent of the fake driver"):
        cuda.stream().wait(event)
    with pytest.raises(InputError, match="the event belongs to another FakeCuda"):
        cuda.stream().wait(FakeCuda().event())


def test_garbage_is_freed(cuda: FakeCuda) -> None:
    pipeline = Pipeline(cuda)
    pipeline.run(pipeline.slots[0], a_frame(1))
    assert cuda.live == {"device memory": 6, "host memory": 4, "stream": 3, "event": 6, "graph": 0}
    del pipeline
    gc.collect()
    assert set(cuda.live.values()) == {0}


def test_an_unknown_order_is_refused() -> None:
    with pytest.raises(InputError, match="order is 'fast', expected one of lazy, eager, random"):
        FakeCuda(order="fast")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="memory_bytes is 0"):
        FakeCuda(memory_bytes=0)


# --- contexts and threads -----------------------------------------------------------------------------------


def test_the_context_is_current_per_thread_and_nests(cuda: FakeCuda) -> None:
    seen: list[bool] = []
    with cuda.current():
        with cuda.current():
            thread = threading.Thread(target=lambda: seen.append(cuda.is_current))
            thread.start()
            thread.join()
        assert cuda.is_current
    assert not cuda.is_current and seen == [False]


def test_a_network_called_outside_of_the_context(cuda: FakeCuda) -> None:
    executor = brightest(cuda, FakeNetwork(needs_context=True))
    stream = cuda.stream()
    with pytest.raises(DeviceError, match="binding: CUDA's context is not current on this thread"):
        executor.binding(stream)
    with cuda.current():
        binding = executor.binding(stream)
    with pytest.raises(DeviceError, match="set_shapes: CUDA's context is not current"):
        binding.set_shapes({"frame": (1, 4, 6, 3)})


def test_threads_share_a_driver(cuda: FakeCuda) -> None:
    problems: list[BaseException] = []

    def work(number: int) -> None:
        try:
            pipeline = Pipeline(cuda)
            for i in range(30):
                frame = a_frame(100 * number + i)
                found = pipeline.run(pipeline.slots[i % 2], frame)
                np.testing.assert_array_equal(found, frame.max(axis=3))
        except BaseException as problem:  # noqa: BLE001 - shown by the assertion below
            problems.append(problem)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert problems == []
    assert len(of(cuda.timeline, "compute")) == 120


def count_operations() -> int:
    gc.collect()
    return sum(type(thing) is Operation for thing in gc.get_objects())  # isinstance would ask the object


def test_a_thousand_frames_leave_nothing_behind() -> None:
    before = count_operations()
    cuda = FakeCuda(order="lazy")
    pipeline = Pipeline(cuda)
    for i in range(1000):
        slot = pipeline.slots[i % 2]
        slot.fetched.synchronize()
        pipeline.submit(slot, a_frame(i % 3))
    assert cuda.num_pending <= 2 * 8
    cuda.synchronize()
    assert cuda.num_pending == 0
    assert len(cuda.timeline) == 3000
    assert count_operations() - before < 30


# --- executors ----------------------------------------------------------------------------------------------


def test_shapes_come_from_the_axes(cuda: FakeCuda) -> None:
    executor = brightest(
        cuda, FakeNetwork(ranges={"height": (4, 100)}, scratch_bytes=lambda s: s["frame"][1])
    )
    binding = executor.binding(cuda.stream())
    assert binding.set_shapes({"frame": (2, 10, 12, 3)}) == {"mask": (2, 10, 12)}
    assert binding.scratch_bytes == 10
    with pytest.raises(InputError, match="the axis 'height' is 101, the network takes 4 to 100"):
        binding.set_shapes({"frame": (2, 101, 12, 3)})
    with pytest.raises(InputError, match=r"input 'frame' is uint8\[2, 10, 12, 4\], expected"):
        binding.set_shapes({"frame": (2, 10, 12, 4)})
    with pytest.raises(InputError, match=r"shapes of \['image'\] came, expected \['frame'\]"):
        binding.set_shapes({"image": (2, 10, 12, 3)})
    with pytest.raises(InputError, match="output 'mask' has the axis 'depth', which no input has"):
        FakeExecutor(cuda, executor.inputs, (TensorSpec("mask", UINT8, ("depth",)),), lambda feeds: {})


def test_a_run_that_is_not_prepared_is_refused(cuda: FakeCuda) -> None:
    executor = brightest(cuda, FakeNetwork(scratch_bytes=100))
    stream = cuda.stream()
    frame, mask, scratch = cuda.allocate(72), cuda.allocate(24), cuda.allocate(100)
    binding = executor.binding(stream)

    def refuses(reason: str, where: Stream = stream) -> None:
        with pytest.raises(ExecutionFailed, match=reason):
            binding.enqueue(where)

    refuses("its shapes were not set")
    binding.set_shapes({"frame": (1, 4, 6, 3)})
    refuses("its addresses were not set")
    with pytest.raises(InputError, match=r"addresses of \['frame'\] came, expected \['frame', 'mask'\]"):
        binding.bind({"frame": frame.address})
    binding.bind({"frame": frame.address, "mask": mask.address})
    refuses("its scratch memory was not set")
    with pytest.raises(InputError, match="99 bytes of scratch memory came, expected 100"):
        binding.set_scratch(scratch.address, 99)
    binding.set_scratch(scratch.address, 100)
    refuses("another stream", cuda.stream())
    binding.enqueue(stream)
    binding.set_shapes({"frame": (1, 2, 6, 3)})
    refuses("its addresses were not set since the last change of shapes")
    binding.bind({"frame": frame.address, "mask": mask.address + 20})
    binding.set_scratch(scratch.address, 100)
    with pytest.raises(DeviceError, match=r"12 bytes at .* leave their device memory"):
        binding.enqueue(stream)
    assert executor.num_refused == 5
    stream.synchronize()
    assert executor.num_runs == 1
    assert (scratch.content == 0xC3).all(), "what lies in scratch memory does not survive a run"


def test_runs_can_be_refused(cuda: FakeCuda) -> None:
    pipeline = Pipeline(cuda)
    pipeline.executor.refuse_next("no kernel for this")
    with pytest.raises(ExecutionFailed, match="no kernel for this"):
        pipeline.run(pipeline.slots[0], a_frame(1))
    cuda.synchronize()
    np.testing.assert_array_equal(pipeline.run(pipeline.slots[0], a_frame(2)), a_frame(2).max(axis=3))


def test_captures_can_be_refused(cuda: FakeCuda) -> None:
    for network, reason in (
        (FakeNetwork(uncapturable="it allocates"), "it cannot be captured: it allocates"),
        (FakeNetwork(), "its first run at new shapes cannot be captured"),
    ):
        executor = brightest(cuda, network)
        stream = cuda.stream()
        slot = Slot(cuda, executor, stream)
        assert executor.uncapturable == network.uncapturable
        stream.begin_capture()
        with pytest.raises(ExecutionFailed, match=reason):
            slot.binding.enqueue(stream)
        stream.end_capture()
        slot.binding.enqueue(stream)
        stream.synchronize()


def test_what_a_function_may_do(cuda: FakeCuda) -> None:
    def fails(compute: Callable[..., Any], kind: type[Exception], reason: str) -> None:
        executor = brightest(cuda, compute=compute)
        stream = cuda.stream()
        slot = Slot(cuda, executor, stream)
        with pytest.raises(kind, match=reason):
            slot.binding.enqueue(stream)
            stream.synchronize()

    fails(lambda feeds: {}, InputError, r"compute gave \[\], the outputs are \['mask'\]")
    fails(
        lambda feeds: {"mask": feeds["frame"]},
        InputError,
        r"compute gave 'mask' as uint8\[1, 4, 6, 3\], expected uint8\[1, 4, 6\]",
    )
    fails(lambda feeds: feeds["frame"].fill(0), ValueError, "read-only")


def test_executors_close_behind_their_bindings() -> None:
    cuda = FakeCuda(memory_bytes=1000)
    executor = brightest(cuda, FakeNetwork(binding_bytes=600))
    stream = cuda.stream()
    binding = executor.binding(stream)
    assert cuda.live["device memory"] == executor.num_bindings == 1
    with pytest.raises(OutOfMemory, match="600 bytes were asked for, 400 of 1000"):
        executor.binding(stream)
    with pytest.raises(DeviceError, match="1 bindings are open"):
        executor.close()
    binding.close()
    binding.close()
    assert cuda.live["device memory"] == executor.num_bindings == 0
    with pytest.raises(DeviceError, match="the binding is closed"):
        binding.enqueue(stream)
    executor.close()
    with pytest.raises(DeviceError, match="the executor is closed"):
        executor.binding(stream)


# --- fake_segmenter -----------------------------------------------------------------------------------------


class Robot:
    """Drives as long as the lower half of what it sees is floor."""

    def __init__(self, segmenter: pixelrt.Segmenter) -> None:
        self.segmenter = segmenter

    def speed(self, frame: Bytes) -> float:
        try:
            result = self.segmenter(frame)
        except DeviceError:
            return 0.0
        mask = result.mask_at(frame.shape[:2])
        floor = [info.name for info in result.classes].index("floor")
        return 1.0 if (mask[mask.shape[0] // 2 :] == floor).all() else 0.0


def camera_frame(height: int = 480, width: int = 640) -> Bytes:
    return np.zeros((height, width, 3), np.uint8)


def test_a_robot_stops_in_front_of_a_wall() -> None:
    mask = np.zeros((64, 96), np.uint8)
    robot = Robot(pixelrt.testing.fake_segmenter(lambda frame: mask, classes=("floor", "wall")))
    assert robot.speed(camera_frame()) == 1.0
    mask[60, 40] = 1
    assert robot.speed(camera_frame()) == 0.0


def test_a_robot_stops_when_there_is_no_mask() -> None:
    def broken(frame: Bytes) -> Bytes:
        raise DeviceError("the GPU is gone")

    assert Robot(pixelrt.testing.fake_segmenter(broken, classes=("floor",))).speed(camera_frame()) == 0.0


def test_a_fake_segmenter_is_a_segmenter() -> None:
    with pixelrt.testing.fake_segmenter(
        lambda frame: (frame[..., 0] > 100).astype(np.uint8),
        confidence=lambda frame: frame[..., 1],
        size=(30, 40),
    ) as segmenter:
        assert isinstance(segmenter, pixelrt.Segmenter)
        assert [info.name for info in segmenter.classes] == ["road", "car"]
        assert segmenter.classes[0].color != segmenter.classes[1].color
        frame = camera_frame()
        frame[:, 320:] = (200, 77, 0)
        result = segmenter(frame)
        assert result.mask is not None and result.mask.shape == (30, 40)
        assert result.coverage() == {"road": 0.5, "car": 0.5}
        assert result.confidence is not None and result.confidence[0, 20:].tolist() == [77] * 20
        assert result.frame_size == (480, 640)
        batch = segmenter.batch([frame, camera_frame(30, 40), frame])
        assert [other.coverage()["car"] for other in batch] == [0.5, 0.0, 0.5]
        with pytest.raises(InputError, match="expected uint8"):
            segmenter(frame.astype(np.float32))
        manifest = segmenter.bundle.manifest
        assert manifest_from_json(manifest.to_json()) == manifest
    with pytest.raises(DeviceError, match="this session is closed"):
        segmenter(frame)


def test_frames_come_in_the_order_that_was_asked_for() -> None:
    segmenter = pixelrt.testing.fake_segmenter(
        lambda frame: frame[..., 2], classes=[str(i) for i in range(256)], size=(1, 1), color="bgr"
    )
    frame = np.full((1, 1, 3), (10, 20, 30), np.uint8)
    result = segmenter(frame)
    assert result.mask is not None and result.mask[0, 0] == 30 and result.color == "bgr"


def test_a_clone_sees_the_same() -> None:
    segmenter = pixelrt.testing.fake_segmenter(lambda frame: frame[..., 0], size=(2, 2))
    copy = segmenter.clone()
    segmenter.close()
    result = copy.submit(np.ones((2, 2, 3), np.uint8)).result()
    assert result.mask is not None and result.mask.tolist() == [[1, 1], [1, 1]]


@pytest.mark.parametrize(
    ("compute", "reason"),
    [
        (lambda frame: frame, r"compute gave uint8\[4, 6, 3\], expected uint8\[4, 6\]"),
        (lambda frame: frame[..., 0].astype(int), r"compute gave int64\[4, 6\], expected uint8\[4, 6\]"),
        (lambda frame: None, r"compute gave NoneType, expected uint8\[4, 6\]"),
        (lambda frame: frame[..., 0] + 2, "compute gave the class id 2, expected 0 to 1"),
    ],
)
def test_a_function_that_gives_no_mask(compute: Any, reason: str) -> None:
    with pytest.raises(InputError, match=reason):
        pixelrt.testing.fake_segmenter(compute, size=(4, 6))(camera_frame())


def test_a_segmenter_that_cannot_be() -> None:
    with pytest.raises(InputError, match="each with a name of its own"):
        pixelrt.testing.fake_segmenter(lambda frame: frame, classes=("road", "road"))
    with pytest.raises(InputError, match=r"size \(0, 4\): height and width of at least 1"):
        pixelrt.testing.fake_segmenter(lambda frame: frame, size=(0, 4))


# --- the package --------------------------------------------------------------------------------------------


def test_the_public_list_is_the_truth() -> None:
    assert sorted(pixelrt.testing.__all__) == pixelrt.testing.__all__
    for name in pixelrt.testing.__all__:
        assert getattr(pixelrt.testing, name).__module__.startswith("pixelrt.testing.")
        assert name in dir(pixelrt.testing)
    with pytest.raises(AttributeError, match="has no attribute 'mock'"):
        _ = pixelrt.testing.mock


def test_numpy_is_enough() -> None:
    heavy = ("torch", "onnx", "onnxruntime", "openvino", "cv2", "cuda", "pycuda", "tensorrt", "pytest")
    program = (
        "import json, sys, numpy as np; from pixelrt.testing import FakeCuda, FakeExecutor, fake_segmenter;"
        "fake_segmenter(lambda frame: frame[..., 0])(np.zeros((9, 9, 3), np.uint8)); FakeCuda().stream();"
        f"print(json.dumps([name for name in {heavy!r} if name in sys.modules]))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == []


# --- segmenters on a simulated GPU --------------------------------------------------------------------------


def reddest(frame: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return (frame[..., 0] > 127).astype(np.uint8)


@pytest.mark.parametrize("order", ["lazy", "eager", "random"])
def test_a_segmenter_on_a_simulated_gpu(order: Order) -> None:
    cuda = FakeCuda(order=order)
    frames = [np.full((10, 20, 3), value, np.uint8) for value in (0, 255, 0, 0, 255)]
    segmenter = fake_segmenter(reddest, size=(4, 6), cuda=cuda, gpu=GpuOptions(slots=3))
    with segmenter:
        assert segmenter.session.info.gpu == "fake GPU"
        assert segmenter.slots == 3
        tickets = [segmenter.submit(frame) for frame in frames]
        assert [int(ticket.result().mask.max()) for ticket in tickets] == [0, 1, 0, 0, 1]  # type: ignore[union-attr]
        kept = segmenter.submit(frames[1], on_device=True).result().device_mask
        assert kept is not None and kept.to_host().all()
        kept.close()
        buffer = segmenter.frame_buffer((10, 20))
        buffer[:] = 255
        assert segmenter(buffer).coverage() == {"road": 0.0, "car": 1.0}
    del buffer
    gc.collect()
    assert not any(cuda.live.values())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"compute": np.zeros(3)}, "compute is an ndarray, expected a function"),
        ({"classes": "road"}, r"classes is 'road', expected a list of names: \['road'\]"),
        ({"size": (64.0, 96.0)}, "height and width of at least 1"),
        ({"size": 64}, "height and width of at least 1"),
        ({"color": "x"}, "color is 'x', expected 'rgb' or 'bgr'"),
    ],
)
def test_arguments_of_a_fake_segmenter(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        fake_segmenter(**{"compute": reddest, **arguments})


def test_compute_gives_a_dict(cuda: FakeCuda) -> None:
    spec = TensorSpec("frame", np.dtype(np.uint8), ("batch",))
    executor = FakeExecutor(cuda, (spec,), (spec,), lambda arrays: None)  # type: ignore[arg-type,return-value]
    with pytest.raises(InputError, match="compute gave a NoneType, expected a dict"):
        executor.run({}, {"frame": np.zeros(1, np.uint8)})

"""What every GPU session must do, on a GPU or on a fake one, shown on the self-test's network.

Its masks are known to the pixel, so that one stale or misplaced value shows. The checks of
`pixelrt doctor --self-test` are part of it.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from threads import in_threads

from pixelrt.cuda.device_array import DeviceArray, DeviceMemoryPool
from pixelrt.errors import DeviceError, InputError
from pixelrt.loading import load
from pixelrt.machine import resident_memory_bytes
from pixelrt.segmentation import Segmenter
from pixelrt.self_test.checks import ImpossibleError
from pixelrt.self_test.session_checks import GPU_CHECKS, SessionGround, driver_of
from pixelrt.self_test.tiny import block_frames, golden, tiny_bundle
from pixelrt.session import GpuOptions

FRAMES, MASKS = golden()
MIB = 1 << 20
CHECKS = {check.name: check for check in GPU_CHECKS}


def cpu() -> Segmenter:
    """The same network on the CPU."""
    return load(tiny_bundle(), device="cpu", backend="onnxruntime", precision="float32")


def enlarged(frame: NDArray[np.uint8], factor: int) -> NDArray[np.uint8]:
    """A frame whose mask is the same."""
    return frame.repeat(factor, axis=0).repeat(factor, axis=1)


def expect_mask(result: Any, index: int) -> None:
    np.testing.assert_array_equal(result.mask, MASKS[index])


@contextmanager
def on_gpu(segmenter: Segmenter, frame: NDArray[np.uint8]) -> Iterator[DeviceArray]:
    """The frame in memory of the GPU, by way of the session's own driver."""
    driver = driver_of(segmenter)
    assert driver is not None
    with driver.stream() as stream, DeviceMemoryPool(driver) as pool:
        array = pool.array(frame.shape, frame.dtype, stream)
        with driver.allocate_host(frame.nbytes) as host:
            host.array[:] = frame.ravel()
            stream.copy_to_device(array.address, host.array)
            stream.synchronize()
        array.complete()
        yield array
        array.close()


class SessionContract:
    """Subclasses open the network on their GPU."""

    num_frames = 10_000
    """Of which no memory may be left."""
    leak_bytes = 8 * MIB
    why_no_graphs = ""
    """What the session says where the library's runs are not captured although the driver could."""

    def open(self, **options: Any) -> Segmenter:
        """The tiny network with these `GpuOptions`."""
        raise NotImplementedError

    @pytest.fixture
    def segmenter(self) -> Iterator[Segmenter]:
        with self.open() as segmenter:
            driver = driver_of(segmenter)
            yield segmenter
        assert driver is not None
        gc.collect()
        assert not any(driver.live.values()), driver.live

    # --- what the self-test checks

    @pytest.mark.parametrize("name", list(CHECKS))
    def test_the_self_test(self, name: str) -> None:
        def opened(options: GpuOptions) -> Segmenter:
            return self.open(slots=options.slots, graphs=options.graphs)

        ground = SessionGround(tiny_bundle(), opened, [("onnxruntime float32", cpu)])
        try:
            assert CHECKS[name].run(ground)
        except ImpossibleError as reason:
            expected = ("has no CUDA graphs", self.why_no_graphs or "has no CUDA graphs")
            assert name == "graphs" and any(text in str(reason) for text in expected)
        finally:
            ground.close()

    def test_sanitizer_short_run(self) -> None:
        """All that a session does, once or twice: for compute-sanitizer, under which time is long."""
        with self.open(slots=2) as segmenter:
            for turn in range(6):
                expect_mask(segmenter(FRAMES[turn % 3]), turn % 3)
            tickets = [segmenter.submit(FRAMES[index]) for index in (2, 1, 0)]
            for ticket, index in zip(tickets, (2, 1, 0), strict=True):
                expect_mask(ticket.result(), index)
            for index, result in enumerate(segmenter.batch(FRAMES)):
                expect_mask(result, index)
            expect_mask(segmenter(enlarged(FRAMES[1], 2)), 1)
            with on_gpu(segmenter, FRAMES[2]) as frame:
                stays = segmenter.submit(frame, on_device=True).result().device_mask
                assert stays is not None
                np.testing.assert_array_equal(stays.to_host(), MASKS[2])
                stays.close()

    # --- what it says

    def test_says_what_runs(self, segmenter: Segmenter) -> None:
        info = segmenter.session.info
        assert info.device.startswith("cuda:")
        assert info.gpu and info.version
        assert info.precision == "float16"

    def test_graphs_are_captured(self) -> None:
        with self.open(graphs=True) as segmenter:
            driver = driver_of(segmenter)
            assert driver is not None
            for turn in range(12):
                expect_mask(segmenter(FRAMES[turn % 3]), turn % 3)
            text = segmenter.session.graphs
            if not driver.captures_graphs:
                assert "has no CUDA graphs" in text
            elif self.why_no_graphs:
                assert self.why_no_graphs in text
            else:
                assert int(text.split(" captured")[0]) > 0
                assert driver.live["graph"] > 0
        with self.open(graphs=False) as segmenter:
            assert segmenter.session.graphs == "none: switched off"

    # --- frames and tickets

    @pytest.mark.parametrize("slots", [1, 2, 3])
    def test_tickets_keep_their_results(self, slots: int) -> None:
        order = [turn % 3 for turn in range(4 * slots + 3)]
        with self.open(slots=slots) as segmenter:
            tickets = [segmenter.submit(FRAMES[index]) for index in order]
            for ticket, index in zip(tickets[::-1], order[::-1], strict=True):
                result = ticket.result()
                assert ticket.done
                assert result.latency.gpu is not None
                assert result.latency.gpu.compute_ms > 0
                expect_mask(result, index)
                expect_mask(ticket.result(), index)
            dropped = [segmenter.submit(FRAMES[0]) for _ in range(3)]
            del dropped
            expect_mask(segmenter(FRAMES[1]), 1)
            last = segmenter.submit(FRAMES[2])
        expect_mask(last.result(), 2)

    def test_frames_are_copied_at_once(self, segmenter: Segmenter) -> None:
        """One that is not page-locked may be filled again as soon as it was submitted."""
        frame = np.empty_like(FRAMES[0])
        tickets = []
        for index in (0, 1, 2, 1):
            frame[:] = FRAMES[index]
            tickets.append(segmenter.submit(frame))
            frame[:] = 255
        for ticket, index in zip(tickets, (0, 1, 2, 1), strict=True):
            expect_mask(ticket.result(), index)

    def test_page_locked_frames(self, segmenter: Segmenter) -> None:
        buffers = [segmenter.frame_buffer((48, 64)) for _ in range(3)]
        for turn in range(12):
            frame = buffers[turn % 3]
            frame[:] = FRAMES[turn % 3]
            expect_mask(segmenter(frame), turn % 3)
        for index, ticket in enumerate([segmenter.submit(buffer) for buffer in buffers]):
            expect_mask(ticket.result(), index)

    @pytest.mark.parametrize("count", [1, 2, 3, 4, 7])
    def test_batches(self, segmenter: Segmenter, count: int) -> None:
        order = [turn % 3 for turn in range(count)]
        for _ in range(3):
            results = segmenter.batch([FRAMES[index] for index in order])
            for result, index in zip(results, order, strict=True):
                expect_mask(result, index)

    def test_batches_of_several_sizes(self, segmenter: Segmenter) -> None:
        frames = [FRAMES[0], enlarged(FRAMES[1], 2), enlarged(FRAMES[2], 2), FRAMES[1]]
        for result, index in zip(segmenter.batch(frames), (0, 1, 2, 1), strict=True):
            expect_mask(result, index)

    @pytest.mark.parametrize("slots", [1, 2])
    def test_sizes_change(self, slots: int) -> None:
        """Each comes so often that it has its graph, and comes back when the memory has grown."""
        with self.open(slots=slots) as segmenter:
            for turn, factor in enumerate(np.repeat([3, 1, 2, 1, 3, 2, 1], 3 * slots)):
                expect_mask(segmenter(enlarged(FRAMES[turn % 3], int(factor))), turn % 3)

    def test_a_size_out_of_range_spoils_nothing(self, segmenter: Segmenter) -> None:
        for _ in range(3):
            with pytest.raises(InputError, match="takes"):
                segmenter(np.zeros((300, 64, 3), np.uint8))
            expect_mask(segmenter(FRAMES[0]), 0)

    # --- the GPU's memory

    def test_frames_on_the_gpu(self, segmenter: Segmenter) -> None:
        for turn in range(6):
            with on_gpu(segmenter, FRAMES[turn % 3]) as frame:
                result = segmenter(frame)
                expect_mask(result, turn % 3)
                assert result.latency.gpu is not None
                assert result.latency.gpu.upload_ms == 0

    def test_masks_that_stay_on_the_gpu(self, segmenter: Segmenter) -> None:
        kept = []
        for index in (0, 1, 2):
            result = segmenter.submit(FRAMES[index], on_device=True).result()
            assert result.mask is None
            kept.append(result.device_mask)
        for turn in range(6):
            expect_mask(segmenter(FRAMES[turn % 3]), turn % 3)
        for mask, index in zip(kept, (0, 1, 2), strict=True):
            assert mask is not None
            assert mask.shape == MASKS[index].shape
            np.testing.assert_array_equal(mask.to_host(), MASKS[index])
            mask.close()

    def test_nothing_is_left_of_many_frames(self, segmenter: Segmenter) -> None:
        driver = driver_of(segmenter)
        assert driver is not None
        with on_gpu(segmenter, FRAMES[0]) as there:
            for count in (200, 201):  # so that every slot has had every kind of frame, and has its graphs
                self._frames(segmenter, there, count)
            gc.collect()
            free, live, resident = driver.memory()[0], driver.live, resident_memory_bytes() or 0
            self._frames(segmenter, there, self.num_frames)
            gc.collect()
            assert driver.live == live, (driver.live, live)
        assert driver.memory()[0] >= free - self.leak_bytes
        assert (resident_memory_bytes() or 0) <= resident + 64 * MIB

    def _frames(self, segmenter: Segmenter, there: DeviceArray, count: int) -> None:
        """Frames in every way, of which each hundredth is looked at."""
        for turn in range(count):
            index = turn % 3
            if turn % 10 == 9:
                segmenter.submit(FRAMES[index], on_device=True).result()
            elif turn % 10 == 8:
                segmenter(there)
            else:
                ticket = segmenter.submit(FRAMES[index])
                if turn % 100 == 0:
                    expect_mask(ticket.result(), index)
        segmenter(FRAMES[0])  # the last: nothing is in flight then

    def test_closing_gives_all_back(self, segmenter: Segmenter) -> None:
        driver = driver_of(segmenter)
        assert driver is not None
        free = 0
        for turn in range(12):
            with self.open(slots=3) as other:
                theirs = driver_of(other)
                expect_mask(other(FRAMES[turn % 3]), turn % 3)
            assert theirs is not None
            assert theirs is driver or not any(theirs.live.values())
            if turn == 3:
                free = driver.memory()[0]
        assert driver.memory()[0] >= free - self.leak_bytes

    # --- threads

    def test_clones_in_threads(self, segmenter: Segmenter) -> None:
        clones = [segmenter.clone() for _ in range(3)]

        def work(index: int) -> None:
            with clones[index] as clone:
                for turn in range(60):
                    expect_mask(clone(FRAMES[(turn + index) % 3]), (turn + index) % 3)

        in_threads(3, work)
        expect_mask(segmenter(FRAMES[0]), 0)

    def test_a_clone_outlives_what_it_was_made_of(self) -> None:
        segmenter = self.open()
        clone = segmenter.clone()
        segmenter.close()
        with pytest.raises(DeviceError, match="this session is closed"):
            segmenter(FRAMES[0])
        with clone:
            for turn in range(6):
                expect_mask(clone(FRAMES[turn % 3]), turn % 3)

    def test_one_thread_at_a_time(self, segmenter: Segmenter) -> None:
        refused: list[str] = []

        def work(index: int) -> None:
            for turn in range(200):
                try:
                    expect_mask(segmenter(FRAMES[turn % 3]), turn % 3)
                except DeviceError as problem:  # noqa: PERF203
                    refused.append(str(problem))

        in_threads(2, work)
        assert all("in use by another thread" in text for text in refused)
        expect_mask(segmenter(FRAMES[2]), 2)

    # --- beside the CPU

    def test_agrees_with_the_cpu(self, segmenter: Segmenter) -> None:
        frames = block_frames(16, seed=77)
        with cpu() as reference:
            same = [segmenter(frame).mask == reference(frame).mask for frame in frames]
        assert np.mean(same) >= 0.999

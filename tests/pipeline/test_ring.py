"""The ring of slots on a simulated GPU: right masks in every order, overlap, refusals, what is freed."""

from __future__ import annotations

import contextlib
import gc
import logging
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from pixelrt.errors import (
    ContextLost,
    DeviceError,
    DeviceLost,
    ExecutionFailed,
    InputError,
    OutOfMemory,
)
from pixelrt.pipeline.buffers import PinnedFrames
from pixelrt.pipeline.options import GpuOptions
from pixelrt.pipeline.ring import Ring
from pixelrt.pipeline.streams import Streams
from pixelrt.tensors import TensorSpec
from pixelrt.testing import FakeCuda, FakeExecutor, FakeNetwork

FRAME = TensorSpec("frame", np.dtype(np.uint8), ("batch", "height", "width", 3))
MASK = TensorSpec("mask", np.dtype(np.uint8), ("batch", "height", "width"))
SUM = TensorSpec("sum", np.dtype(np.float32), ("batch",))
SIZE = (4, 6)
NOTHING = {"device memory": 0, "host memory": 0, "stream": 0, "event": 0, "graph": 0}

Arrays = dict[str, NDArray[Any]]


@pytest.fixture(params=["lazy", "eager", "random"])
def cuda(request: pytest.FixtureRequest) -> FakeCuda:
    """Return a GPU, in every order that it may work in."""
    return FakeCuda(order=request.param, seed=3)


def compute(inputs: Arrays) -> Arrays:
    frame = inputs["frame"]
    return {"mask": frame[..., 0] // 2, "sum": frame.sum(axis=(1, 2, 3), dtype=np.float32)}


def frame_of(value: int, size: tuple[int, int] = SIZE, batch: int = 1) -> Arrays:
    return {"frame": np.full((batch, *size, 3), value, np.uint8)}


def check(result: Mapping[str, Any], value: int, size: tuple[int, int] = SIZE, batch: int = 1) -> None:
    height, width = size
    np.testing.assert_array_equal(result["mask"], np.full((batch, height, width), value // 2, np.uint8))
    np.testing.assert_array_equal(result["sum"], np.full(batch, value * height * width * 3, np.float32))


def scratch(shapes: Mapping[str, tuple[int, ...]]) -> int:
    """Larger frames need more of it."""
    return int(np.prod(shapes["frame"]))


def make_ring(
    cuda: FakeCuda, network: FakeNetwork | None = None, **options: Any
) -> tuple[Ring, FakeExecutor]:
    network = network or FakeNetwork(needs_context=True, scratch_bytes=scratch)
    executor = FakeExecutor(cuda, (FRAME,), (MASK, SUM), compute, network)
    settings = GpuOptions(**options)
    return Ring(cuda, Streams.of(cuda, settings.priority), executor, settings), executor


class TestResults:
    @pytest.mark.parametrize("slots", [1, 2, 3])
    @pytest.mark.parametrize("graphs", [True, False])
    def test_every_frame_gets_its_own_mask(self, cuda: FakeCuda, slots: int, graphs: bool) -> None:
        ring, _ = make_ring(cuda, slots=slots, graphs=graphs)
        waiting: list[tuple[int, Any]] = []
        for value in range(0, 240, 7):
            waiting.append((value, ring.submit(frame_of(value))))
            if len(waiting) > slots:
                sent, run = waiting.pop(0)
                check(run.result(), sent)
        for sent, run in waiting:
            check(run.result(), sent)
        ring.close()

    def test_results_may_be_taken_late_and_in_any_order(self, cuda: FakeCuda) -> None:
        ring, _ = make_ring(cuda, slots=2)
        runs = [ring.submit(frame_of(value)) for value in range(20)]
        for value in reversed(range(20)):
            check(runs[value].result(), value)
            check(runs[value].result(), value)
        ring.close()

    def test_results_are_the_callers(self, cuda: FakeCuda) -> None:
        ring, _ = make_ring(cuda)
        first = ring.submit(frame_of(10)).result()
        first["mask"][:] = 99
        check(ring.submit(frame_of(20)).result(), 20)
        assert (first["mask"] == 99).all()
        ring.close()

    def test_the_frame_may_be_overwritten_at_once(self, cuda: FakeCuda) -> None:
        ring, _ = make_ring(cuda)
        frame = frame_of(40)
        run = ring.submit(frame)
        frame["frame"][:] = 200
        check(run.result(), 40)
        ring.close()

    def test_frames_with_any_strides(self, cuda: FakeCuda) -> None:
        ring, _ = make_ring(cuda)
        wide = np.zeros((1, 8, 12, 3), np.uint8)
        wide[:, ::2, ::2] = 60
        check(ring.submit({"frame": wide[:, ::2, ::2]}).result(), 60)
        ring.close()

    @pytest.mark.parametrize("graphs", [True, False])
    def test_shapes_change_back_and_forth(self, cuda: FakeCuda, graphs: bool) -> None:
        ring, _ = make_ring(cuda, slots=2, graphs=graphs)
        sizes = [(4, 6), (4, 6), (8, 6), (4, 6), (8, 6), (8, 6), (2, 2), (16, 16), (4, 6)]
        for repeat in range(4):
            runs = [
                ring.submit(frame_of(repeat * 9 + index, size, batch=1 + index % 2))
                for index, size in enumerate(sizes)
            ]
            for index, (size, run) in enumerate(zip(sizes, runs, strict=True)):
                check(run.result(), repeat * 9 + index, size, batch=1 + index % 2)
        ring.close()

    def test_a_closed_ring_has_waited(self, cuda: FakeCuda) -> None:
        ring, _ = make_ring(cuda)
        run = ring.submit(frame_of(8))
        ring.close()
        check(run.result(), 8)

    def test_a_batch_of_single_frames(self, cuda: FakeCuda) -> None:
        ring, _ = make_ring(cuda)
        pinned = ring.pinned_array(np.dtype(np.uint8), (*SIZE, 3))
        wide = np.zeros((8, 12, 3), np.uint8)
        for repeat in range(4):
            pinned[:], wide[:] = repeat, repeat + 20
            frames = (pinned, wide[::2, ::2], np.full((*SIZE, 3), repeat + 40, np.uint8))
            result = ring.submit({"frame": frames}).result()
            assert result["mask"][:, 0, 0].tolist() == [v // 2 for v in (repeat, repeat + 20, repeat + 40)]
            assert (result["mask"] == result["mask"][:, :1, :1]).all()
        with pytest.raises(InputError, match="expected one shape"):
            ring.submit({"frame": (pinned, wide)})
        with pytest.raises(InputError, match="float64"):
            ring.submit({"frame": (pinned, pinned.astype(float))})
        ring.close()


class TestOverlap:
    def test_copying_overlaps_with_computing(self) -> None:
        cuda = FakeCuda(order="lazy", copy_gb_per_s=1e-4)
        ring, _ = make_ring(cuda, FakeNetwork(compute_ms=1.0), slots=3, graphs=False)
        runs = [ring.submit(frame_of(value)) for value in range(6)]
        for run in runs:
            run.result()
        ups = [span for span in cuda.timeline if span.engine == "up"]
        computes = [span for span in cuda.timeline if span.engine == "compute"]
        assert len(computes) == 6
        assert max(ups[2].overlap_ms(span) for span in computes) > 0
        ring.close()

    def test_two_slots_keep_the_gpu_busy_and_one_does_not(self) -> None:
        busy = {}
        for slots in (1, 2):
            cuda = FakeCuda(order="lazy", copy_gb_per_s=1e-3)
            ring, _ = make_ring(cuda, FakeNetwork(compute_ms=2.0), slots=slots, graphs=False)
            runs = [ring.submit(frame_of(1)) for _ in range(20)]
            runs[-1].result()
            computes = [span for span in cuda.timeline if span.engine == "compute"]
            busy[slots] = sum(span.end_ms - span.start_ms for span in computes) / (
                computes[-1].end_ms - computes[0].start_ms
            )
            ring.close()
        assert busy[2] > 0.99
        assert busy[1] < busy[2]

    def test_times_are_those_of_the_gpu(self) -> None:
        cuda = FakeCuda(order="lazy", copy_gb_per_s=1e-3)
        ring, _ = make_ring(cuda, FakeNetwork(compute_ms=2.5), graphs=False)
        run = ring.submit(frame_of(1))
        assert run.times is None
        run.result()
        assert run.times is not None
        assert run.times.compute_ms == pytest.approx(2.5)
        assert run.times.upload_ms == pytest.approx(4 * 6 * 3 / 1e-3 / 1e6)
        assert run.times.download_ms == pytest.approx((4 * 6 + 4) / 1e-3 / 1e6)
        assert run.times.latency_ms == pytest.approx(2.5 + 0.072 + 0.028)
        assert run.times.enqueue_ms >= 0
        ring.close()

    def test_done_does_not_wait(self) -> None:
        ring, executor = make_ring(FakeCuda(order="lazy"))
        run = ring.submit(frame_of(1))
        assert not run.done
        assert executor.num_runs == 0
        run.result()
        assert run.done
        ring.close()


class TestGraphs:
    def test_are_captured_after_a_warm_up_per_slot_and_shape(self, cuda: FakeCuda) -> None:
        ring, _ = make_ring(cuda, slots=2)
        for value in range(4):
            ring.submit(frame_of(value))
        assert ring.graphs == "2 captured"
        for value in range(4, 12):
            check(ring.submit(frame_of(value)).result(), value)
        assert cuda.live["graph"] == 2
        ring.close()

    def test_same_frame_same_mask_and_another_frame_another(self, cuda: FakeCuda) -> None:
        ring, _ = make_ring(cuda, slots=1)
        for value in (5, 5, 5, 90, 5):
            check(ring.submit(frame_of(value)).result(), value)
        assert ring.graphs == "1 captured"
        ring.close()

    def test_another_shape_captures_anew(self, cuda: FakeCuda) -> None:
        ring, _ = make_ring(cuda, slots=1)
        for size in (SIZE, SIZE, (8, 8), (8, 8), (8, 8)):
            check(ring.submit(frame_of(7, size)).result(), 7, size)
        assert ring.graphs == "2 captured"
        assert cuda.live["graph"] == 1
        ring.close()

    def test_growing_scratch_memory_drops_the_graphs_of_all_slots(self, cuda: FakeCuda) -> None:
        ring, _ = make_ring(cuda, slots=2)
        for value in range(6):
            ring.submit(frame_of(value))
        check(ring.submit(frame_of(9, (32, 32))).result(), 9, (32, 32))
        for value in range(8):
            check(ring.submit(frame_of(value)).result(), value)
        ring.close()

    def test_refused_capture_is_told_once_and_runs_without(self, caplog: pytest.LogCaptureFixture) -> None:
        cuda = FakeCuda(fail_capture="operation not permitted when stream is capturing")
        ring, _ = make_ring(cuda, slots=2)
        with caplog.at_level(logging.WARNING, "pixelrt"):
            for value in range(12):
                check(ring.submit(frame_of(value)).result(), value)
        assert len(caplog.records) == 1
        assert "operation not permitted" in caplog.text
        assert ring.graphs.startswith("none: capture was refused (")
        assert cuda.live["graph"] == 0
        ring.close()

    def test_network_that_cannot_be_captured(self, cuda: FakeCuda) -> None:
        ring, _ = make_ring(cuda, FakeNetwork(uncapturable="it captures by itself"))
        for value in range(6):
            check(ring.submit(frame_of(value)).result(), value)
        assert ring.graphs == "none: it captures by itself"
        ring.close()

    def test_refused_enqueue_while_capturing(self, cuda: FakeCuda) -> None:
        ring, executor = make_ring(cuda, slots=1)
        check(ring.submit(frame_of(1)).result(), 1)
        executor.refuse_next("not now")
        check(ring.submit(frame_of(2)).result(), 2)
        assert "not now" in ring.graphs
        check(ring.submit(frame_of(3)).result(), 3)
        ring.close()

    @pytest.mark.parametrize(
        ("cuda", "options", "reason"),
        [
            (FakeCuda(), {"graphs": False}, "none: switched off"),
            (FakeCuda(captures_graphs=False), {}, "none: fake has no CUDA graphs"),
        ],
        indirect=False,
    )
    def test_why_there_are_none(self, cuda: FakeCuda, options: dict[str, Any], reason: str) -> None:
        ring, _ = make_ring(cuda, **options)
        for value in range(4):
            ring.submit(frame_of(value))
        assert ring.graphs.startswith(reason)
        ring.close()


class TestOnTheGpu:
    def test_page_locked_frames_are_copied_from_where_they_are(self, cuda: FakeCuda) -> None:
        ring, _ = make_ring(cuda)
        pinned = ring.pinned_array(np.dtype(np.uint8), (1, *SIZE, 3))
        for value in (12, 13, 14, 15):
            pinned[:] = value
            check(ring.submit({"frame": pinned}).result(), value)
        before = cuda.live["host memory"]
        del pinned
        gc.collect()
        assert cuda.live["host memory"] == before - 1
        ring.close()

    def test_page_locked_memory_outlives_the_ring(self, cuda: FakeCuda) -> None:
        ring, _ = make_ring(cuda)
        pinned = ring.pinned_array(np.dtype(np.uint8), (1, *SIZE, 3))
        view = pinned[0, 1:, :, 0]
        del pinned
        ring.close()
        view[:] = 3
        assert (view == 3).all()
        del view
        gc.collect()
        assert cuda.live == NOTHING

    def test_part_of_a_page_locked_frame(self, cuda: FakeCuda) -> None:
        ring, _ = make_ring(cuda)
        pinned = ring.pinned_array(np.dtype(np.uint8), (3, *SIZE, 3))
        for value in range(3):
            pinned[value] = value * 10
        for value in (2, 0, 1):
            check(ring.submit({"frame": pinned[value : value + 1]}).result(), value * 10)
        ring.close()

    def test_results_stay_and_no_later_frame_overwrites_them(self, cuda: FakeCuda) -> None:
        ring, _ = make_ring(cuda, slots=2)
        kept = [ring.submit(frame_of(value), on_device=True).result() for value in range(0, 60, 10)]
        for value, result in zip(range(0, 60, 10), kept, strict=True):
            check({name: array.to_host() for name, array in result.items()}, value)
        ring.close()
        del result
        kept.clear()
        gc.collect()
        assert cuda.live == NOTHING

    def test_results_go_in_again(self, cuda: FakeCuda) -> None:
        """Memory on the GPU that comes as a frame is read where it is, graph or not."""
        ring, _ = make_ring(cuda, slots=2)
        frames = [OnGpu(cuda, frame_of(value)["frame"]) for value in (30, 60, 90)]
        for _ in range(3):
            for value, frame in zip((30, 60, 90), frames, strict=True):
                check(ring.submit({"frame": frame}).result(), value)
        ring.close()

    def test_misaligned_frames_are_copied_on_the_gpu(self, cuda: FakeCuda) -> None:
        ring, _ = make_ring(cuda)
        frame = OnGpu(cuda, frame_of(33)["frame"], offset=3)
        run = ring.submit({"frame": frame})
        check(run.result(), 33)
        assert run.times is not None
        assert run.times.upload_ms == 0
        ring.close()

    def test_frame_without_its_batch_axis(self, cuda: FakeCuda) -> None:
        ring, _ = make_ring(cuda)
        check(ring.submit({"frame": OnGpu(cuda, frame_of(21)["frame"][0])}).result(), 21)
        ring.close()

    def test_shared_memory_needs_no_copies(self) -> None:
        for order in ("lazy", "eager", "random"):
            cuda = FakeCuda(order=order, integrated=True)  # type: ignore[arg-type]
            ring, _ = make_ring(cuda, slots=2)
            for value in range(9):
                run = ring.submit(frame_of(value))
                check(run.result(), value)
                assert run.times is not None
                assert (run.times.upload_ms, run.times.download_ms) == (0, 0)
            assert {span.engine for span in cuda.timeline} == {"compute"}
            pinned = ring.pinned_array(np.dtype(np.uint8), (1, *SIZE, 3))
            pinned[:] = 77
            check(ring.submit({"frame": pinned}).result(), 77)
            ring.close()


class OnGpu:
    """An array of another library on the simulated GPU."""

    def __init__(self, cuda: FakeCuda, values: NDArray[np.uint8], offset: int = 0) -> None:
        self._memory = cuda.allocate(values.nbytes + offset)
        with cuda.allocate_host(values.nbytes) as host, cuda.stream() as stream:
            host.array[:] = values.ravel()
            stream.copy_to_device(self._memory.address + offset, host.array)
            stream.synchronize()
        self.__cuda_array_interface__ = {
            "shape": values.shape,
            "typestr": "|u1",
            "data": (self._memory.address + offset, False),
            "version": 3,
            "stream": 1,
        }


def count(cuda: FakeCuda, call: str, monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Count calls in the list that is returned. Verdicts that are put into it, one per call: fail or not."""
    original = getattr(cuda, call)
    verdicts: list[bool] = []

    def counted(*arguments: Any, **options: Any) -> Any:
        if True in verdicts:
            if verdicts.pop(0):
                raise OutOfMemory(f"no room for {call}")
        else:
            verdicts.append(False)
        return original(*arguments, **options)

    monkeypatch.setattr(cuda, call, counted)
    return verdicts


def open_and_run(cuda: FakeCuda) -> None:
    ring, _ = make_ring(cuda)
    try:
        ring.submit(frame_of(3)).result()
    finally:
        ring.close()


class TestErrors:
    def test_refused_run_has_no_result_and_the_next_one_has_its_own(self, cuda: FakeCuda) -> None:
        ring, executor = make_ring(cuda, slots=2)
        check(ring.submit(frame_of(50)).result(), 50)
        earlier = ring.submit(frame_of(51))
        executor.refuse_next("the test says no")
        with pytest.raises(ExecutionFailed, match="the test says no"):
            ring.submit(frame_of(52))
        for value in range(60, 66):
            check(ring.submit(frame_of(value)).result(), value)
        check(earlier.result(), 51)
        ring.close()

    def test_wrong_input_starts_nothing(self, cuda: FakeCuda) -> None:
        ring, executor = make_ring(cuda)
        with pytest.raises(InputError, match=r"is float32\[1, 4, 6, 3\], expected uint8"):
            ring.submit({"frame": np.zeros((1, *SIZE, 3), np.float32)})
        with pytest.raises(InputError, match="expected a NumPy array"):
            ring.submit({"frame": [[1, 2, 3]]})
        check(ring.submit(frame_of(3)).result(), 3)
        assert executor.num_runs == 1
        ring.close()

    def test_shapes_out_of_range(self, cuda: FakeCuda) -> None:
        ring, _ = make_ring(cuda, FakeNetwork(ranges={"height": (2, 8)}))
        check(ring.submit(frame_of(3)).result(), 3)
        with pytest.raises(InputError, match="height"):
            ring.submit(frame_of(3, (100, 6)))
        check(ring.submit(frame_of(4)).result(), 4)
        ring.close()

    def test_crash_on_the_gpu_ends_the_session(self, cuda: FakeCuda) -> None:
        ring, executor = make_ring(cuda, slots=2)
        check(ring.submit(frame_of(3)).result(), 3)
        executor.crash_next()
        with pytest.raises(ContextLost):
            ring.submit(frame_of(4)).result()
        with pytest.raises(ContextLost, match=r"this session ended with: .* pixelrt.isolate"):
            ring.submit(frame_of(5))
        ring.close()

    def test_runs_after_a_crash_give_no_old_masks(self, cuda: FakeCuda) -> None:
        ring, executor = make_ring(cuda, slots=3, graphs=False)
        runs = [ring.submit(frame_of(3))]
        runs[0].result()
        executor.crash_next(DeviceLost("the GPU has fallen off the bus"))
        raised = 0
        try:
            runs = [ring.submit(frame_of(value)) for value in (4, 5)]
        except DeviceLost:
            raised, runs = 2, []
        for run in runs:
            with pytest.raises(DeviceLost):
                run.result()
            raised += 1
        assert raised == 2
        ring.close()

    @pytest.mark.parametrize("call", ["stream", "event", "allocate", "allocate_host"])
    def test_failure_while_opening_frees_all(
        self, cuda: FakeCuda, call: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        calls = count(cuda, call, monkeypatch)
        ring, _ = make_ring(cuda)
        ring.submit(frame_of(3)).result()
        ring.close()
        needed = len(calls)
        assert needed > 1
        for number in range(1, needed + 1):
            calls.clear()
            calls.extend([False] * (number - 1) + [True])
            with pytest.raises(OutOfMemory, match="no room"):
                open_and_run(cuda)
            gc.collect()
            assert cuda.live == NOTHING

    def test_full_gpu(self) -> None:
        cuda = FakeCuda(memory_bytes=4096)
        ring, _ = make_ring(cuda, slots=2)
        check(ring.submit(frame_of(3)).result(), 3)
        with pytest.raises(OutOfMemory):
            ring.submit(frame_of(3, (64, 64)))
        for value in range(5):
            check(ring.submit(frame_of(value)).result(), value)
        ring.close()
        assert cuda.live == NOTHING

    def test_closing_frees_all(self, cuda: FakeCuda) -> None:
        ring, executor = make_ring(cuda, slots=3)
        for value in range(7):
            ring.submit(frame_of(value), on_device=value % 2 == 0)
        ring.close()
        gc.collect()
        assert executor.closed
        assert cuda.live == NOTHING

    def test_closing_after_a_crash_raises_nothing(self, cuda: FakeCuda) -> None:
        ring, executor = make_ring(cuda)
        executor.crash_next()
        with contextlib.suppress(ContextLost):  # at once, where the GPU works at once
            ring.submit(frame_of(3))
        ring.close()
        with pytest.raises(DeviceError):
            ring.submit(frame_of(3))

    def test_thousands_of_frames_leave_nothing(self) -> None:
        cuda = FakeCuda(order="eager")
        ring, _ = make_ring(cuda, slots=2)
        for value in range(8):
            ring.submit(frame_of(value)).result()
        before = cuda.live
        for index in range(2000):
            ring.submit(frame_of(index % 250)).result()
        assert cuda.live == before
        ring.close()
        assert cuda.live == NOTHING


class TestTightMemory:
    def test_scratch_that_does_not_fit_ends_nothing(self) -> None:
        """A larger frame that needs too much is refused, and the frames of before go on."""
        cuda = FakeCuda(memory_bytes=40 << 10)
        network = FakeNetwork(needs_context=True, scratch_bytes=lambda shapes: 16 * scratch(shapes))
        ring, _ = make_ring(cuda, network, slots=2)
        for repeat in range(3):
            check(ring.submit(frame_of(3 + repeat)).result(), 3 + repeat)
            with pytest.raises(OutOfMemory):
                ring.submit(frame_of(9, (32, 32)))
            for value in range(4):
                check(ring.submit(frame_of(value)).result(), value)
        ring.close()
        assert cuda.live == NOTHING


class TestInterrupted:
    """Ctrl-C: whatever it interrupts, the next frame has its own mask."""

    @pytest.mark.parametrize("number", range(1, 9))
    def test_in_an_enqueue(self, cuda: FakeCuda, number: int, monkeypatch: pytest.MonkeyPatch) -> None:
        """The enqueues are those of two slots, and of captures."""
        ring, _ = make_ring(cuda, slots=2)
        calls = 0

        def interrupted(original: Any) -> Any:
            def enqueue(stream: Any) -> None:
                nonlocal calls
                calls += 1
                if calls == number:
                    raise KeyboardInterrupt
                original(stream)

            return enqueue

        for slot in ring._slots:
            monkeypatch.setattr(slot._binding, "enqueue", interrupted(slot._binding.enqueue))
        seen = 0
        for value in range(12):
            try:
                runs = [(v, ring.submit(frame_of(v))) for v in (value, value + 50)]
            except KeyboardInterrupt:
                seen += 1
                continue
            for sent, run in runs:
                check(run.result(), sent)
        assert seen == (calls >= number)
        assert not ring.graphs.startswith("none")
        ring.close()
        assert cuda.live == NOTHING

    def test_while_results_are_taken(self, cuda: FakeCuda, monkeypatch: pytest.MonkeyPatch) -> None:
        ring, _ = make_ring(cuda, slots=1)
        run = ring.submit(frame_of(7))
        with monkeypatch.context() as patch:
            patch.setattr(ring._slots[0], "results", lambda: (_ for _ in ()).throw(KeyboardInterrupt))
            with pytest.raises(KeyboardInterrupt):
                run.result()
        check(ring.submit(frame_of(8)).result(), 8)
        check(run.result(), 7)
        ring.close()


class TestCaptures:
    def test_nothing_is_collected_meanwhile(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Garbage that frees memory of the GPU would spoil the capture."""
        ring, _ = make_ring(FakeCuda(), slots=1)
        enabled: list[bool] = []
        binding = ring._slots[0]._binding
        original = binding.enqueue

        def enqueue(stream: Any) -> None:
            enabled.append(gc.isenabled())
            original(stream)

        monkeypatch.setattr(binding, "enqueue", enqueue)
        for value in range(3):
            ring.submit(frame_of(value)).result()
        assert enabled == [True, False]
        assert gc.isenabled()
        ring.close()

    def test_are_not_part_of_the_times(self) -> None:
        """Capturing takes host time, which passes before the run is measured."""
        cuda = FakeCuda(order="lazy")
        ring, _ = make_ring(cuda, FakeNetwork(compute_ms=1.5), slots=1)
        for value in range(3):
            run = ring.submit(frame_of(value))
            run.result()
            assert run.times is not None
            assert run.times.compute_ms == pytest.approx(1.5)
        assert ring.graphs == "1 captured"
        ring.close()


class TestWanted:
    def test_outputs_that_are_not_wanted_are_not_copied(self, cuda: FakeCuda) -> None:
        ring, _ = make_ring(cuda, graphs=False)
        result = ring.submit(frame_of(9), outputs=["sum"]).result()
        assert result.keys() == {"sum"}
        kept = ring.submit(frame_of(9), outputs=["mask"], on_device=True).result()
        assert kept.keys() == {"mask"}
        check(ring.submit(frame_of(10)).result(), 10)
        copies = [span for span in cuda.timeline if span.engine == "down"]
        assert len(copies) == 3
        ring.close()

    def test_staging_is_no_upload(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Copying into page-locked memory is the host's time, not the bus's."""
        cuda = FakeCuda(order="eager", copy_gb_per_s=1e-3)
        ring, _ = make_ring(cuda, graphs=False)
        original = PinnedFrames.find

        def find(self: PinnedFrames, value: NDArray[Any]) -> Any:
            cuda.pass_time(2.0)
            return original(self, value)

        monkeypatch.setattr(PinnedFrames, "find", find)
        run = ring.submit(frame_of(1))
        run.result()
        assert run.times is not None
        assert run.times.upload_ms == pytest.approx(4 * 6 * 3 / 1e-3 / 1e6)
        ring.close()


class TestOptions:
    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"slots": 0}, "slots is 0, expected 1 to 16"),
            ({"slots": 2.5}, "slots is 2.5"),
            ({"driver": "cuda"}, "driver is 'cuda', expected one of cuda-python, pycuda"),
            ({"priority": "high"}, "priority is 'high'"),
            ({"slots": True}, "slots is True, expected 1 to 16"),
            ({"graphs": "no"}, "graphs is 'no', expected True or False"),
            ({"blocking": 1}, "blocking is 1, expected True or False"),
            ({"zero_copy": 0}, "zero_copy is 0, expected True, False or None"),
            ({"dla_core": -1}, "dla_core is -1, expected 0 or more"),
        ],
    )
    def test_refused(self, options: dict[str, Any], message: str) -> None:
        with pytest.raises(InputError, match=message):
            GpuOptions(**options)

"""A segmenter on a simulated GPU: tickets, threads, warm-up, what closing means."""

from __future__ import annotations

import gc
import threading
import weakref
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from pixelrt.backends.base import SessionInfo
from pixelrt.backends.gpu_session import GpuSession, Origin
from pixelrt.cuda.protocol import Driver
from pixelrt.errors import DeviceError, InputError
from pixelrt.pipeline.options import GpuOptions
from pixelrt.pipeline.streams import Streams
from pixelrt.segmentation import Segmenter
from pixelrt.tensors import TensorSpec
from pixelrt.testing import FakeCuda, FakeExecutor, FakeNetwork, fake_segmenter

SIZE = (8, 12)
INFO = SessionInfo(backend="fake", device="cuda:0", precision="float16", version="1", gpu="fake GPU")


def strongest(frame: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return frame.argmax(axis=-1).astype(np.uint8)


def make_segmenter(
    cuda: FakeCuda, network: FakeNetwork | None = None, **options: Any
) -> tuple[Segmenter, list[FakeExecutor]]:
    bundle = fake_segmenter(strongest, classes=("red", "green", "blue"), size=SIZE).bundle
    manifest = bundle.manifest
    executors: list[FakeExecutor] = []

    def make(driver: Driver, streams: Streams) -> FakeExecutor:
        specs = [tuple(map(TensorSpec.of, tensors)) for tensors in (manifest.inputs, manifest.outputs)]
        executor = FakeExecutor(cuda, *specs, lambda arrays: {"mask": strongest(arrays["frame"])}, network)
        executors.append(executor)
        return executor

    session = GpuSession(manifest, INFO, Origin.of(cuda, make, GpuOptions(**options)))
    return Segmenter(bundle, session), executors


def frame_of(channel: int) -> NDArray[np.uint8]:
    frame = np.zeros((*SIZE, 3), np.uint8)
    frame[..., channel] = 200
    return frame


class TestWarmUp:
    @pytest.mark.parametrize("slots", [1, 3])
    def test_captures_a_graph_per_slot(self, slots: int) -> None:
        segmenter, _ = make_segmenter(FakeCuda(), slots=slots)
        with segmenter:
            segmenter.warm_up(SIZE)
            assert segmenter.session.graphs == f"{slots} captured"
            for channel in (0, 1, 2, 1):
                assert (segmenter(frame_of(channel)).mask == channel).all()
            assert segmenter.session.graphs == f"{slots} captured"

    def test_of_shared_memory(self) -> None:
        """Frame buffers are read in place there, and so each has graphs of its own, captured in time."""
        segmenter, _ = make_segmenter(FakeCuda(integrated=True), slots=2)
        with segmenter:
            buffers = [segmenter.frame_buffer(SIZE) for _ in range(3)]
            segmenter.warm_up(SIZE, buffers)
            before = segmenter.session.graphs
            assert before == "8 captured"
            for index in range(9):
                buffers[index % 3][:] = frame_of(index % 3)
                assert (segmenter(buffers[index % 3]).mask == index % 3).all()
                assert (segmenter(frame_of(2)).mask == 2).all()
            assert segmenter.session.graphs == before

    def test_on_the_cpu_too(self) -> None:
        with fake_segmenter(strongest, size=SIZE, classes=("a", "b", "c")) as segmenter:
            segmenter.warm_up((100, 200))
            assert segmenter.session.graphs == "none: this session runs on the CPU"


class TestTickets:
    def test_are_answered_in_any_order(self) -> None:
        segmenter, _ = make_segmenter(FakeCuda(order="random", seed=1), slots=2)
        with segmenter:
            tickets = [segmenter.submit(frame_of(index % 3)) for index in range(9)]
            for index in (8, 0, 4, 4, 7, 1):
                result = tickets[index].result()
                assert (result.mask == index % 3).all()
                assert tickets[index].done
                assert result.latency.gpu is not None
                assert result.latency.gpu.compute_ms == pytest.approx(1.0)

    def test_outlive_the_segmenter(self) -> None:
        segmenter, _ = make_segmenter(FakeCuda())
        ticket = segmenter.submit(frame_of(2))
        segmenter.close()
        assert (ticket.result().mask == 2).all()
        with pytest.raises(DeviceError, match="closed"):
            segmenter.submit(frame_of(2))

    def test_on_the_cpu_are_done_at_once(self) -> None:
        with fake_segmenter(strongest, size=SIZE, classes=("a", "b", "c")) as segmenter:
            ticket = segmenter.submit(frame_of(1))
            assert ticket.done
            assert (ticket.result().mask == 1).all()
            with pytest.raises(InputError, match="stay on the GPU, this session runs on cpu"):
                segmenter.submit(frame_of(1), on_device=True)


class TestThreads:
    def test_a_second_thread_is_refused(self) -> None:
        """One thread is inside, which the network holds up; the other is told what to do."""
        inside, go_on = threading.Event(), threading.Event()
        cuda = FakeCuda(order="lazy")
        segmenter, executors = make_segmenter(cuda)
        original = executors[0].compute

        def slow(arrays: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
            inside.set()
            assert go_on.wait(20)
            return original(arrays)

        executors[0].compute = slow
        ticket = segmenter.submit(frame_of(0))
        waiting = threading.Thread(target=ticket.result)
        waiting.start()
        try:
            assert inside.wait(20)
            with pytest.raises(DeviceError, match=r"in use by another thread; give .* clone\(\) \(a stream"):
                segmenter(frame_of(1))
        finally:
            go_on.set()
            waiting.join(20)
        assert (ticket.result().mask == 0).all()
        segmenter.close()

    def test_clones_run_at_the_same_time(self) -> None:
        cuda = FakeCuda(order="eager")
        segmenter, executors = make_segmenter(cuda)
        wrong: list[int] = []

        def work(own: Segmenter, channel: int) -> None:
            with own:
                wrong.extend(channel for _ in range(50) if (own(frame_of(channel)).mask != channel).any())

        clones = [segmenter.clone() for _ in range(3)]
        threads = [threading.Thread(target=work, args=(own, i)) for i, own in enumerate(clones)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert not wrong
        assert len(executors) == 4
        segmenter.close()
        assert not any(cuda.live.values())


class TestBatches:
    def test_are_no_larger_than_the_engine_takes(self) -> None:
        segmenter, executors = make_segmenter(FakeCuda(), FakeNetwork(ranges={"batch": (1, 2)}))
        with segmenter:
            assert segmenter.session.largest_batch == 2
            results = segmenter.batch([frame_of(index % 3) for index in range(5)])
            for index, result in enumerate(results):
                assert (result.mask == index % 3).all()
            assert executors[0].num_runs == 3

    def test_parts_overlap(self) -> None:
        cuda = FakeCuda(order="lazy", copy_gb_per_s=1e-3)
        network = FakeNetwork(ranges={"batch": (1, 1)}, compute_ms=0.4)
        segmenter, _ = make_segmenter(cuda, network, graphs=False)
        with segmenter:
            segmenter.batch([frame_of(index) for index in (0, 1, 2)])
            ups = [span for span in cuda.timeline if span.engine == "up"]
            computes = [span for span in cuda.timeline if span.engine == "compute"]
            assert ups[1].overlap_ms(computes[0]) > 0


class TestFreeing:
    def test_a_closed_session_keeps_neither_network_nor_driver(self) -> None:
        cuda = FakeCuda()
        segmenter, executors = make_segmenter(cuda)
        gone, driver = weakref.ref(executors.pop()), weakref.ref(cuda)
        clone = segmenter.clone()
        executors.clear()
        del cuda
        segmenter.close()
        gc.collect()
        assert gone() is None
        assert driver() is not None
        clone.close()
        gc.collect()
        assert driver() is None

    def test_garbage_waits_and_frees(self) -> None:
        cuda = FakeCuda(order="lazy")
        segmenter, executors = make_segmenter(cuda, FakeNetwork(needs_context=True))
        segmenter.submit(frame_of(0))
        executor = executors.pop()
        del segmenter
        gc.collect()
        assert executor.num_runs == 1
        assert executor.closed
        assert not any(cuda.live.values())


class TestColourOrder:
    @pytest.mark.parametrize("opencv", [True, False])
    def test_is_changed_for_three_channels(self, opencv: bool, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("pixelrt.frames._has_opencv", lambda: opencv)
        segmenter, _ = make_segmenter(FakeCuda())
        swapped = Segmenter(segmenter.bundle, segmenter.session, "bgr")
        for strided in (frame_of(0), np.repeat(frame_of(0), 2, axis=1)[:, ::2]):
            assert (swapped(strided).mask == 2).all()
            assert (strided == frame_of(0)).all()
        swapped.close()


class TestInterrupted:
    def test_ctrl_c_while_waiting_loses_nothing(self, monkeypatch: pytest.MonkeyPatch) -> None:
        segmenter, executors = make_segmenter(FakeCuda(order="lazy"), slots=2, graphs=False)
        original = executors[0].compute

        def interrupted(arrays: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
            executors[0].compute = original
            raise KeyboardInterrupt

        with segmenter:
            first = segmenter.submit(frame_of(0))
            assert (first.result().mask == 0).all()
            ticket = segmenter.submit(frame_of(1))
            slot = segmenter.session._ring._running[0][1]  # type: ignore[attr-defined]
            monkeypatch.setattr(slot, "wait", lambda: (_ for _ in ()).throw(KeyboardInterrupt))
            with pytest.raises(KeyboardInterrupt):
                ticket.result()
            monkeypatch.undo()
            assert (segmenter(frame_of(2)).mask == 2).all()
            assert (ticket.result().mask == 1).all()

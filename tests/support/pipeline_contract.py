"""The pipeline over a real CUDA library: what every driver must carry, on a GPU or on the emulated driver.

The network is a copy on the GPU: its mask is the frame. That is work in a stream like any other, can be
captured in a graph, and shows at once if a frame or a mask is another one's.
"""

from __future__ import annotations

import gc
import threading
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from pixelrt.cuda.protocol import Driver, Stream
from pixelrt.errors import ExecutionFailed, InputError
from pixelrt.pipeline.options import GpuOptions
from pixelrt.pipeline.ring import Ring
from pixelrt.pipeline.streams import Streams
from pixelrt.tensors import Shape, TensorSpec

SIZE = (24, 36)
FRAME = TensorSpec("frame", np.dtype(np.uint8), ("batch", "height", "width", 3))
MASK = TensorSpec("mask", np.dtype(np.uint8), ("batch", "height", "width", 3))


class CopyBinding:
    """Copies its input to its scratch memory, and from there to its output."""

    def __init__(self, executor: CopyExecutor) -> None:
        self._executor = executor
        self._addresses: dict[str, int] = {}
        self._scratch = 0
        self.scratch_bytes = 0

    def set_shapes(self, shapes: Mapping[str, Shape]) -> dict[str, Shape]:
        self.scratch_bytes = int(np.prod(shapes["frame"]))
        return {"mask": shapes["frame"]}

    def set_scratch(self, address: int, size_bytes: int) -> None:
        assert size_bytes >= self.scratch_bytes
        self._scratch = address

    def bind(self, addresses: Mapping[str, int]) -> None:
        self._addresses = dict(addresses)

    def enqueue(self, stream: Stream) -> None:
        if self._executor.refusals:
            self._executor.refusals -= 1
            raise ExecutionFailed("refused by the test")
        stream.copy_on_device(self._scratch, self._addresses["frame"], self.scratch_bytes)
        stream.copy_on_device(self._addresses["mask"], self._scratch, self.scratch_bytes)

    def close(self) -> None:
        self._addresses = {}


class CopyExecutor:
    """A network that gives its frame back."""

    inputs = (FRAME,)
    outputs = (MASK,)
    uncapturable = ""
    largest_batch: int | None = None

    def __init__(self, driver: Driver) -> None:
        self.driver = driver
        self.refusals = 0

    def binding(self, stream: Stream) -> CopyBinding:
        return CopyBinding(self)

    def close(self) -> None:
        return


def noise(seed: int, size: tuple[int, int] = SIZE, batch: int = 1) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (batch, *size, 3), np.uint8)


class PipelineContract:
    """Subclasses make a driver."""

    def make(self) -> Driver:
        raise NotImplementedError

    @pytest.fixture
    def driver(self) -> Iterator[Driver]:
        driver = self.make()
        yield driver
        gc.collect()
        assert not any(driver.live.values()), driver.live
        driver.close()

    def ring(self, driver: Driver, **options: Any) -> tuple[Ring, CopyExecutor]:
        executor = CopyExecutor(driver)
        settings = GpuOptions(**options)
        with driver.current():
            return Ring(driver, Streams.of(driver, settings.priority), executor, settings), executor

    @pytest.mark.parametrize("slots", [1, 2, 3])
    @pytest.mark.parametrize("graphs", [True, False])
    @pytest.mark.parametrize("zero_copy", [True, False])
    def test_every_frame_gets_its_own_mask(
        self, driver: Driver, slots: int, graphs: bool, zero_copy: bool
    ) -> None:
        ring, _ = self.ring(driver, slots=slots, graphs=graphs, zero_copy=zero_copy)
        runs = [ring.submit({"frame": noise(seed)}) for seed in range(4 * slots + 3)]
        for seed, run in enumerate(runs):
            np.testing.assert_array_equal(run.result()["mask"], noise(seed))
            assert run.times is not None
            assert run.times.compute_ms > 0
            assert (run.times.upload_ms > 0) is not zero_copy
        if graphs and driver.captures_graphs:
            assert ring.graphs == f"{slots} captured"
        else:
            assert ring.graphs.startswith("none: ")
        ring.close()

    def test_blocking_waits(self, driver: Driver) -> None:
        ring, _ = self.ring(driver, blocking=True)
        for seed in range(5):
            np.testing.assert_array_equal(ring.submit({"frame": noise(seed)}).result()["mask"], noise(seed))
        ring.close()

    def test_shapes_change_back_and_forth(self, driver: Driver) -> None:
        ring, _ = self.ring(driver, slots=2)
        sizes = [(24, 36), (24, 36), (48, 36), (24, 36), (120, 90), (24, 36), (48, 36), (1, 1)]
        for repeat in range(3):
            frames = [noise(9 * repeat + i, size, 1 + i % 3) for i, size in enumerate(sizes)]
            runs = [ring.submit({"frame": frame}) for frame in frames]
            for frame, run in zip(frames, runs, strict=True):
                np.testing.assert_array_equal(run.result()["mask"], frame)
        ring.close()

    def test_page_locked_frames(self, driver: Driver) -> None:
        for zero_copy in (False, True):
            ring, _ = self.ring(driver, zero_copy=zero_copy)
            pinned = ring.pinned_array(np.dtype(np.uint8), (1, *SIZE, 3))
            for seed in range(6):
                pinned[:] = noise(seed)
                np.testing.assert_array_equal(ring.submit({"frame": pinned}).result()["mask"], noise(seed))
            ring.close()
            pinned[:] = 7
            assert (pinned == 7).all()
            del pinned
            gc.collect()

    def test_a_batch_of_single_frames(self, driver: Driver) -> None:
        ring, _ = self.ring(driver)
        pinned = ring.pinned_array(np.dtype(np.uint8), (*SIZE, 3))
        pinned[:] = noise(1)[0]
        frames = (noise(0)[0], pinned, noise(2)[0][::-1])
        for _ in range(3):
            np.testing.assert_array_equal(ring.submit({"frame": frames}).result()["mask"], np.stack(frames))
        ring.close()
        del pinned, frames

    def test_results_stay_on_the_gpu_and_come_back_as_frames(self, driver: Driver) -> None:
        ring, _ = self.ring(driver, slots=2)
        kept = [ring.submit({"frame": noise(seed)}, on_device=True) for seed in range(5)]
        masks = [run.result()["mask"] for run in kept]
        for seed, mask in enumerate(masks):
            np.testing.assert_array_equal(mask.to_host(), noise(seed))
        again = [ring.submit({"frame": mask}) for mask in masks for _ in range(3)]
        for index, run in enumerate(again):
            np.testing.assert_array_equal(run.result()["mask"], noise(index // 3))
            assert run.times is not None
            assert run.times.upload_ms == 0
        ring.close()

    def test_a_refused_run_has_no_result(self, driver: Driver) -> None:
        ring, executor = self.ring(driver, slots=2, graphs=False)
        earlier = ring.submit({"frame": noise(1)})
        executor.refusals = 1
        with pytest.raises(ExecutionFailed, match="refused by the test"):
            ring.submit({"frame": noise(2)})
        with pytest.raises(InputError):
            ring.submit({"frame": noise(3)[0]})
        for seed in range(4, 8):
            np.testing.assert_array_equal(ring.submit({"frame": noise(seed)}).result()["mask"], noise(seed))
        np.testing.assert_array_equal(earlier.result()["mask"], noise(1))
        ring.close()

    def test_a_refused_capture_is_survived(self, driver: Driver) -> None:
        if not driver.captures_graphs:
            pytest.skip(f"{driver.name} has no graphs")
        ring, executor = self.ring(driver, slots=1)
        for seed in range(5):
            executor.refusals = int(seed == 1)
            np.testing.assert_array_equal(ring.submit({"frame": noise(seed)}).result()["mask"], noise(seed))
        assert "refused by the test" in ring.graphs
        ring.close()

    def test_a_ring_per_thread(self, driver: Driver) -> None:
        wrong: list[int] = []

        def work(first: int) -> None:
            ring, _ = self.ring(driver)
            runs = [(seed, ring.submit({"frame": noise(seed)})) for seed in range(first, first + 12)]
            wrong.extend(seed for seed, run in runs if (run.result()["mask"] != noise(seed)).any())
            ring.close()

        threads = [threading.Thread(target=work, args=(100 * index,)) for index in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert not wrong

    def test_many_frames_leave_nothing(self, driver: Driver) -> None:
        ring, _ = self.ring(driver)
        for seed in range(4):
            ring.submit({"frame": noise(seed)}).result()
        before = driver.live
        frame = {"frame": noise(0)}
        for _ in range(300):
            ring.submit(frame).result()
        assert driver.live == before
        ring.close()

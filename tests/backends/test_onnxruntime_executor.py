"""ONNX Runtime on the ring: the real library and a real graph; its CPU provider on the memory of a fake GPU.

The CPU provider computes at once, so its runs are put into the fake GPU's stream as work, and come when that
likes. What a machine without a GPU cannot show is the CUDA provider itself; I/O binding to raw addresses,
shapes, slots, streams and errors are the same code.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import onnxruntime
import pytest
from numpy.typing import NDArray
from session_contract import SessionContract

from pixelrt.backends.base import SessionInfo
from pixelrt.backends.gpu_session import GpuSession, Origin
from pixelrt.backends.onnxruntime_cuda import (
    ONNXRuntimeBinding,
    ONNXRuntimeExecutor,
    Provider,
    cuda_provider,
)
from pixelrt.bundle import Bundle
from pixelrt.cuda.protocol import Driver, Stream
from pixelrt.errors import DeviceError, InputError
from pixelrt.pipeline.options import GpuOptions
from pixelrt.pipeline.streams import Streams
from pixelrt.segmentation import Segmenter
from pixelrt.self_test.tiny import tiny_bundle
from pixelrt.session import open_model
from pixelrt.tensors import Shape, TensorSpec
from pixelrt.testing import FakeCuda
from pixelrt.testing.stream import FakeStream

CPU = Provider("CPUExecutionProvider", {}, "cpu", 0)
INFO = SessionInfo(backend="onnxruntime", device="cuda:0", precision="float32", version="1")


@pytest.fixture
def bundle(make_bundle: Callable[..., Bundle]) -> Bundle:
    """Return a bundle that tells red, green and blue apart."""
    return make_bundle()


class Deferred:
    """A real executor whose runs are work in the stream of a fake GPU."""

    def __init__(self, real: ONNXRuntimeExecutor, cuda: FakeCuda) -> None:
        self.real, self.cuda = real, cuda
        self.inputs, self.outputs = real.inputs, real.outputs
        self.uncapturable, self.largest_batch = real.uncapturable, real.largest_batch

    def binding(self, stream: Stream) -> DeferredBinding:
        return DeferredBinding(self, stream)

    def close(self) -> None:
        self.real.close()


class DeferredBinding:
    """A real binding. What a run reads and writes is told to the GPU, which reports races."""

    def __init__(self, executor: Deferred, stream: Stream) -> None:
        self._executor, self._stream = executor, stream
        self._real: ONNXRuntimeBinding = executor.real.binding(stream)
        self._shapes: dict[str, Shape] = {}
        self._addresses: dict[str, int] = {}

    @property
    def scratch_bytes(self) -> int:
        return self._real.scratch_bytes

    def set_shapes(self, shapes: Mapping[str, Shape]) -> dict[str, Shape]:
        outputs = self._real.set_shapes(shapes)
        self._shapes = {**shapes, **outputs}
        return outputs

    def set_scratch(self, address: int, size_bytes: int) -> None:
        self._real.set_scratch(address, size_bytes)

    def bind(self, addresses: Mapping[str, int]) -> None:
        self._real.bind(addresses)
        self._addresses = dict(addresses)

    def enqueue(self, stream: Stream) -> None:
        assert stream is self._stream
        assert isinstance(stream, FakeStream)
        assert self._executor.cuda.is_current
        real, specs = self._real, self._executor
        stream.run(
            lambda: real.enqueue(stream),
            label="run",
            reads=tuple(self._range(spec) for spec in specs.inputs),
            writes=tuple(self._range(spec) for spec in specs.outputs),
        )

    def _range(self, spec: TensorSpec) -> tuple[int, int]:
        size = int(np.prod(self._shapes[spec.name])) * spec.dtype.itemsize
        return self._addresses[spec.name], size

    def close(self) -> None:
        self._real.close()


ORDERS: dict[str, dict[str, Any]] = {
    "lazy": {"order": "lazy"},
    "eager": {"order": "eager"},
    "random": {"order": "random", "seed": 7},
    "random on a Jetson": {"order": "random", "seed": 8, "integrated": True},
}


@pytest.fixture(params=ORDERS)
def cuda(request: pytest.FixtureRequest) -> FakeCuda:
    """Return a GPU that does its work when it likes."""
    return FakeCuda(**ORDERS[request.param])


def open_session(bundle: Bundle, cuda: FakeCuda, **options: Any) -> GpuSession:
    model = bundle.read(bundle.model)

    def make(driver: Driver, streams: Streams) -> Deferred:
        return Deferred(ONNXRuntimeExecutor(onnxruntime, model, bundle.manifest, CPU), cuda)

    return GpuSession(bundle.manifest, INFO, Origin.of(cuda, make, GpuOptions(**options)))


def noise(size: tuple[int, int], seed: int, batch: int = 1) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (batch, *size, 3), np.uint8)


class TestSession:
    def test_agrees_with_the_plain_session(self, bundle: Bundle, cuda: FakeCuda) -> None:
        """The same graph, run at once on our memory, at sizes that the graph resizes."""
        import cv2

        plain = open_model(
            bundle.read(bundle.model), bundle.manifest, backend="onnxruntime", precision="float32"
        )
        with open_session(bundle, cuda, slots=3) as session:
            assert session.inputs[0].fixed_size is None
            for seed, size in enumerate([(32, 48), (64, 96), (32, 48), (50, 70), (64, 96)]):
                frame = noise(size, seed)
                found = session.run({"frame": frame})
                resized = cv2.resize(frame[0], (48, 32), interpolation=cv2.INTER_LINEAR)
                expected = plain.run({"frame": resized[np.newaxis]})
                assert found.keys() == expected.keys()
                assert (found["mask"] == expected["mask"]).mean() > 0.97  # OpenCV rounds to bytes
                if size == (32, 48):
                    np.testing.assert_array_equal(found["mask"], expected["mask"])
                    np.testing.assert_allclose(found["grid"], expected["grid"], atol=1e-5)
                    np.testing.assert_allclose(found["logits"], expected["logits"], atol=1e-4)

    def test_batches_and_tickets(self, bundle: Bundle, cuda: FakeCuda) -> None:
        with open_session(bundle, cuda) as session:
            frames = noise((32, 48), 1, batch=3)
            together = session.run({"frame": frames})
            tickets = [session.submit({"frame": frames[i : i + 1]}) for i in range(3)]
            for index, ticket in enumerate(tickets):
                np.testing.assert_array_equal(ticket.result()["mask"][0], together["mask"][index])
                assert ticket.done
                assert ticket.times is not None

    def test_frames_out_of_range_are_refused_as_by_an_engine(self, bundle: Bundle, cuda: FakeCuda) -> None:
        height = bundle.manifest.axes["height"]
        with open_session(bundle, cuda) as session:
            with pytest.raises(
                InputError, match=f"height of the frame is {height.max + 1}, the bundle takes"
            ):
                session.run({"frame": np.zeros((1, height.max + 1, 48, 3), np.uint8)})
            assert session.run({"frame": noise((32, 48), 2)})["mask"].shape == (1, 32, 48)

    def test_clone_in_another_thread(self, bundle: Bundle, cuda: FakeCuda) -> None:
        with open_session(bundle, cuda) as session:
            clone = session.clone()
            frame = {"frame": noise((32, 48), 3)}
            first = session.run(frame)["mask"]
            session.close()
            np.testing.assert_array_equal(clone.run(frame)["mask"], first)
            clone.close()
        assert not any(cuda.live.values())

    def test_a_damaged_model_frees_what_was_taken(self, bundle: Bundle) -> None:
        cuda = FakeCuda()

        def make(driver: Driver, streams: Streams) -> ONNXRuntimeExecutor:
            return ONNXRuntimeExecutor(onnxruntime, b"no onnx", bundle.manifest, CPU)

        with pytest.raises(DeviceError, match="cannot load the model"):
            GpuSession(bundle.manifest, INFO, Origin.of(cuda, make, GpuOptions()))
        assert not any(cuda.live.values())

    @pytest.mark.filterwarnings("ignore:Specified provider:UserWarning")
    def test_a_provider_that_falls_back_is_refused(self, bundle: Bundle) -> None:
        """ONNX Runtime itself would run on the CPU, and say so in a warning at best."""
        cuda = FakeCuda()
        with (
            pytest.raises(
                DeviceError, match="could not start its CUDAExecutionProvider and would run on CPU"
            ),
            cuda.stream() as stream,
        ):
            ONNXRuntimeExecutor(
                onnxruntime, bundle.read(bundle.model), bundle.manifest, cuda_provider(0, stream)
            )


class TestSegmenter:
    @pytest.mark.parametrize("color", ["rgb", "bgr"])
    def test_frames_in_masks_out(self, bundle: Bundle, color: str, cuda: FakeCuda) -> None:
        segmenter = Segmenter(bundle, open_session(bundle, cuda), color)  # type: ignore[arg-type]
        frame = np.zeros((60, 90, 3), np.uint8)
        frame[:, :45, 0] = 255
        frame[:, 45:, 2] = 255
        left, right = (0, 2) if color == "rgb" else (2, 0)
        with segmenter:
            result = segmenter(frame)
            assert result.mask is not None
            assert (result.mask[:, 1:22] == left).all()
            assert (result.mask[:, 26:-1] == right).all()
            assert result.frame_size == (60, 90)
            assert result.latency.gpu is not None
            assert result.latency.total_ms >= result.latency.network_ms

    def test_submit_overlaps_and_keeps_the_order(self, bundle: Bundle, cuda: FakeCuda) -> None:
        frames = [np.roll(np.eye(3, dtype=np.uint8)[np.arange(48) // 16] * 255, 16 * i, 0) for i in range(6)]
        frames = [np.broadcast_to(row, (32, 48, 3)).copy() for row in frames]
        with Segmenter(bundle, open_session(bundle, cuda, slots=2)) as segmenter:
            alone = [segmenter(frame).mask for frame in frames]
            tickets = [segmenter.submit(frame) for frame in frames]
            for ticket, expected in zip(tickets, alone, strict=True):
                np.testing.assert_array_equal(ticket.result().mask, expected)
                assert ticket.result() is ticket.result()

    def test_results_stay_on_the_gpu(self, bundle: Bundle, cuda: FakeCuda) -> None:
        frame = noise((32, 48), 5)[0]
        with Segmenter(bundle, open_session(bundle, cuda)) as segmenter:
            expected = segmenter(frame).mask
            kept = segmenter.submit(frame, on_device=True).result()
            segmenter(noise((32, 48), 6)[0])
            assert kept.mask is None
            assert kept.device_mask is not None
            assert kept.device_mask.shape == (32, 48)
            np.testing.assert_array_equal(kept.device_mask.to_host(), expected)
            with pytest.raises(InputError, match="to_host"):
                kept.colorize()
            assert "device_mask" in repr(kept)

    def test_frame_buffers_are_page_locked(self, bundle: Bundle, cuda: FakeCuda) -> None:
        with Segmenter(bundle, open_session(bundle, cuda)) as segmenter:
            before = cuda.live["host memory"]
            buffer = segmenter.frame_buffer((32, 48))
            assert cuda.live["host memory"] == before + 1
            buffer[:] = noise((32, 48), 7)[0]
            np.testing.assert_array_equal(segmenter(buffer).mask, segmenter(buffer.copy()).mask)
            with pytest.raises(InputError, match="size"):
                segmenter.frame_buffer((0, 48))

    def test_frames_on_the_gpu(self, bundle: Bundle, cuda: FakeCuda) -> None:
        frame = noise((32, 48), 8)[0]
        memory = cuda.allocate(frame.nbytes)
        cuda.view(memory.address, frame.nbytes)[:] = frame.ravel()

        class OnGpu:
            shape = frame.shape

            @property
            def __cuda_array_interface__(self) -> dict[str, Any]:
                where = (memory.address, False)
                return {"shape": frame.shape, "typestr": "|u1", "data": where, "version": 3}

        with Segmenter(bundle, open_session(bundle, cuda)) as segmenter:
            expected = segmenter(frame).mask
            np.testing.assert_array_equal(segmenter(OnGpu()).mask, expected)
            batch = segmenter.batch([frame, OnGpu(), frame])  # type: ignore[list-item]
            for result in batch:
                np.testing.assert_array_equal(result.mask, expected)
        swapped = Segmenter(bundle, open_session(bundle, cuda), "bgr")
        with swapped, pytest.raises(InputError, match="reorder its channels there"):
            swapped(OnGpu())

    def test_a_clone_is_for_another_thread(self, bundle: Bundle, cuda: FakeCuda) -> None:
        segmenter = Segmenter(bundle, open_session(bundle, cuda), "bgr")
        with segmenter, segmenter.clone() as clone:
            frame = noise((32, 48), 9)[0]
            np.testing.assert_array_equal(clone(frame).mask, segmenter(frame).mask)

    def test_warns_of_nothing(self, bundle: Bundle, caplog: pytest.LogCaptureFixture, cuda: FakeCuda) -> None:
        segmenter = Segmenter(bundle, open_session(bundle, cuda))
        with caplog.at_level(logging.WARNING), segmenter:
            for seed in range(5):
                segmenter(noise((32, 48), seed)[0])
        assert not caplog.records


class OnTheRing(SessionContract):
    """The contract of GPU sessions, with the network of the self-test."""

    num_frames = 200
    why_no_graphs = "frees memory in callbacks"
    order: dict[str, Any]

    def open(self, **options: Any) -> Segmenter:
        bundle = tiny_bundle()
        return Segmenter(bundle, open_session(bundle, FakeCuda(**self.order), **options))

    def test_says_what_runs(self, segmenter: Segmenter) -> None:
        assert segmenter.session.info is INFO


class TestContractLazily(OnTheRing):
    order = ORDERS["lazy"]


class TestContractAtOnce(OnTheRing):
    order = ORDERS["eager"]


class TestContractAtRandomOnAJetson(OnTheRing):
    order = ORDERS["random on a Jetson"]

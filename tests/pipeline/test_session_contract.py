"""The contract of GPU sessions on a fake GPU: the network itself is computed by ONNX Runtime."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any, ClassVar

import onnxruntime
import pytest
from numpy.typing import NDArray
from session_contract import FRAMES, SessionContract

from pixelrt.backends.base import SessionInfo
from pixelrt.backends.gpu_session import GpuSession, Origin
from pixelrt.cuda.protocol import Driver
from pixelrt.errors import OutOfMemory
from pixelrt.pipeline.executor import Executor
from pixelrt.pipeline.options import GpuOptions
from pixelrt.pipeline.streams import Streams
from pixelrt.segmentation import Segmenter
from pixelrt.self_test.session_checks import driver_of
from pixelrt.self_test.tiny import tiny_bundle
from pixelrt.tensors import TensorSpec
from pixelrt.testing import FakeCuda, FakeExecutor, FakeNetwork

INFO = SessionInfo(backend="fake", device="cuda:0", precision="float16", version="1", gpu="fake GPU")


@functools.cache
def network() -> Any:
    bundle = tiny_bundle()
    return onnxruntime.InferenceSession(bundle.read(bundle.model), providers=["CPUExecutionProvider"])


def compute(arrays: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    names = [output.name for output in network().get_outputs()]
    return dict(zip(names, network().run(names, dict(arrays)), strict=True))


class OnAFake(SessionContract):
    num_frames = 300
    cuda: ClassVar[Mapping[str, Any]] = {}
    network = FakeNetwork(
        scratch_bytes=4096, ranges={name: (16 if name != "batch" else 1, 256) for name in ("height", "width")}
    )
    memory_bytes = 8 << 30

    def open(self, **options: Any) -> Segmenter:
        bundle = tiny_bundle()
        cuda = FakeCuda(**{"memory_bytes": self.memory_bytes, **self.cuda})
        inputs, outputs = (
            tuple(map(TensorSpec.of, tensors))
            for tensors in (bundle.manifest.inputs, bundle.manifest.outputs)
        )

        def make(driver: Driver, streams: Streams) -> Executor:
            return FakeExecutor(cuda, inputs, outputs, compute, self.network)

        origin = Origin.of(cuda, make, GpuOptions(**options))
        session = GpuSession(bundle.manifest, INFO, origin)
        return Segmenter(bundle, session)

    def test_no_memory(self) -> None:
        self.memory_bytes = 1 << 10
        with self.open() as segmenter:
            driver = driver_of(segmenter)
            assert driver is not None
            for _ in range(3):
                with pytest.raises(OutOfMemory):
                    segmenter(FRAMES[0])
            assert driver.memory()[0] > 0
        assert not any(driver.live.values())


class TestLazily(OnAFake):
    cuda: ClassVar[Mapping[str, Any]] = {"order": "lazy"}


class TestAtOnce(OnAFake):
    cuda: ClassVar[Mapping[str, Any]] = {"order": "eager"}


class TestAtRandomOnAJetson(OnAFake):
    cuda: ClassVar[Mapping[str, Any]] = {"order": "random", "seed": 3, "integrated": True}


class TestWithoutGraphs(OnAFake):
    cuda: ClassVar[Mapping[str, Any]] = {"captures_graphs": False}

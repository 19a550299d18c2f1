"""The contract of generators on the CPU, and on a fake GPU."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import onnxruntime
from generator_contract import GeneratorContract, GpuGeneratorContract, bundles, opened
from numpy.typing import NDArray

import pixelrt
from pixelrt import Generator
from pixelrt.backends.base import SessionInfo
from pixelrt.backends.gpu_session import GpuSession, Origin
from pixelrt.bundle import Bundle
from pixelrt.cuda.protocol import Driver
from pixelrt.pipeline.executor import Executor
from pixelrt.pipeline.options import GpuOptions
from pixelrt.pipeline.streams import Streams
from pixelrt.tensors import TensorSpec
from pixelrt.testing import FakeCuda, FakeExecutor, FakeNetwork

__all__ = ["bundles", "opened"]  # fixtures


class OnTheCpu(GeneratorContract):
    backend: str

    def open(self, bundle: Bundle) -> Generator:
        return pixelrt.load(
            bundle, task="generation", device="cpu", backend=self.backend, precision="float32"
        )


class TestOpenVINO(OnTheCpu):
    backend = "openvino"


class TestONNXRuntime(OnTheCpu):
    backend = "onnxruntime"


class OnAFake(GpuGeneratorContract):
    """The ring, with the network computed by ONNX Runtime."""

    cuda: ClassVar[Mapping[str, Any]] = {}
    options = GpuOptions(slots=2)

    def open(self, bundle: Bundle) -> Generator:
        return self.open_on(FakeCuda(**self.cuda), bundle)

    def open_two(self, first: Bundle, second: Bundle) -> tuple[Generator, Generator]:
        cuda = FakeCuda(**self.cuda)
        return self.open_on(cuda, first), self.open_on(cuda, second)

    def open_on(self, cuda: FakeCuda, bundle: Bundle) -> Generator:
        loaded = onnxruntime.InferenceSession(bundle.read(bundle.model), providers=["CPUExecutionProvider"])
        inputs, outputs = (
            tuple(map(TensorSpec.of, tensors))
            for tensors in (bundle.manifest.inputs, bundle.manifest.outputs)
        )
        axes = bundle.manifest.axes
        network = FakeNetwork(ranges={name: (1, axis.max) for name, axis in axes.items()}, scratch_bytes=4096)

        def compute(arrays: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
            (images,) = loaded.run(["generated"], dict(arrays))
            return {"generated": images}

        def make(driver: Driver, streams: Streams) -> Executor:
            return FakeExecutor(cuda, inputs, outputs, compute, network)

        info = SessionInfo(backend="fake", device="cuda:0", precision="float32", version="1", gpu="fake GPU")
        return Generator(bundle, GpuSession(bundle.manifest, info, Origin.of(cuda, make, self.options)))


class TestLazily(OnAFake):
    cuda: ClassVar[Mapping[str, Any]] = {"order": "lazy"}


class TestAtRandomOnAJetson(OnAFake):
    cuda: ClassVar[Mapping[str, Any]] = {"order": "random", "seed": 3, "integrated": True}

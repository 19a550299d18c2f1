"""ONNX Runtime: the portable ONNX on NVIDIA GPUs without TensorRT, and on machines without OpenVINO."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pixelrt.backends.base import (
    TYPED_AS,
    Device,
    LocalSession,
    OpenOptions,
    Precision,
    Session,
    SessionInfo,
)
from pixelrt.backends.gpu_session import GpuSession, Origin
from pixelrt.backends.onnxruntime_cuda import ONNXRuntimeExecutor, cuda_provider, provider_problem
from pixelrt.backends.onnxruntime_errors import failures
from pixelrt.bundle import Bundle
from pixelrt.cuda.opening import open_driver, unavailable
from pixelrt.cuda.protocol import Driver
from pixelrt.dependency import require
from pixelrt.errors import DeviceError, MissingDependency
from pixelrt.manifest import Manifest
from pixelrt.pipeline.executor import Executor
from pixelrt.pipeline.streams import Streams

ReadModel = Callable[[], bytes]
"""Reads the ONNX: for a clone once more, so that no session keeps it in memory."""

_CUDA = "CUDAExecutionProvider"


class ONNXRuntimeBackend:
    """On a GPU it computes in the types of the graph.

    On the CPU it computes in float32 whatever type the ONNX has, and of an FP16 graph the weights alone are
    rounded: its CPU provider leaves out the casts between half-precision layers (measured with 1.32).
    """

    name = "onnxruntime"

    def unusable(self, device: Device, options: OpenOptions | None = None) -> str:
        """Why it cannot run on this device; see `Backend`."""
        index, driver = (options.device_index, options.gpu.driver) if options else (0, None)
        if device == "cuda" and (reason := unavailable(driver, index)):
            return reason
        try:
            library = _library()
        except MissingDependency as problem:
            return str(problem)
        if device == "cpu":
            return ""
        if _CUDA not in library.get_available_providers():
            return (
                f"ONNX Runtime {library.__version__} here has no CUDA provider; in its place: "
                "pip uninstall onnxruntime && pip install onnxruntime-gpu"
            )
        return provider_problem(library, index)

    def unsuited(self, bundle: Bundle, options: OpenOptions) -> str:
        """It runs every bundle; see `Backend`."""
        return ""

    def precisions(self, device: Device, manifest: Manifest | None) -> tuple[Precision, ...]:
        """The types of the graph on a GPU, float32 on the CPU; see `Backend`."""
        if device == "cpu":
            return ("float32",)
        return ("float16",) if manifest is None else (TYPED_AS[manifest.precision.requested],)

    def open(self, bundle: Bundle, options: OpenOptions) -> Session:
        """Load the portable ONNX; see `Backend`."""
        return _open(functools.partial(bundle.read, bundle.model), bundle.manifest, options)

    def open_model(self, model: bytes, manifest: Manifest, options: OpenOptions) -> Session:
        """Load the graph; see `Backend`."""
        return _open(lambda: model, manifest, options)


class ONNXRuntimeSession(LocalSession):
    """An inference session on the CPU provider, at the network's size."""

    def __init__(self, manifest: Manifest, info: SessionInfo, loaded: Any) -> None:
        # Frames at the network's size: converting a whole 720p frame to float in the graph takes longer.
        super().__init__(manifest, info, manifest.network_sizes)
        self._manifest = manifest
        self._session: Any = loaded

    def clone(self) -> ONNXRuntimeSession:
        """Another session of the same graph, which several threads may run; see `Session.clone`."""
        with self._alone(cloning=True):
            return ONNXRuntimeSession(self._manifest, self.info, self._session)

    def _run(self, feeds: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        contiguous = {name: np.ascontiguousarray(value) for name, value in feeds.items()}
        try:
            values = self._session.run(self._output_names, contiguous)
        except failures(_library()) as problem:
            raise DeviceError(f"ONNX Runtime failed while running: {str(problem).strip()}") from problem
        return dict(zip(self._output_names, values, strict=True))

    def _free(self) -> None:
        self._session = None


def _open(read_model: ReadModel, manifest: Manifest, options: OpenOptions) -> Session:
    if options.device == "cpu":
        return _open_cpu(read_model(), manifest, options)
    return _open_cuda(read_model, manifest, options)


def _open_cpu(model: bytes, manifest: Manifest, options: OpenOptions) -> ONNXRuntimeSession:
    library = _library()
    settings = library.SessionOptions()
    settings.log_severity_level = 3
    if options.threads is not None:
        settings.intra_op_num_threads = options.threads
    try:
        loaded = library.InferenceSession(model, settings, providers=["CPUExecutionProvider"])
    except failures(library) as problem:
        raise DeviceError(
            f"ONNX Runtime {library.__version__} cannot load the model: {str(problem).strip()}; "
            "try backend='openvino'"
        ) from problem
    return ONNXRuntimeSession(manifest, _info(library, options, "cpu"), loaded)


def _open_cuda(read_model: ReadModel, manifest: Manifest, options: OpenOptions) -> GpuSession:
    library = _library()
    driver = open_driver(options.gpu.driver, options.device_index)
    info = _info(library, options, f"cuda:{options.device_index}", driver)

    def make(driver: Driver, streams: Streams) -> Executor:
        provider = cuda_provider(driver.device.index, streams.compute)
        return ONNXRuntimeExecutor(library, read_model(), manifest, provider)

    return GpuSession(manifest, info, Origin.of(driver, make, options.gpu))


def _info(
    library: ModuleType, options: OpenOptions, device: str, driver: Driver | None = None
) -> SessionInfo:
    return SessionInfo(
        backend="onnxruntime",
        device=device,
        precision=options.precision,
        version=library.__version__,
        why=options.why,
        gpu=driver.device.name if driver else "",
        driver=f"{driver.name} {driver.version}" if driver else "",
    )


def _library() -> ModuleType:
    return require("onnxruntime", "onnxruntime", "running the portable ONNX")

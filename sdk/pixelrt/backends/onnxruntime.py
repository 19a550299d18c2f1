"""ONNX Runtime's CPU provider: for machines without OpenVINO, and a second opinion for the gate."""

from __future__ import annotations

from collections.abc import Mapping
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pixelrt.backends.base import Device, LocalSession, OpenOptions, Precision, Session, SessionInfo
from pixelrt.dependency import require
from pixelrt.errors import DeviceError, MissingDependency
from pixelrt.manifest import Manifest


class ONNXRuntimeBackend:
    """Computes in float32 whatever type the ONNX has; of an FP16 graph, the weights alone are rounded.

    Its CPU provider leaves out the casts between half-precision layers (measured with 1.32).
    """

    name = "onnxruntime"

    def unusable(self, device: Device) -> str:
        """Why it cannot run on this device; see `Backend`."""
        try:
            library = _library()
        except MissingDependency as problem:
            return str(problem)
        if device == "cpu":
            return ""
        if "CUDAExecutionProvider" not in library.get_available_providers():
            return f"ONNX Runtime {library.__version__} here has no CUDA provider"
        return "this version of PixelRT uses ONNX Runtime on the CPU only"

    def precisions(self, device: Device, manifest: Manifest | None) -> tuple[Precision, ...]:
        """Float32; see `Backend`."""
        return ("float32",)

    def open(self, model: bytes, manifest: Manifest, options: OpenOptions) -> Session:
        """Load the graph; see `Backend`."""
        return ONNXRuntimeSession(model, manifest, options)


class ONNXRuntimeSession(LocalSession):
    """An inference session on the CPU provider, at any frame size and batch."""

    def __init__(self, model: bytes, manifest: Manifest, options: OpenOptions) -> None:
        library = _library()
        info = SessionInfo(
            backend="onnxruntime",
            device="cpu",
            precision=options.precision,
            version=library.__version__,
            why=options.why,
        )
        # Frames at the network's size: converting a whole 720p frame to float in the graph takes longer.
        super().__init__(manifest, info, manifest.preprocess.size)
        self._session: Any = _open(library, model, options)
        self._names = [spec.name for spec in self.outputs]

    def _run(self, feeds: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        contiguous = {name: np.ascontiguousarray(value) for name, value in feeds.items()}
        try:
            values = self._session.run(self._names, contiguous)
        except _failures(_library()) as problem:
            raise DeviceError(f"ONNX Runtime failed while running: {str(problem).strip()}") from problem
        return dict(zip(self._names, values, strict=True))

    def _free(self) -> None:
        self._session = None


def _open(library: ModuleType, model: bytes, options: OpenOptions) -> Any:
    settings = library.SessionOptions()
    settings.log_severity_level = 3
    if options.threads is not None:
        settings.intra_op_num_threads = options.threads
    try:
        return library.InferenceSession(model, settings, providers=["CPUExecutionProvider"])
    except _failures(library) as problem:
        raise DeviceError(
            f"ONNX Runtime {library.__version__} cannot load the model: {str(problem).strip()}; "
            "try backend='openvino'"
        ) from problem


def _failures(library: ModuleType) -> tuple[type[Exception], ...]:
    """What ONNX Runtime raises: one class per status code, with no common base of their own."""
    state = library.capi.onnxruntime_pybind11_state
    names = ("Fail", "InvalidArgument", "InvalidGraph", "InvalidProtobuf", "NotImplemented", "NoSuchFile")
    more = ("RuntimeException", "EPFail", "ModelLoaded", "NoModel", "EngineError", "ModelLoadCanceled")
    return tuple(getattr(state, name) for name in (*names, *more) if hasattr(state, name))


def _library() -> ModuleType:
    return require("onnxruntime", "onnxruntime", "running the portable ONNX")

"""What ONNX Runtime raises."""

from __future__ import annotations

from types import ModuleType


def failures(library: ModuleType) -> tuple[type[Exception], ...]:
    """One class per status code, with no common base of their own, and RuntimeError for refused options."""
    state = library.capi.onnxruntime_pybind11_state
    names = ("Fail", "InvalidArgument", "InvalidGraph", "InvalidProtobuf", "NotImplemented", "NoSuchFile")
    more = ("RuntimeException", "EPFail", "ModelLoaded", "NoModel", "EngineError", "ModelLoadCanceled")
    kinds = (getattr(state, name) for name in (*names, *more) if hasattr(state, name))
    return (RuntimeError, *kinds)

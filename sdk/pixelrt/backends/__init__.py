"""The libraries that run networks, one file each."""

from __future__ import annotations

from pixelrt.backends.base import (
    TYPED_AS,
    Backend,
    Device,
    OpenOptions,
    Precision,
    Progress,
    Session,
    SessionInfo,
    Ticket,
)
from pixelrt.backends.onnxruntime import ONNXRuntimeBackend
from pixelrt.backends.openvino import OpenVINOBackend
from pixelrt.backends.tensorrt import TensorRTBackend
from pixelrt.tensors import TensorSpec

BACKENDS: dict[str, Backend] = {
    backend.name: backend for backend in (TensorRTBackend(), ONNXRuntimeBackend(), OpenVINOBackend())
}
"""By name. None of them imports its library before it is asked to work."""

__all__ = [
    "BACKENDS",
    "TYPED_AS",
    "Backend",
    "Device",
    "OpenOptions",
    "Precision",
    "Progress",
    "Session",
    "SessionInfo",
    "TensorSpec",
    "Ticket",
]
